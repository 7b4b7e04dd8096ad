"""Evaluation: exact over a whole part, whatever the batch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data import OnDisk, Part, Split, evaluation_batches
from fnn.layer import Params, State
from fnn.metrics import average
from fnn.training.step import Recipe


def evaluate(
    recipe: Recipe, params: Params, state: State, part: Part, batch_size: int = 256
) -> dict[str, Any]:
    """The loss (without the penalty) and every metric over a part of a data set.

    Args:
        recipe: What was trained.
        params, state: The model's.
        part: Examples with their targets; where they are of several shapes, a program is compiled for each.
        batch_size: Examples at a time; the last batch is padded, and padding does not count.
    """
    metrics = {"loss": average(recipe.loss), **recipe.metrics}
    totals: dict[str, Any] = {}
    for split in (part,) if isinstance(part, Split) else part:
        targets = jnp.asarray(split.targets)
        for rows, valid, outputs in _outputs(recipe, params, state, split.inputs, batch_size):
            measured = jax.device_get(_measure(recipe, outputs, targets, rows, valid))
            totals = {
                n: m.merge(totals[n], measured[n]) if totals else measured[n] for n, m in metrics.items()
            }
    return {name: metric.value(totals[name]) for name, metric in metrics.items()}


def predict(
    recipe: Recipe, params: Params, state: State, inputs: np.ndarray | OnDisk, batch_size: int = 256
) -> np.ndarray:
    """The model's outputs for raw inputs, in order, in float32."""
    found = _outputs(recipe, params, state, inputs, batch_size)
    return np.concatenate([np.asarray(outputs, np.float32)[valid] for _, valid, outputs in found])


def _outputs(
    recipe: Recipe, params: Params, state: State, inputs: np.ndarray | OnDisk, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, Array]]:
    """The outputs of each batch, with its rows and a mask of those that count."""
    indices, valid = evaluation_batches(len(inputs), min(batch_size, len(inputs)))
    placed: Iterator[tuple[Any, np.ndarray]]
    if isinstance(inputs, OnDisk):
        every = np.arange(indices.shape[1], dtype=np.int32)
        batches = inputs.stream(lambda i: indices[i], len(indices))
        placed = ((batch, every) for batch in batches)
    else:
        placed = zip(itertools.repeat(jnp.asarray(inputs)), indices)
    for rows, mask, (data, places) in zip(indices, valid, placed, strict=False):
        yield rows, mask, _apply(recipe, params, state, data, places)


@functools.partial(jax.jit, static_argnums=0)
def _apply(recipe: Recipe, params: Params, state: State, inputs: Array, rows: Array) -> Array:
    outputs: Array = recipe.model.apply(params, state, recipe.prepare(inputs[rows]))[0]
    return outputs


@functools.partial(jax.jit, static_argnums=0)
def _measure(recipe: Recipe, outputs: Array, targets: Array, rows: Array, valid: Array) -> dict[str, Any]:
    metrics = {"loss": average(recipe.loss), **recipe.metrics}
    return {name: metric.measure(outputs, targets[rows], valid) for name, metric in metrics.items()}
