"""Metrics of predicted values."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fnn.metrics.metric import Metric, Statistics, average, mean, on_host, rows, wide
from fnn.registry import register


@register(group="metric")
def mae() -> Metric:
    """The mean absolute error over all rows and outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import mae
        >>> measure, merge, value = mae()
        >>> value(measure(jnp.array([[1.0], [2.0]]), jnp.array([2.0, 4.0]), jnp.array([True, True])))
        1.5
    """

    def error(outputs: Array, targets: Array) -> Array:
        predicted, true = _columns("mae", outputs, targets)
        return jnp.mean(jnp.abs(predicted - true), axis=1)

    return average(error)


@register(group="metric")
def rmse() -> Metric:
    """The root of the mean squared error over all rows and outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import rmse
        >>> measure, merge, value = rmse()
        >>> value(measure(jnp.array([0.0, 0.0]), jnp.array([1.0, -7.0]), jnp.array([True, True])))
        5.0
    """

    def error(outputs: Array, targets: Array) -> Array:
        predicted, true = _columns("rmse", outputs, targets)
        return jnp.mean(jnp.square(predicted - true), axis=1)

    return average(error)._replace(value=lambda statistics: math.sqrt(mean(statistics)))


@register(group="metric")
def r2() -> Metric:
    """The coefficient of determination R², 1 - Σ(p - t)² / Σ(t - mean t)², averaged over the outputs.

    At most 1; 0 for the mean as the prediction. An output whose targets do not vary counts as 1
    where it is met exactly and as 0 else, and fewer than two rows give NaN, as in scikit-learn.
    The sums are taken about each batch's own first target and merged about the means: two passes,
    since Σt² - (Σt)²/n cancels where the targets are far from 0 (years).

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import r2
        >>> measure, merge, value = r2()
        >>> year = jnp.array([2013.0, 2014.0, 2015.0, 2016.0])
        >>> value(measure(year + 0.5, year, jnp.ones(4, bool)))
        0.8

    Source: the merging is Chan, Golub & LeVeque (1983), Algorithms for Computing the Sample Variance.
    """

    def measure(outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike) -> Statistics:
        predicted, true = _columns("r2", outputs, targets)
        counted = rows(mask, true.shape[:1])
        count = jnp.sum(counted, dtype=jnp.int32)
        origin, counted = true[jnp.argmax(counted)], counted[:, None]
        shifted = jnp.where(counted, true - origin[None], 0)
        offset = jnp.sum(shifted, axis=0) / jnp.maximum(count, 1).astype(true.dtype)
        return {
            "count": count,
            "origin": origin,  # the mean is origin + offset, which this dtype would round
            "offset": offset,
            "spread": jnp.sum(jnp.square(jnp.where(counted, shifted - offset[None], 0)), axis=0),
            "error": jnp.sum(jnp.square(jnp.where(counted, predicted - true, 0)), axis=0),
        }

    return Metric(measure, _merge_moments, _determination)


def _merge_moments(a: Statistics, b: Statistics) -> Statistics:
    a, b = jax.tree.map(on_host, (a, b))
    if not a["count"] or not b["count"]:
        return b if not a["count"] else a
    count = a["count"] + b["count"]
    share = b["count"] / count
    apart = (b["origin"] - a["origin"]) + (b["offset"] - a["offset"])
    return {
        "count": count,
        "origin": a["origin"],
        "offset": a["offset"] + apart * share,
        "spread": a["spread"] + b["spread"] + apart**2 * (a["count"] * share),
        "error": a["error"] + b["error"],
    }


def _determination(statistics: Statistics) -> float:
    of = jax.tree.map(on_host, statistics)
    if of["count"] < 2:
        return math.nan
    varies = of["spread"] != 0
    ratio = of["error"] / np.where(varies, of["spread"], 1)
    return float(np.mean(np.where(varies, 1 - ratio, of["error"] == 0)))


def _columns(name: str, outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    """Predictions and targets as ``(batch, outputs)``, in the dtype that sums are taken in."""
    outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
    if outputs.ndim == 2 and outputs.shape == (*targets.shape, 1):
        targets = targets[:, None]
    if outputs.ndim == 0 or outputs.shape != targets.shape:
        raise ValueError(
            f"{name}: expected targets of the outputs' shape, "
            f"got outputs {outputs.shape} and targets {targets.shape}"
        )
    outputs = wide(outputs).reshape(outputs.shape[0], -1)
    return outputs, targets.astype(outputs.dtype).reshape(outputs.shape)
