"""Losses: per-example values of shape ``(batch,)``, and the regulariser.

A loss is a plain function ``(outputs, targets, *, hyperparameters) -> losses``. It knows neither
parameters nor batches: `reduce` makes one number of it, `l2_penalty` is added to that. Outputs of
a narrow dtype are widened to float32 before anything is summed.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from fnn.registry import register
from fnn.trees import KERNELS, mask


@register(group="loss")
def squared_error(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """The mean of (p - t)² over all axes but the first, so that the batch's mean is the MSE.

    Args:
        outputs: Predictions p, ``(batch, ...)``.
        targets: Of the same shape; ``(batch,)`` is also right for outputs ``(batch, 1)``.

    Returns:
        Losses of shape ``(batch,)``.

    Raises:
        ValueError: The shapes do not agree; nothing is broadcast.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import squared_error
        >>> print(squared_error(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0, 0.0], [3.0, 3.0]])))
        [2.  0.5]
    """
    return _row_mean(optax.squared_error(*_aligned("squared_error", outputs, targets)))


@register(group="loss")
def absolute_error(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """The mean of |p - t| over all axes but the first; its derivative at 0 is 0.

    Args:
        outputs: Predictions p, ``(batch, ...)``.
        targets: Of the same shape; ``(batch,)`` is also right for outputs ``(batch, 1)``.

    Returns:
        Losses of shape ``(batch,)``.

    Raises:
        ValueError: The shapes do not agree; nothing is broadcast.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import absolute_error
        >>> print(absolute_error(jnp.array([[1.0], [3.0]]), jnp.array([2.0, 5.0])))
        [1. 2.]
    """
    outputs, targets = _aligned("absolute_error", outputs, targets)
    return _row_mean(jnp.abs(outputs - targets))


@register(group="loss")
def charbonnier(outputs: ArrayLike, targets: ArrayLike, *, epsilon: float = 1e-3) -> Array:
    """The Charbonnier loss, sqrt(e² + epsilon²), e = p - t: |e| without its kink at 0.

    Args:
        outputs: Predictions p, ``(batch, ...)``.
        targets: Of the same shape; ``(batch,)`` is also right for outputs ``(batch, 1)``.
        epsilon: Below which an error counts as small, in units of the targets; from 1e-18 to 1e18, whose
            squares are above 0 and finite.

    Returns:
        Losses of shape ``(batch,)``, the mean over all axes but the first.

    Raises:
        ValueError: The shapes do not agree, or ``epsilon`` is outside its range.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import charbonnier
        >>> print(charbonnier(jnp.array([0.0, 4.0]), jnp.zeros(2), epsilon=3.0))
        [3. 5.]

    Source: Charbonnier et al. (1994), Two deterministic half-quadratic regularization algorithms for computed
    imaging; Lai et al. (2017), arXiv:1704.03915, for super-resolution.
    """
    if not 1e-18 <= epsilon <= 1e18:
        raise ValueError(f"charbonnier: expected epsilon from 1e-18 to 1e18, got {epsilon}")
    outputs, targets = _aligned("charbonnier", outputs, targets)
    return _row_mean(jnp.sqrt(jnp.square(outputs - targets) + float(epsilon) ** 2))


@register(group="loss")
def huber(outputs: ArrayLike, targets: ArrayLike, *, delta: float = 1.0) -> Array:
    """The Huber loss: 0.5 e² up to |e| = delta, delta (|e| - 0.5 delta) beyond, e = p - t.

    Args:
        outputs: Predictions p, ``(batch, ...)``.
        targets: Of the same shape; ``(batch,)`` is also right for outputs ``(batch, 1)``.
        delta: Where the parabola becomes a line, and the largest slope; above 0.

    Returns:
        Losses of shape ``(batch,)``, the mean over all axes but the first.

    Raises:
        ValueError: The shapes do not agree, or ``delta`` is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import huber
        >>> print(huber(jnp.array([0.5, 3.0]), jnp.zeros(2)))
        [0.125 2.5  ]

    Source: Huber (1964), Robust Estimation of a Location Parameter.
    """
    if not delta > 0:
        raise ValueError(f"huber: expected delta above 0, got {delta}")
    outputs, targets = _aligned("huber", outputs, targets)
    return _row_mean(optax.huber_loss(outputs, targets, delta=delta))


@register(group="loss")
def hinge(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """The soft margin max(0, 1 - y p), summed over the outputs of an example.

    Which targets mean what follows from the shapes:

    - outputs ``(batch, classes)``, integer labels ``(batch,)``: one against the rest, y = +1 for
      the label and -1 for every other class;
    - outputs ``(batch,)`` or ``(batch, 1)``, or targets of the outputs' shape: y = +1 where the
      target is above 0, else -1. So ±1, 0 / 1 and booleans all mean what they seem to.

    The derivative at the kink y p = 1 is 0, that of ``jax.nn.relu``. It is not optax's
    ``hinge_loss``: that one is ``maximum(0, 1 - y p)``, whose derivative at the kink JAX takes
    half of, so that an example exactly on the margin would still pull.

    Returns:
        Losses of shape ``(batch,)``; NaN where a label names no class or a target is NaN.

    Raises:
        ValueError: The shapes do not agree.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import hinge
        >>> print(hinge(jnp.array([2.0, 0.5, -1.0]), jnp.array([1.0, 1.0, 1.0])))
        [0.  0.5 2. ]
        >>> print(hinge(jnp.array([[2.0, -0.5, -3.0]]), jnp.array([0])))
        [0.5]

    Source: Cortes & Vapnik (1995), Support-Vector Networks; Rifkin & Klautau (2004), In Defense
    of One-Vs-All Classification.
    """
    return _row_sum(jax.nn.relu(_slack("hinge", outputs, targets)))


@register(group="loss")
def squared_hinge(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """The squared soft margin max(0, 1 - y p)², with the targets of `hinge`; smooth at the kink.

    Returns:
        Losses of shape ``(batch,)``.

    Raises:
        ValueError: The shapes do not agree.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import squared_hinge
        >>> print(squared_hinge(jnp.array([2.0, 0.5, -1.0]), jnp.array([1.0, 1.0, 1.0])))
        [0.   0.25 4.  ]
    """
    return _row_sum(jnp.square(jax.nn.relu(_slack("squared_hinge", outputs, targets))))


@register(group="loss")
def cross_entropy(outputs: ArrayLike, targets: ArrayLike, *, label_smoothing: float = 0.0) -> Array:
    """The cross entropy -Σ t log softmax(outputs), from logits.

    Args:
        outputs: Logits, ``(batch, classes)``.
        targets: Integer labels ``(batch,)``, or probabilities (one-hot) ``(batch, classes)``.
        label_smoothing: The share of the target spread evenly over all classes, 0 to 1.

    Returns:
        Losses of shape ``(batch,)``; NaN where a label names no class.

    Raises:
        ValueError: The shapes do not agree, or there are fewer than two classes.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import cross_entropy
        >>> print(cross_entropy(jnp.array([[0.0, 0.0], [0.0, 100.0]]), jnp.array([0, 1])))
        [0.6931472 0.       ]

    Source: label smoothing after Szegedy et al. (2016), Rethinking the Inception Architecture.
    """
    _check_smoothing("cross_entropy", label_smoothing)
    logits, targets = _wide("cross_entropy", outputs), jnp.asarray(targets)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            "cross_entropy: expected outputs (batch, classes) with two classes or more, "
            f"got {logits.shape}; for a single output: sigmoid_cross_entropy"
        )

    def against(rows: Array) -> Array:
        losses: Array = optax.softmax_cross_entropy(logits, optax.smooth_labels(rows, label_smoothing))
        return losses

    if targets.shape == logits.shape:
        return against(targets.astype(logits.dtype))
    labels, classes = _labels("cross_entropy", logits, targets), logits.shape[1]
    if label_smoothing == 0:  # no row of classes for each label is made
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    else:
        losses = against(jax.nn.one_hot(labels, classes, dtype=logits.dtype))
    return jnp.where(_known(labels, classes), losses, jnp.nan)


@register(group="loss")
def sigmoid_cross_entropy(outputs: ArrayLike, targets: ArrayLike, *, label_smoothing: float = 0.0) -> Array:
    """The binary cross entropy of sigmoid(outputs), from logits, for one label or several at once.

    Each output is a yes or no of its own. An example's loss is the mean over its outputs, so that
    the batch's mean is that of PyTorch's ``BCEWithLogitsLoss``.

    Args:
        outputs: Logits, ``(batch, ...)``.
        targets: Probabilities, 0 to 1, of the same shape; ``(batch,)`` is also right for
            outputs ``(batch, 1)``.
        label_smoothing: How far each target is drawn towards 1/2, 0 to 1.

    Returns:
        Losses of shape ``(batch,)``.

    Raises:
        ValueError: The shapes do not agree.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import sigmoid_cross_entropy
        >>> print(sigmoid_cross_entropy(jnp.array([[0.0], [100.0]]), jnp.array([0, 1])))
        [0.6931472 0.       ]
    """
    _check_smoothing("sigmoid_cross_entropy", label_smoothing)
    logits, probabilities = _aligned("sigmoid_cross_entropy", outputs, targets)
    smoothed = (1 - label_smoothing) * probabilities + label_smoothing / 2
    return _row_mean(optax.sigmoid_binary_cross_entropy(logits, smoothed))


def reduce(losses: Array, how: Literal["mean", "sum"] = "mean") -> Array:
    """One number of per-example losses.

    Raises:
        ValueError: ``how`` is neither ``"mean"`` nor ``"sum"``.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import reduce
        >>> print(reduce(jnp.array([1.0, 3.0])), reduce(jnp.array([1.0, 3.0]), "sum"))
        2.0 4.0
    """
    if how == "mean":
        return jnp.mean(losses)
    if how == "sum":
        return jnp.sum(losses)
    raise ValueError(f"reduce: expected 'mean' or 'sum', got {how!r}")


def l2_penalty(params: Any, strength: float | Array, pattern: str = KERNELS) -> Array:
    """The regulariser 0.5 λ ‖w‖² over the parameters that a pattern covers; its gradient is λ w.

    Args:
        params: A nested dict of parameters.
        strength: λ, at least 0.
        pattern: A glob over paths, see `fnn.trees.matches`; by default every kernel.

    Raises:
        ValueError: The pattern covers no parameter.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.losses import l2_penalty
        >>> params = {"dense1": {"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.array([100.0])}}
        >>> print(l2_penalty(params, 0.5))
        6.25
    """
    covered = zip(jax.tree.leaves(params), jax.tree.leaves(mask(pattern, params)), strict=True)
    weights = [_wide("l2_penalty", leaf) for leaf, chosen in covered if chosen]
    squares: Array = optax.tree.norm(weights, squared=True)
    return 0.5 * strength * squares


def _wide(name: str, values: ArrayLike) -> Array:
    """Floating values in the dtype that sums are taken in: float32, or float64 where they are."""
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"{name}: expected floating-point values, got {values.dtype} {values.shape}")
    return values.astype(np.promote_types(values.dtype, np.float32))  # jnp's refuses under strict promotion


def _aligned(name: str, outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    outputs, targets = _wide(name, outputs), jnp.asarray(targets)
    if outputs.ndim == 2 and outputs.shape == (*targets.shape, 1):
        outputs = outputs[:, 0]
    if outputs.ndim == 0 or outputs.shape != targets.shape:
        raise ValueError(
            f"{name}: expected outputs (batch, ...) and targets of the same shape, "
            f"got outputs {outputs.shape} and targets {targets.shape}"
        )
    return outputs, targets.astype(outputs.dtype)


def _labels(name: str, outputs: Array, targets: Array) -> Array:
    if targets.shape != outputs.shape[:1] or not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(
            f"{name}: expected integer labels {outputs.shape[:1]} or targets {outputs.shape} "
            f"for outputs {outputs.shape}, got {targets.dtype} {targets.shape}"
        )
    return targets.astype(jnp.int32)  # a narrow dtype would wrap in comparisons with many classes


def _known(labels: Array, classes: int) -> Array:
    """Which labels name a class: the others become NaN, where a negative one would count from the end."""
    return (labels >= 0) & (labels < classes)


def _slack(name: str, outputs: ArrayLike, targets: ArrayLike) -> Array:
    """1 - y p, for targets as `hinge` reads them."""
    outputs, targets = _wide(name, outputs), jnp.asarray(targets)
    if outputs.ndim == 2 and outputs.shape[1] > 1 and targets.shape != outputs.shape:
        labels = _labels(name, outputs, targets)
        y = 2 * jax.nn.one_hot(labels, outputs.shape[1], dtype=outputs.dtype) - 1
        return jnp.where(_known(labels, outputs.shape[1])[:, None], 1 - y * outputs, jnp.nan)
    outputs, targets = _aligned(name, outputs, targets)
    y = jnp.where(targets > 0, 1.0, jnp.where(targets <= 0, -1.0, jnp.nan))  # NaN stays NaN
    return 1 - y.astype(outputs.dtype) * outputs


def _row_mean(values: Array) -> Array:
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))


def _row_sum(values: Array) -> Array:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def _check_smoothing(name: str, label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: expected label_smoothing from 0 to 1, got {label_smoothing}")
