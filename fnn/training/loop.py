"""The loop: epochs of steps, logged points, evaluation in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data import Dataset, epoch_order
from fnn.layer import Key
from fnn.training.evaluation import evaluate
from fnn.training.step import Recipe, TrainState, make_step

Record = dict[str, Any]


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


@dataclass
class Fit:
    """What a run ended with.

    Attributes:
        train_state: After the last step.
        compile_seconds: For the step's compilation.
        train_seconds: For all steps and evaluations in between.
    """

    train_state: TrainState
    compile_seconds: float
    train_seconds: float


def fit(
    recipe: Recipe,
    train_state: TrainState,
    dataset: Dataset,
    key: Key,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    log_every: int,
    learning_rate: Callable[[int], float] | None = None,
    on_log: Callable[[Record], None] = lambda record: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Fit:
    """Train for a number of epochs, with the data on the device.

    Args:
        recipe: What is trained.
        train_state: Where to begin; its buffers are donated.
        dataset: Its training part is trained on; its validation part is evaluated after each epoch.
        key: The randomness of the steps.
        seed: The order of the examples.
        epochs: Passes over the training part.
        batch_size: Examples a step; a part that is smaller is one batch.
        log_every: Steps between two logged points.
        learning_rate: Of the step's number, for the log.
        on_log: Gets each record of the log.
        on_progress: Gets the progress, about twice a second.

    Raises:
        DivergedError: The loss is not finite.
    """
    inputs, targets = jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.targets)
    order = epoch_order(seed, 0, len(inputs), batch_size)
    step, compile_seconds = _compile(recipe, train_state, inputs, targets, order[0], key)
    meter = _Meter(recipe, len(order), epochs, order.shape[1], learning_rate)
    begin = time.perf_counter()
    for epoch in range(epochs):
        order = epoch_order(seed, epoch, len(inputs), batch_size)
        for rows in np.asarray(order):
            train_state, log = step(train_state, inputs, targets, rows, key)
            meter.add(log)
            logged = meter.step % log_every == 0 or meter.step == meter.steps
            if logged or meter.due():
                on_progress(meter.progress())
            if logged:
                on_log(meter.record())
        if dataset.validation is not None:
            figures = evaluate(recipe, recipe.evaluated(train_state), train_state.state, dataset.validation)
            on_log({"step": meter.step, "epoch": epoch + 1, "split": "validation", **figures})
    jax.block_until_ready(train_state)
    return Fit(train_state, compile_seconds, time.perf_counter() - begin)


def _compile(
    recipe: Recipe, train_state: TrainState, inputs: Array, targets: Array, rows: Array, key: Key
) -> tuple[Callable[..., Any], float]:
    """The step on rows of the data, compiled once for the whole run."""
    pure = make_step(recipe)

    def step(old: TrainState, inputs: Array, targets: Array, rows: Array, key: Key) -> Any:
        return pure(old, inputs[rows], targets[rows], key)

    begin = time.perf_counter()
    lowered = jax.jit(step, donate_argnums=0).lower(train_state, inputs, targets, rows, key)
    return lowered.compile(), time.perf_counter() - begin


class _Meter:
    """Collects the steps' logs, which stay on the device until somebody asks."""

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        epochs: int,
        batch: int,
        learning_rate: Callable[[int], float] | None,
    ) -> None:
        self.recipe, self.batch, self.learning_rate = recipe, batch, learning_rate
        self.steps_per_epoch, self.steps = steps_per_epoch, steps_per_epoch * epochs
        self.step = 0
        self.fresh: list[Any] = []
        self.begin = self.reported = self.logged = time.perf_counter()
        self.reported_step = self.logged_step = 0
        self.losses: list[float] = []
        self.statistics: dict[str, Any] = {}
        self.norms: dict[str, float] = {}

    def add(self, log: Any) -> None:
        self.step += 1
        self.fresh.append(log)

    def due(self) -> bool:
        return time.perf_counter() - self.reported > 0.5

    def progress(self) -> Progress:
        self._read()
        now = time.perf_counter()
        speed = (self.step - self.reported_step) * self.batch / max(now - self.reported, 1e-9)
        self.reported, self.reported_step = now, self.step
        epochs = self.steps // self.steps_per_epoch
        return Progress(self.step, self.steps, self._epoch(), epochs, self._figures(), speed)

    def record(self) -> Record:
        """What is logged of the steps since the last record."""
        self._read()
        now = time.perf_counter()
        record = {
            "step": self.step,
            "epoch": self._epoch(),
            "split": "train",
            **self._figures(),
            **({"learning_rate": float(self.learning_rate(self.step - 1))} if self.learning_rate else {}),
            **self.norms,
            "examples_per_second": (self.step - self.logged_step) * self.batch / max(now - self.logged, 1e-9),
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

    def _read(self) -> None:
        """Fetch what the device has; this waits for the last step."""
        first = self.step - len(self.fresh) + 1
        for i, log in enumerate(jax.device_get(self.fresh), start=first):
            loss = float(log.pop("loss"))
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the loss is {loss} at step {i}: try a smaller learning rate, or train.clip"
                )
            self.losses.append(loss)
            for name, new in log.pop("metrics").items():
                old = self.statistics.get(name)
                self.statistics[name] = new if old is None else self.recipe.metrics[name].merge(old, new)
            self.norms = {name: float(norm) for name, norm in log.items()}
        self.fresh = []
