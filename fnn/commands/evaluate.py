"""Evaluate a run once more: the figures of any part of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from fnn import kernels
from fnn.choices import ConfigError
from fnn.commands.execution import prepare
from fnn.commands.fitting import make_recipe
from fnn.data import Part, Split
from fnn.experiment import Parts, build, read
from fnn.experiment.normalization import as_trained
from fnn.layer import Params, State, name_key
from fnn.training import Checkpoints, Recipe, evaluate, initial_state, load_weights
from fnn.training.folder import CHECKPOINTS, CONFIG, WEIGHTS
from fnn.training.snapshot import below, put

PARTS = ("train", "validation", "test")


def evaluate_run(folder: Path, part: str = "test", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Loss and metrics of a run's model, to the last digit as the run itself measured them.

    Args:
        folder: The run's. If it has not ended, its newest sound checkpoint is evaluated.
        part: Of the data set of its config: ``train``, ``validation`` or ``test``.
        overrides: Of its config, as ``dotted.key=value``, for other data or metrics. Examples are normalised
            as the run's own are, which need not be there any more if the run has ended.

    Raises:
        ConfigError: The folder holds no run, its data set has no such part, or an override is refused.
        WeightsError: The weights are damaged, or of another model.
        CheckpointError: No checkpoint is sound.
    """
    if part not in PARTS:
        raise ConfigError((), f"expected one of the parts {', '.join(PARTS)}, got {part!r}")
    if not (folder / CONFIG).is_file():
        raise ConfigError((), f"{folder} holds no run: expected {CONFIG} in it")
    own, experiment = read(folder / CONFIG), read(folder / CONFIG, overrides)
    prepare(experiment.train.execution)
    parts = build(experiment)
    if experiment.data != own.data:
        weights = folder / WEIGHTS
        normalizer = as_trained(weights, parts.dataset) if weights.exists() else build(own).normalizer
        parts = replace(parts, normalizer=normalizer)
    found: Part | None = getattr(parts.dataset, part)
    if found is None or (isinstance(found, Split) and found.targets is None):
        raise ConfigError((), f"{folder}: its data set has no {part} part")
    execution = experiment.train.execution
    with kernels.use(execution.kernels, threads=execution.threads):
        recipe = make_recipe(experiment, parts)
        params, state = _model(folder, recipe, parts)
        return evaluate(recipe, params, state, found)


def _model(folder: Path, recipe: Recipe, parts: Parts) -> tuple[Params, State]:
    if (folder / WEIGHTS).exists():
        return load_weights(folder / WEIGHTS, parts.params, parts.state)
    checkpoint = Checkpoints(folder / CHECKPOINTS).newest()
    if checkpoint is None:
        raise ConfigError((), f"{folder}: there is neither {WEIGHTS} nor a checkpoint yet")
    train = parts.dataset.train.inputs
    inputs = jax.ShapeDtypeStruct((1, *train.shape[1:]), train.dtype)
    example = initial_state(recipe, name_key(jax.random.key(0), "init"), inputs)
    train_state = put(below("train", checkpoint.read()), example)
    return recipe.evaluated(train_state), train_state.state
