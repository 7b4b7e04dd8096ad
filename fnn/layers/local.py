"""Locally connected layers: convolution's windows without, or with less, sharing of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from fnn.kernels import acc, quick_key
from fnn.kernels.windows import window_slices
from fnn.layer import Key, Layer, LayerError, Params, Shaped, leaf, stateless
from fnn.layers.checks import few, need_channels, need_floating, per_axis, positive, sizes, spatial_axes
from fnn.layers.conv import Size
from fnn.layers.initializers import Initializer, drawn, initializer
from fnn.layers.padding import Padding, check_padding, pairs
from fnn.registry import register


@register
def local_conv(
    features: int,
    kernel: Size,
    *,
    stride: Size = 1,
    padding: Padding = "SAME",
    share: Sequence[int] | None = None,
    bias: bool = True,
    kernel_init: str | Initializer = "he_normal",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """Locally connected: the windows of `conv`, each with weights of its own.

    With ``share=(r, c)`` the output is cut into an r × c grid of blocks (all of one size, the last of a
    row or column may be smaller), and weights are shared inside each block; ``share=(1, 1)`` is `conv`.
    ``x`` is ``(batch, height, width, in)``, ``y`` is ``(batch, height', width', features)``; parameters are
    ``kernel`` ``(r, c, kh, kw, in, features)`` and ``bias`` ``(r, c, features)``, where without ``share``
    the grid is the output itself.

    Args:
        features: The number of output channels.
        kernel: The window, one number for both axes or one for each.
        stride, padding: As in `conv`.
        share: The grid (rows, columns) of blocks; None: no two windows share.
        bias, kernel_init, bias_init: As in `conv`; every window's kernel is drawn with the fan of one window.

    Raises:
        LayerError: As in `conv`, or the grid would leave a block without an output.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> for share in (None, (2, 2), (1, 1)):
        ...     params, _ = fnn.local_conv(4, 3, share=share).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
        ...     print(share, fnn.count(params))
        None 2560
        (2, 2) 160
        (1, 1) 40

    Source: LeCun, Generalization and network design strategies, 1989; Taigman et al., DeepFace, CVPR 2014.
    """
    positive("local_conv", features=features)
    sizes("local_conv", kernel=kernel, stride=stride, share=share)
    check_padding("local_conv", padding)
    if share is not None and (not isinstance(share, Sequence) or len(share) != 2):
        raise ValueError(f"local_conv: share must be (rows, columns), got {share!r}")
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)

    def geometry(x: Shaped) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
        if x.ndim != 4:
            spatial_axes(x, (1, 1))
        need_floating(x)
        window = per_axis("local_conv", "kernel", kernel, 2)
        steps = per_axis("local_conv", "stride", stride, 2)
        few("local_conv", **{"cells of a window": math.prod(window)})
        return window, steps, pairs(x.shape[1:-1], window, steps, padding)

    def init(key: Key, x: Shaped) -> Params:
        window, steps, sides = geometry(x)
        out = _output(x, window, steps, sides)
        grid = out if share is None else tuple(share)
        _block(out, grid)
        keys = jax.random.split(quick_key(key), (2, *grid))
        params = {"kernel": _each("kernel", keys[0], make_kernel, (*window, x.shape[-1], features))}
        if bias:
            params["bias"] = _each("bias", keys[1], make_bias, (features,))
        return params

    def forward(params: Params, x: Float[Array, "batch height width in"]) -> Float[Array, "batch h w out"]:
        window, steps, sides = geometry(x)
        weights = leaf(params, "kernel")
        need_channels(x, weights.shape[-2])
        out = _output(x, window, steps, sides)
        if share is None and weights.shape[:2] != out:
            raise LayerError(f"expected an output of {weights.shape[:2]}, as its parameters have, got {out}")
        patches = jnp.stack(window_slices(x, window, steps, sides, fill=0.0), axis=3)
        return _blockwise(patches, weights, leaf(params, "bias") if bias else None)

    return stateless("local_conv", forward, init)


def _output(
    x: Shaped, window: Sequence[int], stride: Sequence[int], sides: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    axes = zip(x.shape[1:-1], sides, window, stride, strict=True)
    return tuple((n + sum(s) - k) // t + 1 for n, s, k, t in axes)


def _each(name: str, keys: Array, init: Initializer, shape: tuple[int, ...]) -> Array:
    """An array of this shape for every key of a grid, each drawn by itself."""
    draw: Callable[[Array], Array] = jax.vmap(jax.vmap(lambda key: drawn(name, init, key, shape)))
    return draw(keys)


def _block(out: Sequence[int], grid: Sequence[int]) -> tuple[int, int]:
    rows, columns = (-(-n // g) for n, g in zip(out, grid, strict=True))
    if (grid[0] - 1) * rows >= out[0] or (grid[1] - 1) * columns >= out[1]:
        raise LayerError(
            f"expected a grid of blocks that fill an output of {tuple(out)}, got share={tuple(grid)}, "
            f"where blocks of {rows} x {columns} leave some without an output"
        )
    return rows, columns


def _blockwise(patches: Array, weights: Array, bias: Array | None) -> Array:
    """The patches (batch, h, w, cells, in) times their block's kernel, plus its bias."""
    n, h, w = patches.shape[:3]
    r, c = weights.shape[:2]
    features = weights.shape[-1]
    rows, columns = _block((h, w), (r, c))
    patches = jnp.pad(patches, ((0, 0), (0, r * rows - h), (0, c * columns - w), (0, 0), (0, 0)))
    patches = patches.reshape(n, r, rows, c, columns, -1)
    kernels = weights.reshape(r, c, -1, features).astype(patches.dtype)
    y = jnp.einsum("nrhcwk,rckf->nrhcwf", patches, kernels)
    if bias is not None:
        wide = acc(y.dtype)
        y = (y.astype(wide) + bias.reshape(1, r, 1, c, 1, features).astype(wide)).astype(y.dtype)
    return y.reshape(n, r * rows, c * columns, features)[:, :h, :w]
