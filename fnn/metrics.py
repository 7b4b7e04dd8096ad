"""Metrics that are summed exactly over batches, a padded last batch included.

A metric measures one batch as a few sufficient statistics, where False in ``mask`` says that a row
is padding and does not count. The statistics of two sets of rows merge into those of both, on the
host and in float64 or whole numbers, and the figure is worked out once, at the end. So the figure
does not depend on how the rows were cut into batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fnn.registry import register

Statistics = dict[str, Any]
Figure = float | list[list[int]]


class Metric(NamedTuple):
    """Three functions that measure, merge and evaluate.

    Attributes:
        measure: ``(outputs, targets, mask) -> statistics`` of one batch; pure, to be compiled.
        merge: ``(statistics, statistics) -> statistics`` of both sets of rows; on the host.
        value: ``statistics -> figure``; NaN for a mean over no rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import accuracy
        >>> measure, merge, value = accuracy()
        >>> first = measure(jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 0]), jnp.array([True, True]))
        >>> last = measure(jnp.array([[0.0, 5.0], [0.0, 0.0]]), jnp.array([1, 0]), jnp.array([True, False]))
        >>> round(value(merge(first, last)), 4)
        0.6667
    """

    measure: Callable[[ArrayLike, ArrayLike, ArrayLike], Statistics]
    merge: Callable[[Statistics, Statistics], Statistics]
    value: Callable[[Statistics], Figure]


def default_metrics(classification: bool) -> tuple[str, ...]:
    """The names of the metrics that are reported where none are asked for.

    Example:
        >>> from fnn.metrics import default_metrics
        >>> default_metrics(classification=False)
        ('mae', 'rmse', 'r2')
    """
    return ("accuracy",) if classification else ("mae", "rmse", "r2")


def average(per_example: Callable[[Any, Any], Array]) -> Metric:
    """The mean over all rows of a per-example function, such as a loss.

    Args:
        per_example: ``(outputs, targets) -> values`` of shape ``(batch,)``. Bools and integers are
            totalled as whole numbers, so that their mean is exact.

    Raises:
        ValueError: When measured: the values are not ``(batch,)``, or the mask is not bools of
            that shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import squared_error
        >>> from fnn.metrics import average
        >>> loss = average(squared_error)
        >>> loss.value(loss.measure(jnp.array([1.0, 9.0]), jnp.array([3.0, 0.0]), jnp.array([True, False])))
        4.0
    """

    def measure(outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike) -> Statistics:
        values = per_example(jnp.asarray(outputs), jnp.asarray(targets))
        rows = _rows(mask, values.shape[:1])
        if values.ndim != 1:
            raise ValueError(f"average: expected one value per row {rows.shape}, got {values.shape}")
        whole = not jnp.issubdtype(values.dtype, jnp.floating)
        values = values.astype(jnp.int32) if whole else _wide(values)
        return {"total": jnp.sum(jnp.where(rows, values, 0)), "count": jnp.sum(rows, dtype=jnp.int32)}

    return Metric(measure, _add, _mean)


@register(group="metric")
def accuracy() -> Metric:
    """The share of rows whose class is predicted right, 0 to 1.

    With outputs ``(batch, classes)`` the prediction is the largest output, the first of equals;
    targets are integer labels ``(batch,)`` or one-hot rows ``(batch, classes)``. With a single
    output, ``(batch,)`` or ``(batch, 1)``, it is the output's sign, and a target above 0 is the
    positive class: ±1, 0 / 1 and booleans. A row with NaN among its outputs is wrong.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import accuracy
        >>> measure, merge, value = accuracy()
        >>> value(measure(jnp.array([0.3, -2.0]), jnp.array([1, 1]), jnp.array([True, True])))
        0.5
    """

    def right(outputs: Array, targets: Array) -> Array:
        predicted, true, _ = _classes("accuracy", outputs, targets)
        return (predicted == true) & (predicted >= 0)

    return average(right)


@register(group="metric")
def top_k(k: int = 5) -> Metric:
    """The share of rows whose class is among the k largest outputs, 0 to 1; of equals the first counts.

    Args:
        k: How many guesses a row has, 1 to the number of outputs.

    Raises:
        ValueError: ``k`` is below 1, or, when measured, above the number of outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import top_k
        >>> measure, merge, value = top_k(2)
        >>> value(measure(jnp.array([[3.0, 1.0, 2.0]]), jnp.array([2]), jnp.array([True])))
        1.0
    """
    if k < 1:
        raise ValueError(f"top_k: expected k of 1 or more, got {k}")

    def among(outputs: Array, targets: Array) -> Array:
        predicted, true, classes = _classes("top_k", outputs, targets)
        if outputs.ndim != 2 or classes != outputs.shape[1] or k > classes:
            raise ValueError(
                f"top_k: expected outputs (batch, {max(k, 2)} classes or more), got {outputs.shape}"
            )
        _, guesses = jax.lax.top_k(outputs, k)
        return jnp.any(guesses == true[:, None], axis=1) & (predicted >= 0)

    return average(among)


@register(group="metric")
def confusion(classes: int | None = None) -> Metric:
    """The table of counts, a row for each true class and a column for each predicted one.

    Classes are read as in `accuracy`; a single output has two of them. Rows that have NaN among
    their outputs, or a label that names no class, have no cell and are left out.

    Args:
        classes: The size of the table; by default as many as outputs, 2 for a single one.

    Raises:
        ValueError: When measured: more classes can be predicted than the table holds, or it holds too many.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import confusion
        >>> measure, merge, value = confusion()
        >>> value(measure(jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 0]), jnp.array([True, True])))
        [[1, 1], [0, 0]]
    """

    def measure(outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike) -> Statistics:
        predicted, true, known = _classes("confusion", outputs, targets)
        size = known if classes is None else classes
        if size < known:
            raise ValueError(f"confusion: expected classes of {known} or more, got {classes}")
        if size * size >= 2**31:  # the cells are counted in int32
            raise ValueError(f"confusion: expected at most 46,340 classes, got {size}")
        counted = _rows(mask, true.shape[:1]) & (predicted >= 0) & (true >= 0) & (true < size)
        cell = jnp.where(counted, true * size + predicted, size * size)  # outside: dropped
        counts = jnp.zeros(size * size, jnp.int32).at[cell].add(1, mode="drop")
        return {"counts": counts.reshape(size, size)}

    return Metric(measure, _add, lambda statistics: np.asarray(statistics["counts"]).tolist())


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

    return average(error)._replace(value=lambda statistics: math.sqrt(_mean(statistics)))


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
        rows = _rows(mask, true.shape[:1])
        count = jnp.sum(rows, dtype=jnp.int32)
        origin, rows = true[jnp.argmax(rows)], rows[:, None]
        shifted = jnp.where(rows, true - origin[None], 0)
        offset = jnp.sum(shifted, axis=0) / jnp.maximum(count, 1).astype(true.dtype)
        return {
            "count": count,
            "origin": origin,  # the mean is origin + offset, which this dtype would round
            "offset": offset,
            "spread": jnp.sum(jnp.square(jnp.where(rows, shifted - offset[None], 0)), axis=0),
            "error": jnp.sum(jnp.square(jnp.where(rows, predicted - true, 0)), axis=0),
        }

    return Metric(measure, _merge_moments, _determination)


def _merge_moments(a: Statistics, b: Statistics) -> Statistics:
    a, b = jax.tree.map(_on_host, (a, b))
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
    of = jax.tree.map(_on_host, statistics)
    if of["count"] < 2:
        return math.nan
    varies = of["spread"] != 0
    ratio = of["error"] / np.where(varies, of["spread"], 1)
    return float(np.mean(np.where(varies, 1 - ratio, of["error"] == 0)))


def _mean(statistics: Statistics) -> float:
    count = int(statistics["count"])
    return float(statistics["total"]) / count if count else math.nan


def _add(a: Statistics, b: Statistics) -> Statistics:
    summed: Statistics = jax.tree.map(lambda x, y: _on_host(x) + _on_host(y), a, b)
    return summed


def _on_host(value: Any) -> Any:
    array = np.asarray(value)
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)


def _rows(mask: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Which rows count. They are chosen, never multiplied by 0: padding may hold NaN."""
    rows = jnp.asarray(mask)
    if rows.dtype != jnp.bool_ or rows.shape != shape:
        raise ValueError(f"metric: expected a bool mask {shape}, got {rows.dtype} {rows.shape}")
    return rows


def _wide(values: Array) -> Array:
    return values.astype(jnp.float64 if values.dtype == jnp.float64 else jnp.float32)


def _classes(name: str, outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array, int]:
    """Predicted classes, -1 where an output is NaN, the true ones, and how many can be predicted."""
    outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
    batch = outputs.shape[:1]
    single = outputs.shape in (batch, (*batch, 1))
    if outputs.ndim and single and targets.shape in (batch, (*batch, 1)):
        outputs = outputs.reshape(-1, 1)
        predicted, true, classes = outputs[:, 0] > 0, targets.reshape(-1), 2
        true = true > jnp.zeros_like(true)
    elif outputs.ndim == 2 and not single and targets.shape == outputs.shape:
        predicted, true, classes = jnp.argmax(outputs, axis=1), jnp.argmax(targets, axis=1), outputs.shape[1]
    elif outputs.ndim == 2 and not single and targets.shape == batch and _whole(targets):
        predicted, true, classes = jnp.argmax(outputs, axis=1), targets, outputs.shape[1]
    else:
        raise ValueError(
            f"{name}: expected outputs (batch, classes) and integer labels (batch,) or one-hot rows, "
            f"got outputs {outputs.shape} and targets {targets.dtype} {targets.shape}"
        )
    lost = jnp.any(jnp.isnan(outputs), axis=1)
    return jnp.where(lost, -1, predicted.astype(jnp.int32)), true.astype(jnp.int32), classes


def _whole(values: Array) -> bool:
    return bool(jnp.issubdtype(values.dtype, jnp.integer))


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
    outputs = _wide(outputs).reshape(outputs.shape[0], -1)
    return outputs, targets.astype(outputs.dtype).reshape(outputs.shape)
