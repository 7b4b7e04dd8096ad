"""From an experiment and its parts to the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnn.commands.resume import Start
from fnn.experiment import Experiment, Parts
from fnn.layer import Key, name_key
from fnn.training import Fit, Keeper, Progress, Recipe, Selection, TrainState, fit, initial_state, still


def make_recipe(experiment: Experiment, parts: Parts) -> Recipe:
    """What a training step needs to know, of what an experiment names."""
    return Recipe(
        model=still(parts.model, experiment.train.freeze, parts.state),
        optimizer=parts.optimizer.transformation,
        loss=parts.loss,
        penalty=parts.penalty,
        metrics=parts.metrics,
        normalize=parts.normalizer or (lambda x: x),
        augment=parts.augment,
        dtype=parts.dtype,
        reduction=experiment.train.reduction,
        ema=experiment.train.ema,
        skip=experiment.train.on_nonfinite == "skip",
        freeze=tuple(experiment.train.freeze),
    )


def make_selection(experiment: Experiment) -> Selection | None:
    """What chooses the best epoch, if one is to be chosen."""
    if experiment.train.best is None:
        return None
    ((direction, metric),) = experiment.train.best.items()
    return Selection(direction, metric, experiment.train.patience)


def learning_rate_of(experiment: Experiment, parts: Parts) -> Callable[[int], float] | None:
    """Of the step's number; the schedule counts updates."""
    schedule = parts.optimizer.learning_rate
    every = experiment.train.accumulate
    if schedule is None:
        return None
    if isinstance(schedule(0), jax.Array):
        schedule = jax.jit(schedule)  # operation by operation it costs milliseconds a record
    return lambda step: schedule(step // every)


def fit_parts(
    experiment: Experiment,
    parts: Parts,
    recipe: Recipe,
    on_log: Callable[[dict[str, Any]], None],
    on_progress: Callable[[Progress], None],
    keeper: Keeper,
    selection: Selection | None,
    start: Start,
) -> Fit:
    """Do the steps of an experiment, whose execution is resolved.

    Raises:
        DivergedError, Stopped, CheckpointError: As `fit`.
    """
    key = jax.random.key(experiment.seed)
    batch_size, mode = experiment.train.batch_size, experiment.train.execution.mode
    assert mode != "auto"  # it is resolved
    train = parts.dataset.train.inputs
    inputs = jax.ShapeDtypeStruct((batch_size, *train.shape[1:]), train.dtype)
    return fit(
        recipe,
        _first_state(recipe, name_key(key, "init"), inputs, start),
        parts.dataset,
        name_key(key, "steps"),
        seed=experiment.seed,
        epochs=experiment.train.epochs,
        batch_size=batch_size,
        log_every=parts.log_every,
        mode=mode,
        learning_rate=learning_rate_of(experiment, parts),
        on_log=on_log,
        on_progress=on_progress,
        keeper=keeper,
        selection=selection,
        resume=start.checkpoint,
    )


def _first_state(recipe: Recipe, key: Key, inputs: Any, start: Start) -> TrainState:
    begin = initial_state(recipe, key, inputs, start.weights)
    start.weights.clear()  # they are on the device now
    return begin
