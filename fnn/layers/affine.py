"""Scales and biases, applied in the accumulation type so that their gradients are summed in it."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from fnn import kernels
from fnn.kernels import acc
from fnn.layer import Key, Layer, Params, Shaped, leaf, stateless
from fnn.layers.checks import need_channels, need_floating, need_rank
from fnn.registry import register


@register
def layer_scale(start: float = 1e-6) -> Layer:
    """Multiply every channel by a learned number; near 0 at first, it lets a residual body in by and by.

    The parameter is ``scale`` ``(channels,)``.

    Args:
        start: What all channels start from.

    Raises:
        LayerError: The input is of integers or other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> layer = fnn.layer_scale(0.5)
        >>> params, _ = layer.init(jax.random.key(0), jnp.ones((1, 2)))
        >>> print(layer.apply(params, {}, jnp.ones((1, 2)))[0])
        [[0.5 0.5]]

    Source: Touvron et al. 2021, arXiv:2103.17239.
    """

    def init(key: Key, x: Shaped) -> Params:
        need_rank(x, 2)
        need_floating(x)
        return {"scale": jnp.full((x.shape[-1],), start, jnp.float32)}

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *space c"]:
        need_rank(x, 2)
        need_floating(x)
        scale = leaf(params, "scale")
        need_channels(x, scale.shape[0])
        return scale_and_shift(x.astype(acc(x.dtype)), scale, None).astype(x.dtype)

    return stateless("layer_scale", forward, init)


def along_channels(v: Array, ndim: int) -> Array:
    """A vector over channels with leading axes of 1, so that it broadcasts without promotion of rank."""
    return v.reshape((1,) * (ndim - 1) + (-1,))


def add_bias(params: Params, y: Array) -> Array:
    """``y + bias`` over the last axis. In bfloat16, too, the bias's gradient is summed in float32."""
    return kernels.add_channels(y, leaf(params, "bias"))


def scale_and_shift(y: Array, scale: Array | None, bias: Array | None) -> Array:
    """``y * scale + bias`` over the last axis, in the type of ``y``."""
    if scale is not None:
        y = y * along_channels(scale, y.ndim).astype(y.dtype)
    if bias is not None:
        y = y + along_channels(bias, y.ndim).astype(y.dtype)
    return y
