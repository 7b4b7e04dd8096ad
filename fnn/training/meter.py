"""The meter: from the steps' logs to the run's records, and how far the run is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fnn.training.step import Recipe

Record = dict[str, Any]

REPORT = 0.5
"""Seconds between two reports of the progress."""


class DivergedError(ArithmeticError):
    """The loss is no finite number any more."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, about twice a second.

    Attributes:
        step, steps: Done, and in all.
        epoch, epochs: The running one, from 1, and how many there are.
        figures: The means since the last logged point: loss, metrics.
        examples_per_second: Since the last report.
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
        self.last: dict[str, Any] = {}

    def read(self, logs: list[Any], seconds: float) -> None:
        """Take the logs of steps that were just done, one after the other, in so many seconds.

        Raises:
            DivergedError: The loss of a step is not finite.
        """
        end = time.perf_counter()
        for i, log in enumerate(logs, start=1):
            self._add(log)
            if self.step % self.log_every == 0 or self.step == self.steps:
                now = end - seconds * (1 - i / len(logs))  # nobody saw when it was; steps take the same time
                self._report(now)
                self.on_log(self._record(now))
        if end - self.reported > REPORT:
            self._report(end)

    def _add(self, log: Any) -> None:
        self.step += 1
        loss = float(log["loss"])
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {self.step}: try a smaller learning rate, or train.clip"
            )
        self.losses.append(loss)
        for name, new in log["metrics"].items():
            old = self.statistics.get(name)
            self.statistics[name] = new if old is None else self.recipe.metrics[name].merge(old, new)
        self.last = log

    def _report(self, now: float) -> None:
        self.on_progress(
            Progress(
                self.step,
                self.steps,
                self._epoch(),
                self.epochs,
                self._figures(),
                self._speed(self.reported_step, now - self.reported),
            )
        )
        self.reported, self.reported_step = now, self.step

    def _record(self, now: float) -> Record:
        """What is logged of the steps since the last record."""
        norms = {name: float(norm) for name, norm in self.last.items() if name not in ("loss", "metrics")}
        record = {
            "step": self.step,
            "epoch": self._epoch(),
            "split": "train",
            **self._figures(),
            **({"learning_rate": float(self.learning_rate(self.step - 1))} if self.learning_rate else {}),
            **norms,
            "examples_per_second": self._speed(self.logged_step, now - self.logged),
            "seconds": now - self.begin,
        }
        self.logged, self.logged_step = now, self.step
        self.losses, self.statistics = [], {}
        return record

    def _epoch(self) -> int:
        return -(-self.step // self.steps_per_epoch)

    def _figures(self) -> dict[str, Any]:
        figures = {n: m.value(self.statistics[n]) for n, m in self.recipe.metrics.items()}
        return {"loss": math.fsum(self.losses) / len(self.losses), **figures}

    def _speed(self, since: int, seconds: float) -> float:
        return (self.step - since) * self.batch / max(seconds, 1e-9)
