"""The loggers of a run, each behind a guard: one that fails never stops the run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from fnn.training.keeper import Stopped
from fnn.training.loggers.interface import Logger, Record, RunInfo
from fnn.training.meter import DivergedError


class LoggerWarning(UserWarning):
    """A logger failed, and is not called again."""


class Loggers:
    """All loggers of a run, as a context around it: they begin with it and they end with it, however it ends.

    Args:
        loggers: By the names that warnings say.
        run: What they are told at the beginning.

    Warns:
        LoggerWarning: A logger raised an exception; once each, for that logger is not called again.
    """

    def __init__(self, loggers: Mapping[str, Logger], run: RunInfo) -> None:
        self.loggers, self.run = dict(loggers), run
        self.last: Record = {"step": run.step, "epoch": 0}
        self.ended = False

    def __enter__(self) -> Self:
        self._tell("begin", self.run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.ended:
            return
        status = "diverged" if issubclass(kind, DivergedError) else "failed"
        if issubclass(kind, Stopped) or not issubclass(kind, Exception):  # Ctrl-C
            status = "interrupted"
        self.end({"status": status, "step": self.last["step"], "epoch": self.last["epoch"]})

    def record(self, record: Record) -> None:
        """Give a point of the log to all."""
        self.last = record
        self._tell("record", record)

    def end(self, summary: Record) -> None:
        """Tell all that the run is over, and how."""
        self.ended = True
        self._tell("end", summary)

    def before(self, on_log: Callable[[Record], None] | None) -> Callable[[Record], None]:
        """A listener that gives a record to all loggers, and then to another listener if there is one."""

        def listen(record: Record) -> None:
            self.record(record)
            if on_log is not None:
                on_log(record)

        return listen

    def _tell(self, call: str, what: Any) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                getattr(logger, call)(copy.deepcopy(what))  # a logger may change what it is given
            except Exception as error:
                del self.loggers[name]
                said = " ".join(f"{type(error).__name__}: {error}".split())
                text = f"the logger {name} failed and is not called again, the run goes on; {call}: {said}"
                warnings.warn(text, LoggerWarning, stacklevel=4)  # at the run's code, whatever the call
