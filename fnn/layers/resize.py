"""Layers that enlarge pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from fnn.kernels import acc
from fnn.layer import Layer, LayerError, Params, stateless
from fnn.layers.checks import LARGEST, need_floating, per_axis, sizes, spatial_axes
from fnn.registry import register

_METHODS = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


_LONG = 64
"""Pixels of an axis: for fewer a sum over all of them is as fast, and its gradient faster."""
_PHASES = 16
"""Pixels that are made of one: as many sums are written out."""


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
        y: Array = x.astype(acc(x.dtype))
        if method == "bicubic":
            for axis, factor in enumerate(factors, start=1):
                if y.shape[axis] > _LONG and factor <= _PHASES:
                    y = _among_neighbours(y, axis, factor)
        y = jax.image.resize(y, shape, _METHODS[method])
        return y.astype(x.dtype)

    return stateless("upsample", forward)


def _among_neighbours(x: Array, axis: int, factor: int) -> Array:
    """One axis enlarged as `jax.image.resize` does it, which for each pixel sums over the whole axis.

    Only the nearest have a part in it. What lies outside weighs nothing, and the other weights are divided by
    their sum.
    """
    n = x.shape[axis]
    reach = np.arange(-2, 3)
    middles = (np.arange(factor) + 0.5) / factor - 0.5
    weights = _keys(reach[:, None] - middles)
    cells = np.arange(n)[:, None] + reach
    sums = ((cells >= 0) & (cells < n)) @ weights
    sides = [(2, 2) if a == axis else (0, 0) for a in range(x.ndim)]
    wide = jnp.pad(x, sides)
    near = [lax.slice_in_dim(wide, i, i + n, axis=axis) for i in range(len(reach))]
    lengths = [n if a == axis else 1 for a in range(x.ndim)]
    phases = []
    for own, total in zip(weights.T, sums.T, strict=True):
        mixed = sum(float(w) * pixel for w, pixel in zip(own, near, strict=True) if w)
        phases.append(mixed / jnp.asarray(total.reshape(lengths), x.dtype))
    return jnp.stack(phases, axis + 1).reshape(*x.shape[:axis], n * factor, *x.shape[axis + 1 :])


def _keys(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = −0.5."""
    d = np.abs(distance)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))
