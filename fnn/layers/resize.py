"""Layers that enlarge pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
from jax import Array
from jaxtyping import Float

from fnn.kernels import acc
from fnn.layer import Layer, LayerError, Params, stateless
from fnn.layers.checks import LARGEST, need_floating, per_axis, sizes, spatial_axes
from fnn.registry import register

_METHODS = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


@register
def upsample(
    scale: int | Sequence[int], method: Literal["nearest", "bilinear", "bicubic"] = "nearest"
) -> Layer:
    """Enlarge space by whole factors, with pixel centres at half steps (as PyTorch without align_corners).

    Args:
        scale: How many times larger, one number for all spatial axes or one for each.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` (Keys 1981, a = −0.5; at the border the
            kernel's weights inside the picture are rescaled to 1).

    Raises:
        LayerError: The input has no 1, 2 or 3 spatial axes, or an axis would reach 2³¹; between cells nothing
            lies for integers.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.upsample(2).apply({}, {}, jnp.array([1.0, 2.0]).reshape(1, 2, 1))[0].ravel())
        [1. 1. 2. 2.]
    """
    sizes("upsample", scale=scale)
    if method not in _METHODS:
        raise ValueError(f"upsample: method must be one of {', '.join(_METHODS)}, got {method!r}")

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *larger c"]:
        axes = spatial_axes(x, scale)
        if method != "nearest":
            need_floating(x)
        factors = per_axis("upsample", "scale", scale, axes)
        shape = (x.shape[0], *(n * f for n, f in zip(x.shape[1:-1], factors, strict=True)), x.shape[-1])
        if max(shape) > LARGEST:
            raise LayerError(f"expected an output whose axes are below 2**31, got {shape}")
        y: Array = jax.image.resize(x.astype(acc(x.dtype)), shape, _METHODS[method])
        return y.astype(x.dtype)

    return stateless("upsample", forward)
