"""What the commands share: their arguments, the reading of a config, and errors in one line."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnn.choices import ConfigError
from fnn.table import one_line

if TYPE_CHECKING:
    from fnn.experiment import Experiment

Config = Annotated[Path, typer.Argument(help="a config, such as configs/digits_cnn.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="dotted.key=value, the value in YAML", show_default=False),
]
Import = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="a Python module of your own, with @fnn.register in it"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="write over files that are there")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")]


def read_config(config: Path, overrides: list[str] | None, modules: list[str] | None) -> Experiment:
    """The experiment of a config, of overrides and of the user's own modules."""
    from fnn.experiment import read

    import_modules(modules)
    return read(config, overrides or [])


def import_modules(modules: list[str] | None) -> None:
    """The user's own modules, from where the user is."""
    sys.path.insert(0, str(Path.cwd()))
    for module in modules or []:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError((), f"--import {module}: {error}") from None


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can mend is one line and exit code 2; an interrupted run 130. A warning is a line too."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of Orbax's tasks: a failure is raised, too
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            yield
    except KeyboardInterrupt:
        stop("interrupted", 130)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("RESOURCE_EXHAUSTED"):  # XLA's
            raise
        stop(f"out of memory: {error}; a smaller batch (train.batch_size, --batch-size) takes less", 2)
    except (ValueError, ArithmeticError) as error:
        if not type(error).__module__.startswith("fnn."):
            raise
        stop(str(error), 1 if isinstance(error, ArithmeticError) else 2)


def _show(message: Warning | str, *place: Any, **more: Any) -> None:
    print(f"warning: {one_line(str(message))}", file=sys.stderr)


def stop(message: str, code: int) -> None:
    """End with an error in one line."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(code)
