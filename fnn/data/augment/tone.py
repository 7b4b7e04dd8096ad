"""Changes of an image's tones, as in Pillow's ``ImageOps``, for any value of white."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fnn.data.augment.checks import each

LEVELS = 256
"""Of 8-bit images: what `posterize` and `equalize` round to."""


def autocontrast(images: Array, white: float) -> Array:
    """Each channel of each image stretched, so that its least value is 0 and its largest is white."""
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    flat = high <= low
    stretched = (images - low) * (white / jnp.where(flat, 1, high - low))
    return jnp.where(flat, images, stretched)


def equalize(images: Array, white: float) -> Array:
    """The 256 levels of each channel of each image spread so that all are about as frequent."""
    n, height, width, channels = images.shape
    levels = _levels(images, white)

    def one(channel: Array) -> Array:
        counts = jnp.zeros(LEVELS, jnp.int32).at[channel].add(1)
        last = counts[channel.max()]
        step = (height * width - last) // (LEVELS - 1)
        before = jnp.cumsum(counts) - counts
        table = jnp.clip((before + step // 2) // jnp.maximum(step, 1), 0, LEVELS - 1)
        return jnp.where(step == 0, channel, table[channel])  # too few to spread, or all the same

    spread = jax.vmap(jax.vmap(one, 1, 1))(levels.reshape(n, height * width, channels))
    return _values(spread.reshape(images.shape), images, white)


def solarize(images: Array, thresholds: Array, white: float) -> Array:
    """The negative of what is at or above a threshold of each image ``(n,)``."""
    return jnp.where(images >= each(thresholds, images), white - images, images)


def posterize(images: Array, bits: Array, white: float) -> Array:
    """Of the 8 bits of each value the first, as many as are said for each image ``(n,)``, the others 0."""
    dropped = (8 - bits).reshape(-1, 1, 1, 1)
    return _values((_levels(images, white) >> dropped) << dropped, images, white)


def _levels(images: Array, white: float) -> Array:
    rounded = jnp.round(images * ((LEVELS - 1) / white))
    return jnp.clip(rounded, 0, LEVELS - 1).astype(jnp.int32)


def _values(levels: Array, like: Array, white: float) -> Array:
    return levels.astype(like.dtype) * (white / (LEVELS - 1))
