"""Augmentations that take a part of an image away."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fnn.data.augment.augmentation import Augmentation
from fnn.data.augment.boxes import draw_boxes, inside
from fnn.data.augment.checks import pictures, positive, span, whole, within
from fnn.registry import register


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
    side = whole("cutout", "size", size)

    def augment(key: Array, images: Array) -> Array:
        images = pictures("cutout", images)
        n, height, width, _ = images.shape
        return erase(images, squares(draw_centres(key, n, height, width), side))

    return augment


@register(group="augment")
def random_erasing(
    probability: float = 0.25,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    value: float | Literal["noise"] = 0,
    white: float = 255,
) -> Augmentation:
    """Erase a rectangle within each image with this probability.

    Its share of the area is drawn uniformly, and its height over its width uniformly in the
    logarithm, until it fits, 10 times at the most; if it never does, the image stays.

    Args:
        probability: From 0 to 1.
        scale: The least and the largest share of the image's area.
        ratio: The least and the largest height over width.
        value: What is put there: a number, or noise, drawn for each pixel and channel from 256
            levels from 0 to ``white``.
        white: The value of white.

    Raises:
        ValueError: An argument is outside its range; when called, the images are not of rank 4.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import random_erasing
        >>> augment = random_erasing(0.25, value="noise")
        >>> jax.eval_shape(augment, jax.random.key(0), jnp.ones((64, 32, 32, 3))).shape
        (64, 32, 32, 3)

    Source: Zhong, Zheng, Kang, Li and Yang, "Random erasing data augmentation" (2017).
    """
    within("random_erasing", 0, 1, probability=probability)
    white = positive("random_erasing", "white", white)
    scale = span("random_erasing", "scale", scale, 1)
    low, high = span("random_erasing", "ratio", ratio)
    if not isinstance(value, str):
        within("random_erasing", -1e30, 1e30, value=value)
        value = float(value)
    elif value != "noise":
        raise ValueError(f"random_erasing: expected the value to be a number or noise, got {value!r}")

    def augment(key: Array, images: Array) -> Array:
        images = pictures("random_erasing", images)
        of_choice, of_boxes, of_noise = jax.random.split(key, 3)
        n, *size, _ = images.shape
        chosen = jax.random.bernoulli(of_choice, probability, (n,))
        boxes, fits = draw_boxes(of_boxes, n, (size[0], size[1]), scale, (1 / high, 1 / low))
        boxes = jnp.where((chosen & fits).reshape(n, 1), boxes, 0)
        if isinstance(value, str):
            return erase(images, boxes, draw_noise(of_noise, images.shape, white))
        return erase(images, boxes, value)

    return augment


def draw_centres(key: Array, n: int, height: int, width: int) -> Array:
    """Pixels ``(n, 2)``, row and column, uniform over the image."""
    sizes = jnp.array([[height, width]], jnp.int32)
    return jax.random.randint(key, (n, 2), jnp.zeros_like(sizes), sizes, jnp.int32)


def draw_noise(key: Array, shape: tuple[int, ...], white: float) -> Array:
    """Noise of a shape, uniform over 256 levels from 0 to white."""
    return jax.random.bits(key, shape, jnp.uint8).astype(jnp.float32) * (white / 255)


def squares(centres: Array, side: int) -> Array:
    """Boxes ``(n, 4)``: the squares of a side around centres ``(n, 2)``."""
    return jnp.concatenate([centres - side // 2, jnp.full_like(centres, side)], 1)


def erase(images: Array, boxes: Array, values: Array | float = 0) -> Array:
    """Each image with other values in its box ``(n, 4)``: a number, or an array of the images' shape."""
    there = inside(boxes, (images.shape[1], images.shape[2]))
    filled = jnp.broadcast_to(jnp.asarray(values).astype(images.dtype), images.shape)
    return jnp.where(there, filled, images)
