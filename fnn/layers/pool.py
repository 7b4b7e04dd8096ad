"""Pooling: the largest or the mean value of windows, or of all space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from fnn import kernels
from fnn.kernels import acc
from fnn.kernels.windows import reduce_windows
from fnn.layer import Layer, LayerError, Params, stateless
from fnn.layers.checks import few, need_floating, per_axis, sizes, spatial_axes
from fnn.layers.conv import Size
from fnn.layers.padding import Padding, check_padding, pairs
from fnn.registry import register

_COUNTED = 1 << 24
"""Windows along an axis whose cells `avg_pool` counts, in so many numbers on the host."""


@register
def max_pool(
    window: Size, stride: Size | None = None, padding: Padding = "VALID", *, ceil_mode: bool = False
) -> Layer:
    """The largest value of each window, channel by channel. Padded cells never win.

    Where several cells of a window are equally large the first, in row order, takes the whole gradient.

    Args:
        window: The window, one number for all spatial axes or one for each.
        stride: Steps between windows; None: windows side by side.
        padding: As in `conv`.
        ceil_mode: Whether a last window that begins inside the input may reach beyond its end, as in PyTorch
            and Caffe; otherwise the cells that it would see are left out.

    Raises:
        LayerError: The input has another rank, no window fits, or one lies in the padding alone.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> y, _ = fnn.max_pool(2).apply({}, {}, jnp.arange(16.0).reshape(1, 4, 4, 1))
        >>> print(y[0, :, :, 0])
        [[ 5.  7.]
         [13. 15.]]
    """
    sizes("max_pool", window=window, stride=stride)
    check_padding("max_pool", padding)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *out c"]:
        cells, steps, sides = _geometry("max_pool", x, window, stride, padding, ceil_mode)
        _counts(x.shape[1:-1], cells, steps, sides)
        return kernels.max_pool(x, kernels.Windows(x.shape[1:-1], cells, steps, sides))

    return stateless("max_pool", forward, selects=True)


@register
def avg_pool(
    window: Size, stride: Size | None = None, padding: Padding = "VALID", *, ceil_mode: bool = False
) -> Layer:
    """The mean of each window, channel by channel. Padded cells do not count.

    Args:
        window, stride, padding, ceil_mode: As in `max_pool`.

    Raises:
        LayerError: As in `max_pool`, or the input is of integers.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> y, _ = fnn.avg_pool(3, 1, "SAME").apply({}, {}, jnp.ones((1, 4, 4, 1)))
        >>> print(y.min(), y.max())
        1.0 1.0
    """
    sizes("avg_pool", window=window, stride=stride)
    check_padding("avg_pool", padding)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *out c"]:
        cells, steps, sides = _geometry("avg_pool", x, window, stride, padding, ceil_mode)
        need_floating(x)
        wide = x.astype(acc(x.dtype))
        total: Array = reduce_windows(wide, cells, steps, sides, 0.0, jnp.add)
        share = jnp.asarray(1 / _counts(x.shape[1:-1], cells, steps, sides), wide.dtype)
        return (total * share).astype(x.dtype)

    return stateless("avg_pool", forward)


@register
def adaptive_avg_pool(size: Size) -> Layer:
    """The mean of as many windows as are wanted, whatever the input's size.

    Window ``i`` of ``size`` over an axis of ``n`` cells reaches from cell ``floor(i n / size)`` up to cell
    ``ceil((i + 1) n / size)``, as in PyTorch: windows overlap where ``n`` is no multiple of ``size``, and
    repeat cells where it is less.

    Args:
        size: The output's space, one number for all spatial axes or one for each.

    Raises:
        LayerError: The input is of integers or has another rank.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.adaptive_avg_pool(2).apply({}, {}, jnp.arange(3.0).reshape(1, 3, 1))[0].ravel())
        [0.5 1.5]
    """
    sizes("adaptive_avg_pool", size=size)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *out c"]:
        wanted = per_axis("adaptive_avg_pool", "size", size, spatial_axes(x, size))
        few("adaptive_avg_pool", **{"windows along an axis": max(wanted)})
        need_floating(x)
        y = x.astype(acc(x.dtype))
        for axis, number in enumerate(wanted, start=1):
            y = y if y.shape[axis] == number else _averaged(y, axis, number)
        return y.astype(x.dtype)

    return stateless("adaptive_avg_pool", forward)


def _averaged(x: Array, axis: int, number: int) -> Array:
    n = x.shape[axis]
    ends = [(i * n // number, -(-(i + 1) * n // number)) for i in range(number)]
    return jnp.stack([lax.slice_in_dim(x, a, b, axis=axis).mean(axis) for a, b in ends], axis)


def _global_avg(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch c"]:
    need_floating(x)
    return jnp.mean(x.astype(acc(x.dtype)), axis=_space(x)).astype(x.dtype)


def _global_max(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch c"]:
    cells = x.reshape(x.shape[0], math.prod(x.shape[i] for i in _space(x)), x.shape[-1])
    where = jnp.argmax(cells, axis=1, keepdims=True)
    return jnp.take_along_axis(cells, where, axis=1)[:, 0]


global_avg_pool = register(stateless("global_avg_pool", _global_avg))
"""The mean over all space: ``(batch, *space, channels)`` to ``(batch, channels)``.

Source: Lin et al., Network in network, 2013, arXiv:1312.4400.
"""

global_max_pool = register(stateless("global_max_pool", _global_max))
"""The largest value over all space; of several the first takes the whole gradient."""


def _space(x: Array) -> tuple[int, ...]:
    if x.ndim < 3:
        raise LayerError(f"expected an input of rank 4 (batch, height, width, channels), got {x.shape}")
    return tuple(range(1, x.ndim - 1))


def _geometry(
    kind: str, x: Array, window: Size, stride: Size | None, padding: Padding, ceil_mode: bool
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
    axes = spatial_axes(x, window)
    cells = per_axis(kind, "window", window, axes)
    few(kind, **{"cells of a window's side": max(cells)})
    steps = cells if stride is None else per_axis(kind, "stride", stride, axes)
    sides = pairs(x.shape[1:-1], cells, steps, padding)
    if ceil_mode:
        ends = zip(x.shape[1:-1], cells, steps, sides, strict=True)
        sides = tuple((a, b + _beyond(n, k, s, a, b)) for n, k, s, (a, b) in ends)
    return cells, steps, sides


def _beyond(length: int, window: int, stride: int, before: int, after: int) -> int:
    """Cells by which one more window would reach beyond an axis; 0 if that window began outside of it."""
    left = (length + before + after - window) % stride
    begin = length + before + after - window - left + stride
    return stride - left if left and begin < length + before else 0


def _counts(
    space: Sequence[int], window: Sequence[int], stride: Sequence[int], sides: Sequence[tuple[int, int]]
) -> np.ndarray:
    """How many cells of each window lie inside the input: (1, *out, 1)."""
    counts = np.ones((1,) * (len(space) + 2))
    for axis, (n, k, s, (a, b)) in enumerate(zip(space, window, stride, sides, strict=True), start=1):
        if max(a, b) >= k:  # said before so many windows are counted
            raise LayerError(f"expected cells in every window of {k}, got an axis of {n} padded by {(a, b)}")
        windows = (n + a + b - k) // s + 1
        if windows > _COUNTED:
            raise LayerError(f"expected at most {_COUNTED} windows along an axis, got {windows}")
        first = np.arange(windows) * s - a
        inside = np.minimum(first + k, n) - np.maximum(first, 0)
        if inside.min() < 1:
            raise LayerError(f"expected cells in every window of {k}, got an axis of {n} padded by {(a, b)}")
        shape = [1] * counts.ndim
        shape[axis] = -1
        counts = counts * inside.reshape(shape)
    return counts
