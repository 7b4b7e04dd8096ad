"""What feeds the steps: examples that are all on the device, or batches that are read ahead of the step."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data import OnDisk, Split, epoch_order, steps_per_epoch
from fnn.layer import Key
from fnn.training.advance import Mode, compile_step, compile_steps
from fnn.training.step import Recipe, TrainState

TOGETHER = 1024
"""Steps that short epochs are put together to, where nothing is evaluated between them."""


@dataclass(frozen=True)
class Plan:
    """Which examples each step of a run trains on: a pure function of the seed and the step.

    Attributes:
        seed: The order of the examples.
        n: Examples in the training part.
        batch_size: Examples a step; a part that is smaller is one batch.
        epochs: Passes over the training part.
    """

    seed: int
    n: int
    batch_size: int
    epochs: int

    @property
    def batch(self) -> int:
        """Examples in each batch."""
        return min(self.n, self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches."""
        return steps_per_epoch(self.n, self.batch_size)

    def orders(self, epoch: int, count: int) -> Array:
        """The orders of epochs one after the other, ``(steps, batch)``."""
        found: Array = _orders(
            np.uint32(self.seed), epoch, n=self.n, batch_size=self.batch_size, epochs=count
        )
        return found


class Feed(Protocol):
    """Does steps on the examples that a plan gives them."""

    def limit(self, step: int) -> int:
        """The step that a call which begins after this one must not go beyond; an epoch's end, if not all."""

    def advance(self, train_state: TrainState, step: int, count: int) -> tuple[TrainState, list[Any]]:
        """Do the steps after this one, ``count`` of them; see `fnn.training.advance.Advance`."""

    def close(self) -> None:
        """Let go of what it reads from."""


def make_feed(
    recipe: Recipe, train_state: TrainState, split: Split, key: Key, plan: Plan, mode: Mode, together: int
) -> Feed:
    """Compile the steps and what feeds them.

    Args:
        recipe: What is trained.
        train_state: Only shapes and dtypes are read.
        split: The training part.
        key: The randomness of the steps.
        plan: Which examples each step trains on.
        mode: As in `compile_steps`; for examples that stay on disk ``step``.
        together: Epochs whose orders may be made at a time.

    Raises:
        ValueError: The mode is ``scan``, and the examples stay on disk.
    """
    if not isinstance(split.inputs, OnDisk):
        return _Resident(recipe, train_state, split, key, plan, mode, together)
    if mode == "scan":
        raise ValueError("fit: expected the mode step for examples that stay on disk, got scan")
    return _Streamed(recipe, train_state, split.inputs, split.targets, key, plan)


class _Resident:
    """Examples that are all on the device: a step picks its own by their indices."""

    def __init__(
        self,
        recipe: Recipe,
        train_state: TrainState,
        split: Split,
        key: Key,
        plan: Plan,
        mode: Mode,
        together: int,
    ) -> None:
        self.plan, self.together = plan, together
        self.span = together * plan.steps_per_epoch
        data = jnp.asarray(split.inputs), jnp.asarray(split.targets)
        self.block, self.order = 0, plan.orders(0, together)
        self.run = compile_steps(mode, recipe, train_state, self.order, data, key)

    def limit(self, step: int) -> int:
        return (step // self.span + 1) * self.span

    def advance(self, train_state: TrainState, step: int, count: int) -> tuple[TrainState, list[Any]]:
        block, first = divmod(step, self.span)
        if block != self.block:  # the epochs whose orders are at hand
            self.block, self.order = block, self.plan.orders(block * self.together, self.together)
        return self.run(train_state, self.order, first, count)

    def close(self) -> None:
        pass


class _Streamed:
    """Examples that stay on disk: the batches of the steps to come are read while a step is done.

    The program is that of `_Resident` in the mode ``step``, for as many examples as there are in a batch.
    """

    def __init__(
        self, recipe: Recipe, train_state: TrainState, inputs: OnDisk, targets: Any, key: Key, plan: Plan
    ) -> None:
        self.plan, self.inputs, self.targets, self.key = plan, inputs, targets, key
        self.every = jnp.arange(plan.batch, dtype=jnp.int32).reshape(1, -1)
        shapes = [jax.ShapeDtypeStruct((plan.batch, *of.shape[1:]), of.dtype) for of in (inputs, targets)]
        self.run = compile_step(recipe, train_state, self.every, (shapes[0], shapes[1]), key)
        self.order = functools.lru_cache(maxsize=3)(lambda epoch: np.asarray(plan.orders(epoch, 1)))
        self.lock = threading.Lock()
        self.step = -1
        self.reading = self._read(0)
        self.next: Any = None

    def limit(self, step: int) -> int:
        return (step // self.plan.steps_per_epoch + 1) * self.plan.steps_per_epoch

    def advance(self, train_state: TrainState, step: int, count: int) -> tuple[TrainState, list[Any]]:
        if step != self.step:  # the run begins, or goes on from a checkpoint
            self.close()
            self.reading = self._read(step)
            self.next = next(self.reading, None)
        logs: list[Any] = []
        for _ in range(count):
            train_state, log = self.run(train_state, self.every, np.int32(0), self.next, self.key)
            self.next = next(self.reading, None)  # while the device is at the step
            jax.block_until_ready(logs[-1:])  # no more than two batches are on the device
            logs.append(log)
        self.step = step + count
        return train_state, jax.device_get(logs)

    def _read(self, step: int) -> Generator[tuple[Array, Array]]:
        """The batches of the steps after this one, on the device."""
        batches = self.inputs.stream(self._rows, self.plan.epochs * self.plan.steps_per_epoch, start=step)
        with closing(batches):
            for i, batch in enumerate(batches, start=step):
                yield jax.device_put((batch, self.targets[self._rows(i)]))

    def _rows(self, step: int) -> np.ndarray:
        epoch, place = divmod(step, self.plan.steps_per_epoch)
        with self.lock:  # several threads ask, for the next epoch, too
            rows: np.ndarray = self.order(epoch)[place]
        return rows

    def close(self) -> None:
        self.reading.close()


@functools.partial(jax.jit, static_argnames=("n", "batch_size", "epochs"))
def _orders(seed: Array, epoch: int, n: int, batch_size: int, epochs: int) -> Array:
    orders: Array = jax.lax.map(lambda e: epoch_order(seed, e, n, batch_size), epoch + jnp.arange(epochs))
    return orders.reshape(-1, orders.shape[-1])
