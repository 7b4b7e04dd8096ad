"""Boxes in images: whole numbers ``(n, 4)``, the top row, the left column, height and width."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

TRIES = 10
"""Sizes that are drawn for a box, of which the first that fits is taken."""


def draw_boxes(
    key: Array, n: int, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array]:
    """Boxes in images of a height and width, and for which images there is one.

    The area is drawn uniformly, as a share of the image's, and its width over its height uniformly
    in the logarithm, until both sides fit into the image, 10 times at the most. Where it stands is
    drawn uniformly, too. Where nothing fits the box is of no use.

    Args:
        key: Of the draw.
        n: How many.
        size: Height and width of the images.
        scale: The least and the largest share of the area.
        ratio: The least and the largest width over height.

    Returns:
        Boxes ``(n, 4)`` and booleans ``(n,)``.
    """
    # one draw for all: each costs as much to compile as all the rest
    drawn = jax.random.uniform(key, (n, 2 * TRIES + 2), jnp.float32)
    areas, aspects, places = jnp.split(drawn, (TRIES, 2 * TRIES), 1)
    area = (scale[0] + areas * (scale[1] - scale[0])) * math.prod(size)
    low, high = (math.log(bound) for bound in ratio)
    aspect = jnp.exp(low + aspects * (high - low))
    sides = jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)], -1)
    sides = jnp.round(jnp.minimum(sides, max(size) + 1.0)).astype(jnp.int32)
    limits = jnp.asarray(size, jnp.int32)
    fits = ((sides >= 1) & (sides <= limits.reshape(1, 1, 2))).all(-1)
    first = jnp.argmax(fits, 1).reshape(n, 1, 1)
    chosen = jnp.take_along_axis(sides, first, 1)[:, 0]
    room = jnp.maximum(limits.reshape(1, 2) - chosen, 0)
    corners = jnp.minimum(jnp.floor(places * (room + 1).astype(jnp.float32)).astype(jnp.int32), room)
    return jnp.concatenate([corners, chosen], 1), fits.any(1)


def inside(boxes: Array, size: tuple[int, int]) -> Array:
    """Which pixels ``(n, h, w, 1)`` of images of a height and width lie in the boxes.

    Args:
        boxes: ``(n, 4)``; a part of one may lie outside of the image.
        size: Height and width of the images.

    Example:
        >>> import jax.numpy as jnp
        >>> print(inside(jnp.array([[1, -1, 5, 3]]), (3, 4))[0, :, :, 0].astype(int))
        [[0 0 0 0]
         [1 1 0 0]
         [1 1 0 0]]
    """
    n = len(boxes)
    rows, columns = (
        jnp.arange(length, dtype=jnp.int32).reshape(1, -1) - boxes[:, axis].reshape(n, 1)
        for axis, length in enumerate(size)
    )
    below = (rows >= 0) & (rows < boxes[:, 2].reshape(n, 1))
    beside = (columns >= 0) & (columns < boxes[:, 3].reshape(n, 1))
    return below.reshape(n, -1, 1, 1) & beside.reshape(n, 1, -1, 1)
