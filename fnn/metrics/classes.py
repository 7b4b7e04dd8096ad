"""Metrics of a classifier."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fnn.metrics.metric import Metric, Statistics, add, average, rows
from fnn.registry import register


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
        counted = rows(mask, true.shape[:1]) & (predicted >= 0) & (true >= 0) & (true < size)
        cell = jnp.where(counted, true * size + predicted, size * size)  # outside: dropped
        counts = jnp.zeros(size * size, jnp.int32).at[cell].add(1, mode="drop")
        return {"counts": counts.reshape(size, size)}

    return Metric(measure, add, lambda statistics: np.asarray(statistics["counts"]).tolist())


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
