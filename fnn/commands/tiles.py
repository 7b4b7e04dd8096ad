"""A function of pictures that is too large for whole ones, applied to overlapping parts of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from PIL.Image import Image as Picture

SIDES = (64, 128, 256)
"""Of the parts, in pixels. A few sizes, so that few programs are compiled, whatever the pictures' own."""
LARGEST = 512
"""Of a part's side when it is enlarged, where that will do: a network may hold 64 values for each pixel."""
_ROOM, _LEAST_ROOM = 8, 4
"""How many times the reach a part's side is: more than half of its pixels are kept then, or a quarter."""

Enlarge = Callable[[np.ndarray], "Array"]
"""Bytes ``(height, width, channels)`` to bytes ``(height·s, width·s, channels)``."""


class Window(NamedTuple):
    """A part of an axis, from ``start`` to ``stop``, and its piece that is kept, ``first`` to ``last``."""

    start: int
    stop: int
    first: int
    last: int


def windows(length: int, scale: int, reach: int | None) -> list[Window]:
    """An axis as overlapping parts of one size, and the piece that each makes.

    The first begins where the axis does, and the last ends where it does, so that a function which fills up
    what lies beyond does so there alone. Everywhere else a piece is ``reach`` away from its part's ends.

    Args:
        length: Of the axis.
        scale: How many times longer it becomes.
        reach: From how many pixels away a pixel is made; None: from all.

    Example:
        >>> windows(100, 2, reach=4)
        [Window(start=0, stop=64, first=0, last=40), Window(start=36, stop=100, first=40, last=100)]
        >>> windows(100, 2, reach=None)
        [Window(start=0, stop=100, first=0, last=100)]
    """
    side = length if reach is None else _side(length, scale, reach)
    if reach is None or side == length:
        return [Window(0, length, 0, length)]
    n = -((2 * reach - length) // (side - 2 * reach))
    starts = [i * (length - side) // (n - 1) for i in range(n)]
    edges = [0, *(start + reach for start in starts[1:]), length]
    return [Window(start, start + side, *ends) for start, ends in zip(starts, pairwise(edges), strict=True)]


def _side(length: int, scale: int, reach: int) -> int:
    """The largest of the sizes that fits; an axis that is shorter is one part."""
    sizes = [side for side in SIDES if side >= _ROOM * reach and scale * side <= LARGEST]
    sizes = sizes or [max(SIDES[-1], _LEAST_ROOM * reach)]
    return max((side for side in sizes if side <= length), default=length)


def in_tiles(picture: Picture, scale: int, enlarge: Enlarge, reach: int | None) -> Picture:
    """A picture, enlarged part by part: as the whole would be, in the memory of its bytes and of two parts.

    Args:
        picture: In a mode of 8 bits a channel.
        scale: How many times larger it becomes.
        enlarge: What enlarges a part.
        reach: From how many pixels away it makes a pixel; None: from all, and there is one part.
    """
    from PIL import Image

    large = Image.new(picture.mode, (scale * picture.width, scale * picture.height))

    def paste(down: Window, across: Window, pixels: Array) -> None:
        rows, columns = (
            slice(scale * (window.first - window.start), scale * (window.last - window.start))
            for window in (down, across)
        )
        made = np.asarray(pixels)[rows, columns]
        piece = Image.fromarray(made[..., 0] if made.shape[-1] == 1 else made)
        large.paste(piece, (scale * across.first, scale * down.first))

    axes = (windows(length, scale, reach) for length in (picture.height, picture.width))
    waiting: deque[tuple[Window, Window, Array]] = deque()
    for down, across in product(*axes):
        part = np.asarray(picture.crop((across.start, down.start, across.stop, down.stop)))
        waiting.append((down, across, enlarge(part.reshape(*part.shape[:2], -1))))
        if len(waiting) > 1:  # the device works at this one meanwhile
            paste(*waiting.popleft())
    while waiting:
        paste(*waiting.popleft())
    return large
