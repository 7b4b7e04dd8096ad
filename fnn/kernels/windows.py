"""The windows of a sliding layer, as strided slices.

A few slices and their maximum or sum are many times faster on a CPU, in both directions, than
``lax.reduce_window``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Sides = Sequence[tuple[int, int]]
"""Cells of padding before and after each spatial axis."""


def reduce_windows(
    x: Any,
    window: Sequence[int],
    stride: Sequence[int],
    sides: Sides,
    fill: float,
    combine: Callable[[Any, Any], Any],
) -> Any:
    """All values of each window combined, channel by channel: ``(batch, *out, channels)``.

    One axis after the other, the last first: along each, what comes first in the row is the first argument.
    ``x`` may be a tuple of arrays, whose values are combined as tuples.
    """
    x = jax.tree.map(lambda a: _padded(a, sides, fill), x)
    for axis in range(len(window), 0, -1):
        cells, step = window[axis - 1], stride[axis - 1]

        def cell(c: int) -> Any:
            def cut(a: Array) -> Array:
                out = (a.shape[axis] - cells) // step + 1  # noqa: B023
                return lax.slice_in_dim(a, c, c + (out - 1) * step + 1, step, axis)  # noqa: B023

            return jax.tree.map(cut, x)  # noqa: B023

        x = functools.reduce(combine, map(cell, range(cells)))
    return x


def window_slices(
    x: Array,
    window: Sequence[int],
    stride: Sequence[int],
    sides: Sides,
    fill: float,
    dilation: Sequence[int] | None = None,
) -> list[Array]:
    """For every cell of the window, in row order, its value in all windows: ``(batch, *out, channels)``."""
    x = _padded(x, sides, fill)
    rates = dilation or (1,) * len(window)
    lengths = zip(x.shape[1:-1], window, stride, rates, strict=True)
    spans = [((n - (k - 1) * d - 1) // s) * s + 1 for n, k, s, d in lengths]  # from first to last window

    def cut(cell: tuple[int, ...]) -> Array:
        begin = [c * d for c, d in zip(cell, rates, strict=True)]
        end = [b + n for b, n in zip(begin, spans, strict=True)]
        return lax.slice(x, (0, *begin, 0), (x.shape[0], *end, x.shape[-1]), (1, *stride, 1))

    return [cut(cell) for cell in itertools.product(*map(range, window))]


def _padded(x: Array, sides: Sides, fill: float) -> Array:
    if not any(a or b for a, b in sides):
        return x
    # as NumPy's function it can be written as ONNX whatever the batch, as lax.pad it cannot
    return jnp.pad(x, ((0, 0), *sides, (0, 0)), constant_values=fill)
