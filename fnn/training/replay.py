"""A run that is gone through again, up to one of its steps."""

from __future__ import annotations

from collections.abc import Callable

from fnn.training.checkpoint import Checkpoint
from fnn.training.keeper import Keeper, Period, Stopped, copy
from fnn.training.meter import DivergedError, Meter
from fnn.training.selection import Selection
from fnn.training.step import TrainState


class Replay(Keeper):
    """Holds on to the state before a step, lets the run do that step by itself, and stops it.

    Nothing is written. The run goes through the same compiled program as before, and no bit depends on how
    many steps a call does: so every bit is the same.

    Args:
        step: The number of the step, from 1.
        period: How often the run was saved; it goes back to there, where it does.
        rollback: Whether the run goes back where a step before this one is not finite.
        on_message: Told when it does.

    Attributes:
        before: The state before the step, once the run is there.
        failure: What is not finite in the step, as the run has it; None: nothing.
    """

    def __init__(
        self, step: int, period: Period, *, rollback: bool, on_message: Callable[[str], None]
    ) -> None:
        super().__init__(period, rollback=rollback, on_message=on_message)
        self.target = step
        self.before: TrainState | None = None
        self.failure: str | None = None

    def begin(self, train_state: TrainState, step: int, resume: Checkpoint | None = None) -> None:
        """Note where the run begins, or which checkpoint it goes on from."""
        super().begin(train_state, step, resume)
        self._look(train_state, step)

    def limit(self, step: int) -> float:
        """The step that the next call must not go beyond: the one before, then this one."""
        return min(super().limit(step), self.target - 1 if step < self.target - 1 else self.target)

    def after(
        self, train_state: TrainState, meter: Meter, selection: Selection | None, better: bool = False
    ) -> None:
        """Hold on to the state before the step.

        Raises:
            Stopped: The step is done.
        """
        super().after(train_state, meter, selection, better)
        if meter.step == self.target:
            self.failure = "something in it is not finite, and it was skipped" if meter.in_a_row else None
            raise Stopped(meter.step)
        self._look(train_state, meter.step)

    def go_back(self, error: DivergedError, step: int) -> TrainState:
        """As any run, where it is not yet at the step.

        Raises:
            DivergedError: It is, or the run is not to go back, or did too often.
        """
        if step == self.target:
            self.failure = str(error).partition(f" at step {step}")[0]
            raise Stopped(step)
        return super().go_back(error, step)

    def _look(self, train_state: TrainState, step: int) -> None:
        if step == self.target - 1:
            self.before = copy(train_state)
