"""What a run shows on the terminal."""

from __future__ import annotations

import math
import sys
import textwrap
import time
from collections.abc import Iterable
from itertools import zip_longest
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from fnn.training import Progress

_SELDOM = 5.0  # seconds between lines where there is no terminal to draw a bar on


class TrainingBar:
    """A bar with loss, metrics and examples/s; without a terminal a line now and then.

    Both go to standard error, so that standard output holds the result alone.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task: Any = None
        self.printed = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.__enter__()
        self.task = self.bar.add_task("", total=None, epoch="", figures="compiling")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def __call__(self, progress: Progress) -> None:
        """Show how far the run is."""
        speed = f"{progress.examples_per_second:,.0f} examples/s"
        text = f"{figures(progress.figures)}  {speed}"
        epoch = f"epoch {progress.epoch}/{progress.epochs}"
        self.bar.update(self.task, completed=progress.step, total=progress.steps, epoch=epoch, figures=text)
        last = progress.step == progress.steps
        if not self.console.is_terminal and (last or time.monotonic() - self.printed > _SELDOM):
            self.printed = time.monotonic()
            print(f"{epoch}  step {progress.step}/{progress.steps}  {text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class PictureBar:
    """A bar of pictures that are done, on standard error; without a terminal nothing.

    Args:
        pictures: How many there are.
        shown: Whether there is to be a bar at all.
    """

    def __init__(self, pictures: int, shown: bool = True) -> None:
        self.console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.completed}/{task.total} pictures"),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            transient=True,
            redirect_stdout=False,  # to this console, which is standard error
            redirect_stderr=False,
        )
        self.task = self.bar.add_task("", total=pictures)

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def __call__(self, done: int) -> None:
        """Show how many are done."""
        self.bar.update(self.task, completed=done)

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def figures(values: dict[str, Any]) -> str:
    """Loss and metrics in one line; accuracies in percent; tables left out.

    Example:
        >>> figures({"loss": 0.25, "accuracy": 0.9917})
        'loss 0.2500  accuracy 99.17 %'
    """
    return "  ".join(
        f"{name} {100 * value:.2f} %" if name in ("accuracy", "top_k") else f"{name} {value:.4f}"
        for name, value in values.items()
        if isinstance(value, float)
    )


def rounded(value: float) -> str:
    """Three significant digits, or every digit before the point.

    Example:
        >>> rounded(0.041237), rounded(8.0), rounded(155340.2)
        ('0.0412', '8.00', '155,340')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def rows(pairs: Iterable[tuple[str, str]], width: int = 80) -> str:
    """A label and a text a row. A long text goes on below itself; a word, such as a path, stays whole.

    Example:
        >>> print(rows([("device", "cpu"), ("kernels", "xla: no native part yet")], width=24))
        device   cpu
        kernels  xla: no native
                 part yet
    """
    pairs = list(pairs)
    indent = max(len(label) for label, _ in pairs) + 2
    wrap = textwrap.TextWrapper(width - indent, break_long_words=False, break_on_hyphens=False)
    lines = []
    for label, text in pairs:
        wrapped = [part for line in text.splitlines() for part in wrap.wrap(line)]
        lines += [f"{head:<{indent}}{line}" for head, line in zip_longest([label], wrapped, fillvalue="")]
    return "\n".join(line.rstrip() for line in lines)
