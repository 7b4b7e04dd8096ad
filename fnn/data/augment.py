"""Augmentation on the device: pure functions of a key and a batch of images.

A constructor returns ``augment(key, images) -> images``, which keeps the shape ``(n, h, w, c)`` and
the dtype and treats each image by a draw of its own. Each is a draw followed by a deterministic
transform; both are functions of their own, to be called and tested apart.

What comes into view from outside an image is 0: black before normalisation, the mean after it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.ndimage import map_coordinates

from fnn.registry import register

Augmentation = Callable[[Array, Array], Array]
"""``(key, images) -> images``"""


def compose(augmentations: Sequence[Augmentation]) -> Augmentation:
    """One augmentation after the other, each with a key of its own: ``fold_in(key, position)``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import compose, flip, shift
        >>> augment = jax.jit(compose([shift(2), flip()]))
        >>> augment(jax.random.key(0), jnp.ones((5, 8, 8, 1))).shape
        (5, 8, 8, 1)
    """
    augmentations = tuple(augmentations)

    def augment(key: Array, images: Array) -> Array:
        for position, each in enumerate(augmentations):
            images = each(jax.random.fold_in(key, position), images)
        return images

    return augment


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
    return _shift("shift", _whole("shift", "pixels", pixels))


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
    return _shift("crop", _whole("crop", "padding", padding))


def _shift(name: str, pixels: int) -> Augmentation:
    def augment(key: Array, images: Array) -> Array:
        images = _images(name, images)
        if pixels > max(images.shape[1:3]):
            raise ValueError(
                f"{name}: expected at most the size of images {images.shape}, got {pixels} pixels"
            )
        return translate(images, draw_offsets(key, len(images), pixels), pixels)

    return augment


@register(group="augment")
def flip(probability: float = 0.5, axis: Literal["horizontal", "vertical"] = "horizontal") -> Augmentation:
    """Mirror each image with this probability.

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
        images = _images("flip", images)
        return mirror(images, jax.random.bernoulli(key, probability, (len(images),)), axis)

    return augment


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
        images = _images("rotate", images)
        return turn(images, draw_angles(key, len(images), degrees))

    return augment


@register(group="augment")
def cutout(size: int = 8) -> Augmentation:
    """Set a square of each image to 0.

    The square's centre is drawn uniformly from the image's pixels, so that a part of the square
    may lie outside.

    Args:
        size: The square's side in pixels, at least 0.

    Raises:
        ValueError: ``size`` is no whole number of at least 0; when called, the images are not of
            rank 4.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with
    cutout" (2017).
    """
    side = _whole("cutout", "size", size)

    def augment(key: Array, images: Array) -> Array:
        images = _images("cutout", images)
        n, height, width, _ = images.shape
        return erase(images, draw_centres(key, n, height, width), side)

    return augment


def draw_offsets(key: Array, n: int, pixels: int) -> Array:
    """Offsets ``(n, 2)`` in rows and columns, uniform from ``-pixels`` to ``pixels``."""
    return jax.random.randint(key, (n, 2), -pixels, pixels + 1, jnp.int32)


def draw_angles(key: Array, n: int, degrees: float) -> Array:
    """Angles ``(n,)`` in degrees, uniform from ``-degrees`` to ``degrees``."""
    return jax.random.uniform(key, (n,), jnp.float32, -degrees, degrees)


def draw_centres(key: Array, n: int, height: int, width: int) -> Array:
    """Pixels ``(n, 2)``, row and column, uniform over the image."""
    sizes = jnp.array([[height, width]], jnp.int32)
    return jax.random.randint(key, (n, 2), jnp.zeros_like(sizes), sizes, jnp.int32)


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
    height, width = images.shape[1:3]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    acc = np.promote_types(images.dtype, np.float32)  # jnp's refuses under strict promotion
    y = (jnp.arange(height, dtype=acc) - middle_y).reshape(-1, 1)
    x = (jnp.arange(width, dtype=acc) - middle_x).reshape(1, -1)

    def one(image: Array, angle: Array) -> Array:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        places = [cos * y + sin * x + middle_y, cos * x - sin * y + middle_x]
        turned: Array = jax.vmap(lambda channel: map_coordinates(channel, places, order=1), 2, 2)(image)
        return turned

    return jax.vmap(one)(images.astype(acc), jnp.deg2rad(degrees.astype(acc))).astype(images.dtype)


def erase(images: Array, centres: Array, size: int) -> Array:
    """Each image with 0 in the square of side ``size`` around its centre ``(n, 2)``."""
    height, width = images.shape[1:3]
    rows = _within(height, centres[:, 0], size).reshape(-1, height, 1, 1)
    columns = _within(width, centres[:, 1], size).reshape(-1, 1, width, 1)
    return jnp.where(rows & columns, jnp.zeros_like(images), images)


def _within(length: int, centres: Array, size: int) -> Array:
    distance = jnp.arange(length, dtype=jnp.int32).reshape(1, -1) - centres.reshape(-1, 1)
    return (distance >= -(size // 2)) & (distance < size - size // 2)


def _whole(name: str, argument: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"{name}: expected {argument} to be a whole number of at least 0, got {value!r}")
    if number >= 2**31:
        raise ValueError(f"{name}: expected {argument} to be below 2**31, got {value!r}")
    return number


def _images(name: str, images: Array) -> Array:
    images = jnp.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"{name}: expected images (batch, height, width, channels), got the shape {images.shape}"
        )
    if name == "rotate" and not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{name}: expected images of a floating dtype, got {images.dtype}")
    return images
