"""Evaluation: exact over a whole part, whatever the batch."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data import Split, evaluation_batches
from fnn.layer import Params, State
from fnn.metrics import average
from fnn.training.step import Recipe


def evaluate(
    recipe: Recipe, params: Params, state: State, split: Split, batch_size: int = 256
) -> dict[str, Any]:
    """The loss (without the penalty) and every metric over a part of a data set.

    Args:
        recipe: What was trained.
        params, state: The model's.
        split: Examples with their targets.
        batch_size: Examples at a time; the last batch is padded, and padding does not count.
    """
    metrics = {"loss": average(recipe.loss), **recipe.metrics}
    totals: dict[str, Any] = {}
    inputs, targets = jnp.asarray(split.inputs), jnp.asarray(split.targets)
    for rows, valid in zip(*evaluation_batches(len(split), min(batch_size, len(split))), strict=True):
        outputs = _apply(recipe, params, state, inputs, rows)
        measured = jax.device_get(_measure(recipe, outputs, targets, rows, valid))
        totals = {n: m.merge(totals[n], measured[n]) if totals else measured[n] for n, m in metrics.items()}
    return {name: metric.value(totals[name]) for name, metric in metrics.items()}


def predict(
    recipe: Recipe, params: Params, state: State, inputs: np.ndarray, batch_size: int = 256
) -> np.ndarray:
    """The model's outputs for raw inputs, in order, in float32."""
    n = len(inputs)
    on_device = jnp.asarray(inputs)
    outputs = [
        np.asarray(_apply(recipe, params, state, on_device, rows), np.float32)[valid]
        for rows, valid in zip(*evaluation_batches(n, min(batch_size, n)), strict=True)
    ]
    return np.concatenate(outputs)


@functools.partial(jax.jit, static_argnums=0)
def _apply(recipe: Recipe, params: Params, state: State, inputs: Array, rows: Array) -> Array:
    outputs: Array = recipe.model.apply(params, state, recipe.prepare(inputs[rows]))[0]
    return outputs


@functools.partial(jax.jit, static_argnums=0)
def _measure(recipe: Recipe, outputs: Array, targets: Array, rows: Array, valid: Array) -> dict[str, Any]:
    metrics = {"loss": average(recipe.loss), **recipe.metrics}
    return {name: metric.measure(outputs, targets[rows], valid) for name, metric in metrics.items()}
