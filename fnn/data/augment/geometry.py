"""Augmentations that move pixels."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.data.augment.augmentation import Augmentation, moving
from fnn.data.augment.checks import pictures, whole, wide
from fnn.registry import register


@register(group="augment")
def shift(pixels: int = 1) -> Augmentation:
    """Move each image by whole pixels, up to ``pixels`` each way, filled with 0.

    Args:
        pixels: At least 0. Rows and columns are drawn apart, uniformly from
            ``-pixels, ..., pixels``.

    Raises:
        ValueError: ``pixels`` is no whole number of at least 0; when called, the images are not
            of rank 4.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import shift
        >>> shift(1)(jax.random.key(0), jnp.ones((5, 8, 8, 1))).shape
        (5, 8, 8, 1)
    """
    return _shift("shift", whole("shift", "pixels", pixels))


@register(group="augment")
def crop(padding: int = 4) -> Augmentation:
    """Pad each image with 0 and crop it back at a random place: what CIFAR is trained with.

    The crop at ``(i, j)`` of the padded image is the image moved by ``(padding - i, padding - j)``,
    and each place is as likely as any other: ``crop(p)`` and ``shift(p)`` are one augmentation
    under two names.

    Args:
        padding: Pixels on each side, at least 0.

    Raises:
        ValueError: ``padding`` is no whole number of at least 0; when called, the images are not
            of rank 4.

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2015), section 4.2.
    """
    return _shift("crop", whole("crop", "padding", padding))


def _shift(name: str, pixels: int) -> Augmentation:
    def augment(key: Array, images: Array) -> Array:
        images = pictures(name, images)
        if pixels > max(images.shape[1:3]):
            raise ValueError(
                f"{name}: expected at most the size of images {images.shape}, got {pixels} pixels"
            )
        return translate(images, draw_offsets(key, len(images), pixels), pixels)

    return augment


@register(group="augment")
def flip(probability: float = 0.5, axis: Literal["horizontal", "vertical"] = "horizontal") -> Augmentation:
    """Mirror each image with this probability; of a pair both alike.

    Args:
        probability: From 0 to 1.
        axis: ``horizontal`` exchanges left and right, ``vertical`` top and bottom.

    Raises:
        ValueError: An argument is outside its range; when called, the images are not of rank 4.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"flip: expected a probability from 0 to 1, got {probability!r}")
    if axis not in ("horizontal", "vertical"):
        raise ValueError(f"flip: expected the axis horizontal or vertical, got {axis!r}")

    def augment(key: Array, images: Array) -> Array:
        images = pictures("flip", images)
        return mirror(images, jax.random.bernoulli(key, probability, (len(images),)), axis)

    return moving(augment)


@register(group="augment")
def rotate(degrees: float = 10.0) -> Augmentation:
    """Turn each image about its centre, by bilinear interpolation, filled with 0.

    Args:
        degrees: The largest angle either way, from 0 to 180; drawn uniformly.

    Raises:
        ValueError: ``degrees`` is outside its range; when called, the images are not of rank 4
            or not of a floating dtype.
    """
    if not 0 <= degrees <= 180:
        raise ValueError(f"rotate: expected degrees from 0 to 180, got {degrees!r}")

    def augment(key: Array, images: Array) -> Array:
        images = pictures("rotate", images, floating=True)
        return turn(images, draw_angles(key, len(images), degrees))

    return augment


def draw_offsets(key: Array, n: int, pixels: int) -> Array:
    """Offsets ``(n, 2)`` in rows and columns, uniform from ``-pixels`` to ``pixels``."""
    return jax.random.randint(key, (n, 2), -pixels, pixels + 1, jnp.int32)


def draw_angles(key: Array, n: int, degrees: float) -> Array:
    """Angles ``(n,)`` in degrees, uniform from ``-degrees`` to ``degrees``."""
    return jax.random.uniform(key, (n,), jnp.float32, -degrees, degrees)


def translate(images: Array, offsets: Array, most: int) -> Array:
    """Each image moved down and right by its offset, filled with 0.

    Args:
        images: ``(n, h, w, c)``.
        offsets: ``(n, 2)`` whole pixels in rows and columns, none beyond ``most`` either way.
        most: What bounds the offsets: a Python int, as it sets the padding.
    """
    # windows of a padded batch: measured on a CPU, faster than gathers by pixel, one-hot
    # products, or a choice among static shifts
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))

    def window(image: Array, offset: Array) -> Array:
        corner = (most - offset[0], most - offset[1], jnp.int32(0))
        part: Array = lax.dynamic_slice(image, corner, images.shape[1:])
        return part

    return jax.vmap(window)(padded, offsets)


def mirror(images: Array, chosen: Array, axis: str) -> Array:
    """The chosen images ``(n,)`` mirrored along an axis, the others as they are."""
    mirrored = jnp.flip(images, 2 if axis == "horizontal" else 1)
    return jnp.where(chosen.reshape(-1, 1, 1, 1), mirrored, images)


def turn(images: Array, degrees: Array) -> Array:
    """Each image turned counter-clockwise about its centre by its angle ``(n,)``, filled with 0."""
    angles = jnp.deg2rad(degrees.astype(wide(images).dtype))
    cos, sin, zero = jnp.cos(angles), jnp.sin(angles), jnp.zeros_like(angles)
    return warp(images, jnp.stack([cos, sin, zero, -sin, cos, zero], 1).reshape(-1, 2, 3))


def warp(images: Array, matrices: Array) -> Array:
    """Each image resampled by an affine map, by bilinear interpolation, filled with 0.

    Args:
        images: ``(n, h, w, c)`` of a floating dtype.
        matrices: ``(n, 2, 3)``: the pixel at ``(y, x)`` is taken from ``matrix @ (y, x, 1)``; rows
            and columns are counted from the centre of the image.
    """
    height, width, channels = images.shape[1:]
    acc = wide(images)
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y = (jnp.arange(height, dtype=acc.dtype) - middle_y).reshape(-1, 1)
    x = (jnp.arange(width, dtype=acc.dtype) - middle_x).reshape(1, -1)

    def one(image: Array, matrix: Array) -> Array:
        # whole pixels are gathered from a padded image: measured, up to 15 times as fast as
        # jax.scipy.ndimage.map_coordinates channel by channel
        padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0))).reshape(-1, channels)
        row = matrix[0, 0] * y + matrix[0, 1] * x + (matrix[0, 2] + middle_y)
        column = matrix[1, 0] * y + matrix[1, 1] * x + (matrix[1, 2] + middle_x)
        seen = (row > -1) & (row < height) & (column > -1) & (column < width)
        above, left = jnp.floor(row), jnp.floor(column)
        corner = (jnp.clip(above, -1, height - 1) + 1).astype(jnp.int32) * (width + 2)
        corner = corner + (jnp.clip(left, -1, width - 1) + 1).astype(jnp.int32)
        total = jnp.zeros_like(image)
        for down, tall in ((0, 1 - (row - above)), (1, row - above)):
            for right, broad in ((0, 1 - (column - left)), (1, column - left)):
                weight = jnp.where(seen, tall * broad, 0)
                total += weight[:, :, None] * padded[corner + (down * (width + 2) + right)]
        return total

    return jax.vmap(one)(acc, matrices.astype(acc.dtype)).astype(images.dtype)
