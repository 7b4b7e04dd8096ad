"""What a logger is: three calls, and what a run tells it at the first."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fnn.training.folder import LOGGERS, write_whole

Record = dict[str, Any]


@dataclass(frozen=True)
class RunInfo:
    """The run that a logger is told of.

    Attributes:
        name: The folder's, or without one the config file's.
        folder: Where the run writes, or None. A logger keeps its files below it.
        config: The resolved config, plain data.
        step: Steps that are done already; more than 0 if the run goes on from a checkpoint. Records up to it
            were given to the logger before; those after it come again.
    """

    name: str
    folder: Path | None
    config: dict[str, Any]
    step: int = 0

    def recall(self, logger: str) -> str | None:
        """The id under which a logger knows this run, if the run goes on and the logger was there before."""
        return _identities(self.folder).get(logger) if self.step else None

    def remember(self, logger: str, identity: str) -> None:
        """Keep an id for ``recall``; without a folder it is forgotten."""
        if self.folder is not None:
            known = {**_identities(self.folder), logger: identity}
            write_whole(self.folder / LOGGERS, (json.dumps(known, indent=2) + "\n").encode())


def _identities(folder: Path | None) -> dict[str, str]:
    file = None if folder is None else folder / LOGGERS
    known: dict[str, str] = json.loads(file.read_text("utf-8")) if file is not None and file.exists() else {}
    return known


@runtime_checkable
class Logger(Protocol):
    """Gets a run's log while it is made, in the training's own thread.

    First ``begin``, once, before anything is compiled; then ``record``, for each line of ``metrics.jsonl``
    after it was written; last ``end``, once, with what ``summary.json`` says. Of a run that ended early it
    says ``status`` (``diverged``, ``interrupted``, ``failed``), ``step`` and ``epoch`` alone.

    What it is given is its own to change. An exception in any call becomes one warning, and the logger is not
    called again: the run goes on, and no bit of it depends on a logger. The run waits for each call, though,
    and for good for one that does not return: a logger that waits for something must set itself a limit.

    Example:
        In a module that ``--import`` names; a config then says ``log: [{printed: {digits: 2}}]``.

        >>> import fnn
        >>> @fnn.register(group="logger")
        ... class printed:
        ...     def __init__(self, digits: int = 4):
        ...         self.digits = digits
        ...     def begin(self, run):
        ...         print(run.name, "from step", run.step)
        ...     def record(self, record):
        ...         print(record["step"], record["split"], f"{record['loss']:.{self.digits}f}")
        ...     def end(self, summary):
        ...         print(summary["status"])
        >>> isinstance(printed(), Logger)
        True
    """

    def begin(self, run: RunInfo) -> None:
        """The run begins, or goes on from ``run.step``."""

    def record(self, record: Record) -> None:
        """A point of the log: ``step``, ``epoch``, ``split``, and figures by their names."""

    def end(self, summary: Record) -> None:
        """The run is over."""


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record, by split and name; what is no number (a table, a text) is left out.

    Numbers that are not finite stay: they are what happened.

    Example:
        >>> scalars({"step": 3, "split": "train", "loss": 0.5, "confusion": [[1, 0], [0, 1]]})
        {'train/loss': 0.5}
    """
    return {
        f"{record['split']}/{name}": float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, Real) and not isinstance(value, bool)
    }


def outcome(summary: Record) -> tuple[dict[str, float], dict[str, Any]]:
    """Of a summary, the figures of the test part as ``scalars``, and what else is a number or a text.

    Example:
        >>> outcome({"status": "completed", "step": 9, "test": {"loss": 0.5}, "seconds": {"total": 1.0}})
        ({'test/loss': 0.5}, {'status': 'completed', 'step': 9})
    """
    figures = scalars({"split": "test", **summary.get("test", {})})
    return figures, {name: value for name, value in summary.items() if isinstance(value, (Real, str))}


def require(library: str, extra: str) -> None:
    """Check, without importing it, that a library is installed.

    Raises:
        ValueError: It is not; the message says what installs it.

    Example:
        >>> require("no_such_library", "tensorboard")
        Traceback (most recent call last):
        ValueError: tensorboard needs the library no_such_library: pip install 'fnn[tensorboard]'
    """
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:  # a mere folder of that name, as wandb leaves one, has no origin
        raise ValueError(f"{extra} needs the library {library}: pip install 'fnn[{extra}]'")
