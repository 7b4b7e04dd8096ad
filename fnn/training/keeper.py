"""When a run is saved, when it stops, and what it goes back to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.training.checkpoint import Checkpoint, CheckpointError, Checkpoints
from fnn.training.meter import DivergedError, Meter
from fnn.training.selection import Selection
from fnn.training.snapshot import below, put, take
from fnn.training.step import TrainState

ATTEMPTS = 3
"""How often a run goes back to the same state before it gives up."""


class Stopped(Exception):  # noqa: N818 -- it was asked for
    """A run was asked to stop, and did, between two steps.

    Attributes:
        step: Steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


@dataclass(frozen=True)
class Period:
    """How often a run is saved.

    Attributes:
        steps: At multiples of so many; None: after any.
        seconds: The least time between two.
    """

    steps: int | None = None
    seconds: float = math.inf


class Keeper:
    """Watches over a run, between its calls.

    Args:
        period: How often the run is saved.
        checkpoints: Where to; None: it is not.
        rollback: Whether a run that diverged goes back to the state that was saved last. No checkpoint is
            written then but those of the period and of the best epochs, so that a run that was interrupted
            goes back to the same.
        stopped: Whether the run is to stop.
        before_save: Called before a checkpoint is written.
        on_message: Told when the run goes back.
    """

    def __init__(
        self,
        period: Period,
        checkpoints: Checkpoints | None = None,
        *,
        rollback: bool = False,
        stopped: Callable[[], bool] = lambda: False,
        before_save: Callable[[], None] = lambda: None,
        on_message: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.period, self.checkpoints, self.rollback = period, checkpoints, rollback
        self.stopped, self.before_save, self.on_message = stopped, before_save, on_message
        self.saved = time.monotonic()
        self.saved_step = 0
        self.base: TrainState | None = None
        self.attempts, self.went_back = 0, 0

    def begin(self, train_state: TrainState, step: int, resume: Checkpoint | None = None) -> None:
        """Note where the run begins, or which checkpoint it goes on from.

        Raises:
            Stopped: It was asked to stop already.
        """
        if self.stopped():
            raise Stopped(step)
        self.saved, self.saved_step = time.monotonic(), step
        self.attempts = 0 if resume is None else resume.info["attempts"]
        self._note(train_state)

    def limit(self, step: int) -> float:
        """The step that the next call must not go beyond, so that the run can be saved there."""
        if self.period.steps is None or time.monotonic() - self.saved < self.period.seconds:
            return math.inf
        return step - step % self.period.steps + self.period.steps

    def after(
        self, train_state: TrainState, meter: Meter, selection: Selection | None, better: bool = False
    ) -> None:
        """Save the run, if it is time to, at the end of its best epoch, too, or if it is to stop.

        Raises:
            Stopped: It was to stop.
            CheckpointError: The checkpoint before could not be written.
        """
        step, stop = meter.step, self.stopped()
        due = better or self.period.steps is None or step % self.period.steps == 0
        due = due and time.monotonic() - self.saved >= self.period.seconds
        if (due or (stop and not self.rollback)) and step != self.saved_step:
            self._save(train_state, meter, selection)
        if stop:
            raise Stopped(step)

    def go_back(self, error: DivergedError, step: int) -> TrainState:
        """The state that was saved last, with the steps since then, up to this one, left out.

        Raises:
            DivergedError: The error, if the run is not to go back, or did too often.
        """
        self.attempts, self.went_back = self.attempts + 1, step
        if self.base is None or self.attempts > ATTEMPTS:
            raise error
        self.on_message(f"{error}: back to step {self.saved_step}; the batches since then are left out")
        base: TrainState = copy(self.base)
        return base._replace(step=jnp.int32(step))

    def _save(self, train_state: TrainState, meter: Meter, selection: Selection | None) -> None:
        self.saved, self.saved_step = time.monotonic(), meter.step
        if meter.step > self.went_back:  # else it is the same state, at another step
            self.attempts = 0
        self._note(train_state)
        if self.checkpoints is None:
            return
        arrays = take({"train": train_state})
        arrays |= {f"meter/{name}": array for name, array in meter.arrays().items()}
        info: dict[str, Any] = {"meter": meter.info(), "attempts": self.attempts}
        also = []
        if selection is not None:
            arrays |= {f"best/{name}": array for name, array in selection.arrays.items()}
            info["best"] = selection.info()
            also.append(selection.step)
        self.before_save()
        self.checkpoints.save(meter.step, arrays, info, also)

    def _note(self, train_state: TrainState) -> None:
        if self.rollback:
            self.base = copy(train_state)


def restore(
    checkpoint: Checkpoint, train_state: TrainState, meter: Meter, selection: Selection | None
) -> TrainState:
    """Go on from a checkpoint.

    Args:
        checkpoint: What `Keeper` saved.
        train_state: Any of the same structure.
        meter, selection: Brought to where they were.

    Raises:
        CheckpointError: It cannot be read, or is of another model or optimiser.
    """
    arrays = checkpoint.read()
    meter.restore(checkpoint.info["meter"], below("meter", arrays))
    if selection is not None and "best" in checkpoint.info:
        selection.restore(checkpoint.info["best"], below("best", arrays))
    try:
        restored: TrainState = put(below("train", arrays), train_state)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from None
    return restored


def copy(tree: Any) -> Any:
    """The same tree of arrays, whose buffers nobody else donates."""
    return jax.tree.map(jnp.copy, tree)
