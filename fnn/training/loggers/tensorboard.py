"""TensorBoard: event files, by tensorboardX."""

from __future__ import annotations

import socket
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from fnn.registry import register
from fnn.training.folder import TENSORBOARD
from fnn.training.loggers.interface import Logger, Record, RunInfo, outcome, require, scalars

FLUSH = 2.0
"""Seconds between two flushes of the file, at least: each waits for the disk."""


@register(group="logger")
def tensorboard() -> Logger:
    """Event files for TensorBoard in the run's folder, in ``tensorboard/``.

    ``tensorboard --logdir runs`` shows every run below ``runs``. A run without a folder has none: one warning
    says so. If a run goes on from a checkpoint, what was logged after that is hidden.

    Raises:
        ValueError: tensorboardX is not installed.
    """
    require("tensorboardX", "tensorboard")
    return TensorBoard()


class TensorBoard:
    """Writes events itself, one a record, in the training's thread.

    tensorboardX's own ``SummaryWriter`` hands them to a thread of its own; when that one dies, of a full disk
    for example, the next call waits for it forever.
    """

    def begin(self, run: RunInfo) -> None:
        """Begin a file; a run that begins anew takes away those of the run before."""
        if run.folder is None:
            raise ValueError("expected a run with a folder, for the files to lie in")
        self.make: Any = import_module("tensorboardX.proto.event_pb2")
        self.summary: Any = import_module("tensorboardX.proto.summary_pb2").Summary
        folder = run.folder / TENSORBOARD
        folder.mkdir(exist_ok=True)
        if not run.step:
            _empty(folder)
        # TensorBoard reads the files of a folder in the order of their names
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self.file: Any = import_module("tensorboardX").RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        if run.step:
            start = self.make.SessionLog(status=self.make.SessionLog.START)
            self._write(step=run.step + 1, session_log=start)  # hides earlier events from this step on
        self._flush()

    def record(self, record: Record) -> None:
        """Add an event with all numbers of a record."""
        self._add(record["step"], scalars(record))

    def end(self, summary: Record) -> None:
        """Add the figures of the test part, and close the file."""
        self._add(summary["step"], outcome(summary)[0])
        self._flush()
        self.file.close()

    def _add(self, step: int, figures: dict[str, float]) -> None:
        values = [self.summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        if values:
            self._write(step=step, summary=self.summary(value=values))
        if time.monotonic() - self.flushed > FLUSH:
            self._flush()

    def _write(self, **content: Any) -> None:
        self.file.write(self.make.Event(wall_time=time.time(), **content).SerializeToString())

    def _flush(self) -> None:
        self.file.flush()
        self.flushed = time.monotonic()


def _empty(folder: Path) -> None:
    for file in folder.glob("events.out.tfevents.*"):
        file.unlink()
