"""The windows of a sliding layer, as one strided slice for each of their cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jax import Array, lax


def window_slices(
    x: Array, window: Sequence[int], stride: Sequence[int], sides: Sequence[tuple[int, int]], fill: float
) -> list[Array]:
    """For every cell of the window, in row order, its value in all windows: (batch, *out, channels).

    A maximum or sum over these slices is several times faster on a CPU, in both directions, than
    ``lax.reduce_window``, and their stack is the input of a locally connected layer.
    """
    if any(a or b for a, b in sides):
        x = lax.pad(x, lax.full((), fill, x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in sides), (0, 0, 0)])
    space = x.shape[1:-1]
    out = [(n - k) // s + 1 for n, k, s in zip(space, window, stride, strict=True)]
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
