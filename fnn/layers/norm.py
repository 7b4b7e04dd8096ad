"""Normalisation. Statistics are made in float32 or wider, the variance in two passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from fnn import kernels
from fnn.kernels import acc
from fnn.layer import Key, Layer, LayerError, Params, Shaped, State, leaf, on_device, stateless, static_train
from fnn.layers.affine import scale_and_shift
from fnn.layers.checks import few, fraction, need_channels, need_floating, need_rank, positive
from fnn.registry import register


@register
def batch_norm(
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    *,
    scale: bool = True,
    bias: bool = True,
    axis_name: str | None = None,
) -> Layer:
    """Normalise every channel by its mean and variance over the batch and space.

    In training the batch is normalised by its own biased variance, and the running statistics move:
    ``new = momentum * old + (1 - momentum) * batch``, from mean 0 and variance 1, with the unbiased
    variance, as in PyTorch (whose momentum is ``1 - momentum``). In evaluation they are used, unchanged.
    Parameters are ``scale`` and ``bias`` ``(channels,)``, state is ``mean`` and ``var`` ``(channels,)``.

    Args:
        momentum: How much of the running statistics is kept at each step, 0..1.
        epsilon: Added to the variance.
        scale: Whether the result is multiplied by a learned scale.
        bias: Whether a learned bias is added.
        axis_name: The mapped axis (``jax.vmap``, ``shard_map``) over which the batch is spread, if it is.

    Raises:
        LayerError: In training there is but one value a channel, or no axis of the name; the input is of
            integers or other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.array([[0.0], [2.0]])
        >>> params, state = fnn.batch_norm().init(jax.random.key(0), x)
        >>> y, state = fnn.batch_norm().apply(params, state, x, train=True)
        >>> print(state["mean"], state["var"])
        [0.1] [1.1]

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    fraction("batch_norm", momentum=momentum)

    def init(key: Key, x: Shaped) -> tuple[Params, State]:
        need_rank(x, 2)
        need_floating(x)
        channels = (x.shape[-1],)
        state = {"mean": jnp.zeros(channels, jnp.float32), "var": jnp.ones(channels, jnp.float32)}
        return _make(channels, scale, bias), state

    def apply(
        params: Params, state: State, x: Array, *, key: Key | None = None, train: bool = False
    ) -> tuple[Array, State]:
        x = on_device(x)
        need_rank(x, 2)
        need_floating(x)
        mean, var = leaf(state, "mean"), leaf(state, "var")
        need_channels(x, mean.shape[0])
        if static_train(train):
            batch_mean, batch_var, n = _moments(x, axis_name)
            state = {
                "mean": _move(mean, batch_mean, momentum),
                "var": _move(var, batch_var * (n / (n - 1)), momentum),
            }
            mean, var = batch_mean, batch_var
        wide = acc(x.dtype)
        weight, shift = _learned(params, scale, bias)
        factor = lax.rsqrt(var.astype(wide) + epsilon)
        factor = factor if weight is None else factor * weight.astype(wide)
        offset = jnp.zeros_like(factor) if shift is None else shift.astype(wide)
        return kernels.spread(offset, factor, x, mean.astype(wide)), state

    return Layer(init, apply, "batch_norm")


@register
def layer_norm(epsilon: float = 1e-5, *, scale: bool = True, bias: bool = True) -> Layer:
    """Normalise every position of every example over its channels, the last axis.

    Parameters are ``scale`` and ``bias`` ``(channels,)``.

    Args:
        epsilon: Added to the variance.
        scale, bias: Whether the result is scaled and shifted by learned vectors.

    Raises:
        LayerError: The input is of integers or other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.array([[1.0, 3.0]])
        >>> params, _ = fnn.layer_norm().init(jax.random.key(0), x)
        >>> print(fnn.layer_norm(epsilon=0.0).apply(params, {}, x)[0])
        [[-1.  1.]]

    Source: Ba et al. 2016, arXiv:1607.06450.
    """

    def init(key: Key, x: Shaped) -> Params:
        need_rank(x, 2)
        need_floating(x)
        return _make((x.shape[-1],), scale, bias)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *space c"]:
        need_rank(x, 2)
        need_floating(x)
        y = _standardise(x.astype(acc(x.dtype)), (x.ndim - 1,), epsilon)
        return scale_and_shift(y, *_learned(params, scale, bias, x)).astype(x.dtype)

    return stateless("layer_norm", forward, init)


@register
def group_norm(groups: int = 32, epsilon: float = 1e-5, *, scale: bool = True, bias: bool = True) -> Layer:
    """Normalise every example over space and each of ``groups`` groups of neighbouring channels.

    One group is layer normalisation over the whole example, as many as channels instance normalisation.
    Parameters are ``scale`` and ``bias`` ``(channels,)``.

    Args:
        groups: The number of groups; it divides the channels.
        epsilon: Added to the variance.
        scale, bias: Whether the result is scaled and shifted by learned vectors.

    Raises:
        LayerError: The channels are no multiple of the groups; the input is of integers.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
        >>> params, _ = fnn.group_norm(2).init(jax.random.key(0), x)
        >>> print(fnn.group_norm(2, epsilon=0.0).apply(params, {}, x)[0])
        [[-1.  1. -1.  1.]]

    Source: Wu & He 2018, arXiv:1803.08494.
    """
    positive("group_norm", groups=groups)

    def check(x: Shaped) -> None:
        need_rank(x, 2)
        need_floating(x)
        if x.shape[-1] % groups:
            raise LayerError(f"expected channels in a multiple of {groups} groups, got {x.shape}")

    def init(key: Key, x: Shaped) -> Params:
        check(x)
        return _make((x.shape[-1],), scale, bias)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *space c"]:
        check(x)
        wide = x.astype(acc(x.dtype)).reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
        axes = (*range(1, x.ndim - 1), x.ndim)
        y = _standardise(wide, axes, epsilon).reshape(x.shape)
        return scale_and_shift(y, *_learned(params, scale, bias, x)).astype(x.dtype)

    return stateless("group_norm", forward, init)


@register
def local_response_norm(size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Layer:
    """Divide by ``(k + alpha / size * sum of squares of size neighbouring channels) ** beta``.

    The form of Caffe and PyTorch; AlexNet's paper has k = 2 and does not divide alpha by the size.

    Args:
        size: How many channels, the one itself in the middle.
        alpha, beta, k: The constants of the formula.

    Raises:
        LayerError: The input is of integers.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.local_response_norm(1, alpha=3.0, beta=0.5).apply({}, {}, jnp.ones((1, 1)))[0])
        [[0.5]]

    Source: Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
    """
    positive("local_response_norm", size=size)
    few("local_response_norm", size=size)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *space c"]:
        need_floating(x)
        wide = x.astype(acc(x.dtype))
        before = size // 2
        widths = [(0, 0)] * (x.ndim - 1) + [(before, size - 1 - before)]
        squares = jnp.pad(jnp.square(wide), widths)
        channels = x.shape[-1]
        total = sum(
            (lax.slice_in_dim(squares, i, i + channels, axis=-1) for i in range(1, size)),
            start=lax.slice_in_dim(squares, 0, channels, axis=-1),
        )
        return (wide * (k + alpha / size * total) ** -beta).astype(x.dtype)

    return stateless("local_response_norm", forward)


def _make(channels: tuple[int, ...], scale: bool, bias: bool) -> Params:
    return {
        **({"scale": jnp.ones(channels, jnp.float32)} if scale else {}),
        **({"bias": jnp.zeros(channels, jnp.float32)} if bias else {}),
    }


def _learned(
    params: Params, scale: bool, bias: bool, x: Array | None = None
) -> tuple[Array | None, Array | None]:
    learned = (leaf(params, "scale") if scale else None, leaf(params, "bias") if bias else None)
    for vector in learned:
        if x is not None and vector is not None:
            need_channels(x, vector.shape[0])
    return learned


def _moments(x: Array, axis_name: str | None) -> tuple[Array, Array, int]:
    """Mean and biased variance over all axes but the last, and of how many values."""
    n = math.prod(x.shape[:-1]) * _mapped(axis_name)
    if n < 2:
        raise LayerError(f"expected two or more values a channel in training, got {x.shape}")
    own, var = kernels.moments(x)
    if axis_name is None:
        return own, var, n
    mean = lax.pmean(own, axis_name)
    return mean, lax.pmean(var + jnp.square(own - mean), axis_name), n


def _mapped(axis_name: str | None) -> int:
    """The length of a mapped axis; 1 without one."""
    try:
        return 1 if axis_name is None else lax.axis_size(axis_name)
    except NameError:
        raise LayerError(
            f"expected to run where the axis {axis_name!r} is mapped, as in jax.vmap(..., axis_name=...)"
        ) from None


def _move(old: Array, batch: Array, momentum: float) -> Array:
    return (momentum * old + (1 - momentum) * batch.astype(old.dtype)).astype(old.dtype)


def _standardise(x: Array, axes: Sequence[int], epsilon: float) -> Array:
    centred = x - jnp.mean(x, axes, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + epsilon)
