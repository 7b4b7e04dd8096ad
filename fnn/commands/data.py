"""Download a published data set, or check the one on disk."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from fnn.data import Download, data_roots, download, verify


def get(name: str, to: Path | None = None) -> str:
    """Download a set, with a bar on a terminal; what was done and how the set is used, a line each.

    Raises:
        DataError: As in `fnn.data.download`.
    """
    with DownloadBar() as bar:
        done = download(name, to, bar)
    count = f"{len(done.fetched)} downloaded, {len(done.kept)} already there"
    return f"{name}: {count}, in {done.folder.absolute()}\n{_use(name, done)}"


def check(name: str) -> str:
    """Compare a set on disk with its known checksums; a line that says where it is.

    Raises:
        DataError: As in `fnn.data.verify`.
    """
    return f"{name}: every file is as published, in {verify(name).absolute()}"


def _use(name: str, done: Download) -> str:
    if name != "mnist":
        return f"use it by data.source=idx data.path={done.folder.absolute()}"
    root = done.folder.parent
    if root.absolute() in [known.absolute() for known in data_roots()]:
        return "use it by data.source=mnist"
    return f"use it by FNN_DATA={root.absolute()}, or data.source=mnist data.path={done.folder.absolute()}"


class DownloadBar:
    """A bar for each file on standard error; without a terminal nothing."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.bar = Bar(*columns, console=console, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def __call__(self, file: str, count: int, size: int) -> None:
        """Show how much of a file has come."""
        if file not in self.tasks:
            self.tasks[file] = self.bar.add_task(file, total=size)
        self.bar.update(self.tasks[file], completed=count)
