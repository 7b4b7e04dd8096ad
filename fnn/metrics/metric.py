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
        counted = rows(mask, values.shape[:1])
        if values.ndim != 1:
            raise ValueError(f"average: expected one value per row {counted.shape}, got {values.shape}")
        whole = not jnp.issubdtype(values.dtype, jnp.floating)
        values = values.astype(jnp.int32) if whole else wide(values)
        return {"total": jnp.sum(jnp.where(counted, values, 0)), "count": jnp.sum(counted, dtype=jnp.int32)}

    return Metric(measure, add, mean)


def mean(statistics: Statistics) -> float:
    """Of a total and a count; NaN: nothing was counted."""
    count = int(statistics["count"])
    return float(statistics["total"]) / count if count else math.nan


def add(a: Statistics, b: Statistics) -> Statistics:
    """The sums of statistics that are sums, on the host."""
    summed: Statistics = jax.tree.map(lambda x, y: on_host(x) + on_host(y), a, b)
    return summed


def on_host(value: Any) -> Any:
    """A value in float64, or in int64 where it is whole."""
    array = np.asarray(value)
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)


def rows(mask: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Which rows count. They are chosen, never multiplied by 0: padding may hold NaN."""
    rows = jnp.asarray(mask)
    if rows.dtype != jnp.bool_ or rows.shape != shape:
        raise ValueError(f"metric: expected a bool mask {shape}, got {rows.dtype} {rows.shape}")
    return rows


def wide(values: Array) -> Array:
    """Values in the dtype that sums are taken in."""
    return values.astype(jnp.float64 if values.dtype == jnp.float64 else jnp.float32)
