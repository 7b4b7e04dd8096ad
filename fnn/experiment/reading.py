"""An experiment from a config file and overrides."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

from fnn import document
from fnn.choices import ConfigError
from fnn.experiment.schema import Experiment, check
from fnn.layer import Layer
from fnn.optim.catalog import schedules, transformations
from fnn.registry import registry


def read(file: str | FilePath, overrides: Iterable[str] = ()) -> tuple[Experiment, document.Document]:
    """An experiment from a config file and overrides, checked against the schema.

    A relative ``data.path`` in the file is relative to the file; in an override, to the working folder.

    Raises:
        ConfigError: Something in it is wrong; the message says where, what was expected and the nearest name.
    """
    config = document.read(file)
    _make_absolute(config.tree, FilePath(file).parent)
    document.override(config, overrides, _first_argument)
    _make_absolute(config.tree, FilePath.cwd())
    with located(config):
        return check(config.tree), config


@contextmanager
def located(config: document.Document) -> Iterator[None]:
    """Put file and line, or the override, before the message of a ConfigError."""
    try:
        yield
    except ConfigError as error:
        where = config.where(error.path)
        raise ConfigError((), f"{where}: {error}" if where else str(error)) from None


def _make_absolute(tree: dict[str, Any], folder: FilePath) -> None:
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = str((folder / FilePath(data["path"]).expanduser()).resolve())


def _first_argument(name: str) -> str | None:
    """The name of the first argument of whatever a config can name so."""
    for table in (*registry.values(), transformations(), schedules()):
        if name in table and not isinstance(table[name], Layer):
            return next(iter(inspect.signature(table[name]).parameters), None)
    return None
