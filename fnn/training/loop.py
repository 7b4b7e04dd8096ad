"""The loop: epochs of steps, many in one call, and evaluation in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from fnn.data import Dataset, Part
from fnn.layer import Key
from fnn.training.advance import Mode
from fnn.training.checkpoint import Checkpoint
from fnn.training.evaluation import evaluate
from fnn.training.feed import TOGETHER, Plan, make_feed
from fnn.training.keeper import Keeper, Period, restore
from fnn.training.meter import DivergedError, Meter, Progress, Record
from fnn.training.retrace import watch_retraces
from fnn.training.selection import Selection
from fnn.training.step import Recipe, TrainState

CALL = 0.3
"""Seconds that a call takes, about: so long nothing is logged, and nobody can stop the run."""

GROWTH = 4
"""How many times longer than the last one a call may be; the first does one step."""


@dataclass
class Fit:
    """What a run ended with.

    Attributes:
        train_state: After the last step.
        compile_seconds: For compiling the steps and the orders that they take.
        train_seconds: For all steps and evaluations in between, before a run was resumed, too.
        skipped: Steps that changed nothing because something in them was not finite.
    """

    train_state: TrainState
    compile_seconds: float
    train_seconds: float
    skipped: int = 0


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
    mode: Mode = "scan",
    steps_per_call: int | None = None,
    learning_rate: Callable[[int], float] | None = None,
    on_log: Callable[[Record], None] = lambda record: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    keeper: Keeper | None = None,
    selection: Selection | None = None,
    resume: Checkpoint | None = None,
) -> Fit:
    """Train for a number of epochs.

    Args:
        recipe: What is trained.
        train_state: Where to begin; its buffers are donated.
        dataset: Its training part is trained on; its validation part is evaluated after each epoch. A part is
            put on the device whole, or where its inputs stay on disk, read ahead of the step.
        key: The randomness of the steps.
        seed: The order of the examples.
        epochs: Passes over the training part.
        batch_size: Examples a step; a part that is smaller is one batch.
        log_every: Steps between two logged points.
        mode: Steps in a compiled loop, ``scan``, or dispatched one by one, ``step``, as where the inputs stay
            on disk they must be.
        steps_per_call: How many steps at a time, at most; no bit depends on it. None: about 0.3 seconds'.
        learning_rate: Of the step's number, for the log.
        on_log: Gets each record of the log.
        on_progress: Gets the progress, about twice a second.
        keeper: Saves the run on its way, and stops it.
        selection: Told of each epoch's figures on the validation part; ends the run when its patience does.
        resume: Where to go on, in place of the beginning: every bit is as if nothing had interrupted the run.

    Raises:
        ValueError: The mode is ``scan``, and the inputs stay on disk.
        DataError: An example that stayed on disk cannot be read.
        DivergedError: The loss, the gradient or an update is not finite.
        Stopped: The keeper was asked to stop the run.
        CheckpointError: A checkpoint cannot be written, or the one to go on from does not fit.

    Warns:
        RetraceWarning: Something is traced again after the first epoch.
    """
    plan = Plan(seed, len(dataset.train), batch_size, epochs)
    together = 1 if dataset.validation is not None else max(1, min(epochs, TOGETHER // plan.steps_per_epoch))
    begin = time.perf_counter()
    feed = make_feed(recipe, train_state, dataset.train, key, plan, mode, together)
    compiled = time.perf_counter()
    meter = Meter(
        recipe,
        steps_per_epoch=plan.steps_per_epoch,
        epochs=epochs,
        batch=plan.batch,
        log_every=log_every,
        learning_rate=learning_rate,
        on_log=on_log,
        on_progress=on_progress,
    )
    keeper = keeper or Keeper(Period())
    if resume is not None:
        train_state = restore(resume, train_state, meter, selection)
    keeper.begin(train_state, meter.step, resume)
    count = steps_per_call or 1
    begun, watched = meter.step, False
    with closing(feed), ExitStack() as watching:
        while meter.step < meter.steps and not (selection is not None and selection.exhausted):
            last = min(feed.limit(meter.step), meter.steps, keeper.limit(meter.step))
            done = min(count, int(last) - meter.step)
            started = time.perf_counter()
            train_state, logs = feed.advance(train_state, meter.step, done)
            seconds = time.perf_counter() - started
            try:
                meter.read(logs, seconds)
            except DivergedError as error:
                train_state = keeper.go_back(error, meter.step)
                meter.tell(started + seconds)
            if steps_per_call is None:
                count = max(1, min(GROWTH * count, int(CALL / seconds * done)))
            with meter.apart():
                better = _validate(recipe, train_state, dataset.validation, meter, on_log, selection)
            if not watched and meter.step >= begun + plan.steps_per_epoch:
                watched = watching.enter_context(watch_retraces())
            keeper.after(train_state, meter, selection, better)
    return Fit(train_state, compiled - begin, meter.seconds(), meter.skipped)


def _validate(
    recipe: Recipe,
    train_state: TrainState,
    validation: Part | None,
    meter: Meter,
    on_log: Callable[[Record], None],
    selection: Selection | None,
) -> bool:
    """Evaluate the validation part, if there is one and an epoch has ended; whether it is the best so far."""
    if validation is None or meter.step % meter.steps_per_epoch:
        return False
    params, state = recipe.evaluated(train_state), train_state.state
    figures = evaluate(recipe, params, state, validation)
    on_log({"step": meter.step, "epoch": meter.epoch, "split": "validation", **figures})
    return selection is not None and selection.judge(figures, meter.step, params, state)
