"""The windows of a sliding layer, as strided slices.

A few slices and their maximum or sum are many times faster on a CPU, in both directions, than
``lax.reduce_window``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

from jax import Array, lax

Sides = Sequence[tuple[int, int]]
"""Cells of padding before and after each spatial axis."""


def reduce_windows(
    x: Array,
    window: Sequence[int],
    stride: Sequence[int],
    sides: Sides,
    fill: float,
    combine: Callable[[Array, Array], Array],
) -> Array:
    """All values of each window combined, channel by channel: ``(batch, *out, channels)``.

    One axis after the other, the last first: along each, what comes first in the row is the first argument.
    """
    x = _padded(x, sides, fill)
    for axis in reversed(range(1, x.ndim - 1)):
        cells, step = window[axis - 1], stride[axis - 1]
        out = (x.shape[axis] - cells) // step + 1
        slices = [lax.slice_in_dim(x, c, c + (out - 1) * step + 1, step, axis) for c in range(cells)]
        x = functools.reduce(combine, slices)
    return x


def window_slices(
    x: Array, window: Sequence[int], stride: Sequence[int], sides: Sides, fill: float
) -> list[Array]:
    """For every cell of the window, in row order, its value in all windows: ``(batch, *out, channels)``."""
    x = _padded(x, sides, fill)
    out = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], window, stride, strict=True)]
    return [
        lax.slice(
            x,
            (0, *cell, 0),
            (
                x.shape[0],
                *(c + (o - 1) * s + 1 for c, o, s in zip(cell, out, stride, strict=True)),
                x.shape[-1],
            ),
            (1, *stride, 1),
        )
        for cell in itertools.product(*map(range, window))
    ]


def _padded(x: Array, sides: Sides, fill: float) -> Array:
    if not any(a or b for a, b in sides):
        return x
    return lax.pad(x, lax.full((), fill, x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in sides), (0, 0, 0)])
