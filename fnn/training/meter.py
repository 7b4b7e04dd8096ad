"""The meter: from the steps' logs to the run's records, and how far the run is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fnn.training.snapshot import below, take
from fnn.training.step import SCALARS, Recipe
from fnn.trees import path_text

Record = dict[str, Any]

REPORT = 0.5
"""Seconds between two reports of the progress."""

IN_A_ROW = 10
"""Steps that may be skipped one after the other: with more, nothing is learned any more."""


class DivergedError(ArithmeticError):
    """The loss, the gradient or the update is no finite number any more.

    Attributes:
        step: The first at which it is not.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Progress:
    """How far a run is, about twice a second.

    Attributes:
        step, steps: Done, and in all.
        epoch, epochs: The running one, from 1, and how many there are.
        figures: The means since the last logged point: loss, metrics.
        examples_per_second: Since the last report, less what evaluation took.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    figures: dict[str, Any]
    examples_per_second: float


class Meter:
    """Collects the logs of steps, and tells the listeners.

    Args:
        recipe: Its metrics merge and evaluate the statistics in the logs.
        steps_per_epoch, epochs: How long the run is.
        batch: Examples a step.
        log_every: Steps between two records.
        learning_rate: Of the step's number, for the records.
        on_log: Gets each record.
        on_progress: Gets the progress, about twice a second and with each record.

    Attributes:
        step: Steps done, or left out.
        skipped: Of them, those that changed nothing because something in them was not finite.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        steps_per_epoch: int,
        epochs: int,
        batch: int,
        log_every: int,
        learning_rate: Callable[[int], float] | None,
        on_log: Callable[[Record], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.recipe, self.batch, self.log_every, self.learning_rate = recipe, batch, log_every, learning_rate
        self.steps_per_epoch, self.epochs, self.steps = steps_per_epoch, epochs, steps_per_epoch * epochs
        self.on_log, self.on_progress = on_log, on_progress
        self.step = 0
        self.begin = self.reported = self.logged = time.perf_counter()
        self.reported_step = self.logged_step = 0
        self.losses: list[float] = []
        self.statistics: dict[str, Any] = {}
        self.last: dict[str, float] = {}
        self.skipped = self.in_a_row = 0
        self.restored: dict[str, np.ndarray] = {}

    def seconds(self) -> float:
        """Since the run began, less what lay between its parts."""
        return time.perf_counter() - self.begin

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens in here is none of the steps' time, of which the examples a second are told."""
        begin = time.perf_counter()
        yield
        gone = time.perf_counter() - begin
        self.reported, self.logged = self.reported + gone, self.logged + gone

    def info(self) -> dict[str, Any]:
        """What a checkpoint notes of it, beside the arrays."""
        now = time.perf_counter()
        return {
            "step": self.step,
            "logged_step": self.logged_step,
            "seconds": self.seconds(),
            "since_logged": now - self.logged,
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
            "last": self.last,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """What it holds of the steps since the last record."""
        return take({"losses": np.array(self.losses), "statistics": self.statistics}) if self.losses else {}

    def restore(self, info: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Go on from what a checkpoint noted: the records are those of a run that never stopped."""
        now = time.perf_counter()
        self.step = self.reported_step = info["step"]
        self.logged_step, self.begin, self.logged = info["logged_step"], now - info["seconds"], now
        self.logged -= info["since_logged"]
        self.skipped, self.in_a_row, self.last = info["skipped"], info["in_a_row"], dict(info["last"])
        if "losses" in arrays:
            self.losses = arrays["losses"].tolist()
            self.restored = below("statistics", arrays)

    def read(self, logs: list[Any], seconds: float) -> None:
        """Take the logs of steps that were just done, one after the other, in so many seconds.

        Raises:
            DivergedError: Something in a step is not finite, and such steps are not skipped, or it is one too
                many in a row. The steps after it are not read.
        """
        end = time.perf_counter()
        for i, log in enumerate(logs, start=1):
            self._add(log)
            self.tell(end - seconds * (1 - i / len(logs)))  # nobody saw when it was; steps take the same time
        if end - self.reported > REPORT:
            self._report(end)

    def tell(self, now: float) -> None:
        """Give the record that ends with this step, if one does."""
        if self.step % self.log_every == 0 or self.step == self.steps:
            self._report(now)
            self.on_log(self._record(now))

    def _add(self, log: Any) -> None:
        self.step += 1
        if self.restored:
            self._take_up(log["metrics"])
        bad = next((name for name in SCALARS if name in log and not math.isfinite(log[name])), None)
        if bad is not None:
            self._leave_out(f"the {bad.replace('_', ' ')} is {log[bad]} at step {self.step}")
            return
        self.in_a_row = 0
        self.losses.append(float(log["loss"]))
        for name, new in log["metrics"].items():
            old = self.statistics.get(name)
            self.statistics[name] = new if old is None else self.recipe.metrics[name].merge(old, new)
        self.last = {name: float(log[name]) for name in SCALARS[1:] if name in log}

    def _take_up(self, example: Any) -> None:
        """Give what was restored the form of the metrics; a fork may have others, and then begins anew."""
        restored, self.restored = self.restored, {}
        if restored.keys() == take(example).keys():
            self.statistics = jax.tree_util.tree_map_with_path(
                lambda path, _: restored[path_text(path)], example
            )
        else:
            self.losses = []

    def _leave_out(self, what: str) -> None:
        if not self.recipe.skip:
            raise DivergedError(f"{what}: try a smaller learning rate, or train.clip", self.step)
        if self.in_a_row == IN_A_ROW:
            many = f"{what}, and {IN_A_ROW} steps before it were skipped: nothing is learned"
            raise DivergedError(many, self.step)
        self.skipped += 1
        self.in_a_row += 1

    def _report(self, now: float) -> None:
        self.on_progress(
            Progress(
                self.step,
                self.steps,
                self.epoch,
                self.epochs,
                self._figures(),
                self._speed(self.reported_step, now - self.reported),
            )
        )
        self.reported, self.reported_step = now, self.step

    def _record(self, now: float) -> Record:
        """What is logged of the steps since the last record."""
        record: Record = {
            "step": self.step,
            "epoch": self.epoch,
            "split": "train",
            **self._figures(),
            **({"learning_rate": float(self.learning_rate(self.step - 1))} if self.learning_rate else {}),
            **self.last,
            "examples_per_second": self._speed(self.logged_step, now - self.logged),
            "seconds": now - self.begin,
            **({"skipped": self.skipped} if self.recipe.skip else {}),
        }
        self.logged, self.logged_step = now, self.step
        self.losses, self.statistics = [], {}
        return record

    @property
    def epoch(self) -> int:
        """The running epoch, from 1."""
        return -(-self.step // self.steps_per_epoch)

    def _figures(self) -> dict[str, Any]:
        if not self.losses:  # every step since the last record was skipped
            return {"loss": math.nan}
        figures = {n: m.value(self.statistics[n]) for n, m in self.recipe.metrics.items()}
        return {"loss": math.fsum(self.losses) / len(self.losses), **figures}

    def _speed(self, since: int, seconds: float) -> float:
        return (self.step - since) * self.batch / max(seconds, 1e-9)
