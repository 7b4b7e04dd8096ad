"""What augmentations ask of their arguments and of what they are given."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data.augment.augmentation import Paired


def whole(name: str, argument: str, value: Any) -> int:
    """A whole number of at least 0.

    Raises:
        ValueError: It is not, or is beyond int32.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"{name}: expected {argument} to be a whole number of at least 0, got {value!r}")
    if number >= 2**31:
        raise ValueError(f"{name}: expected {argument} to be below 2**31, got {value!r}")
    return number


def within(name: str, low: float, high: float, **given: float) -> None:
    """Each argument must lie from low to high, both included.

    Raises:
        ValueError: One does not.
    """
    for argument, value in given.items():
        if not low <= value <= high:
            raise ValueError(f"{name}: expected {argument} from {low:g} to {high:g}, got {value!r}")


def positive(name: str, argument: str, value: float) -> float:
    """A number above 0.

    Raises:
        ValueError: It is not, or is beyond float32.
    """
    if not 1e-30 <= value <= 1e30:
        raise ValueError(f"{name}: expected {argument} above 0 and finite, got {value!r}")
    return float(value)


def span(name: str, argument: str, value: Any, most: float = math.inf) -> tuple[float, float]:
    """A pair, low and high, of positive numbers.

    Raises:
        ValueError: It is no pair, not in order, or beyond its range.
    """
    pair = tuple(value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most or math.isinf(pair[1]):
        upper = "" if math.isinf(most) else f" <= {most:g}"
        raise ValueError(
            f"{name}: expected {argument} to be (low, high) with 0 < low <= high{upper}, got {pair}"
        )
    return pair


def pictures(name: str, images: Array, *, floating: bool = False, colored: bool = False) -> Array:
    """Images as an array of rank 4.

    Args:
        name: Of the augmentation, for the message.
        images: ``(n, h, w, c)``.
        floating: Whether it computes with them.
        colored: Whether it needs to know what the channels are: one is grey, three are red, green, blue.

    Raises:
        ValueError: They are not of that rank, dtype or number of channels.
    """
    refuse_pairs(name, images)
    images = jnp.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"{name}: expected images (batch, height, width, channels), got the shape {images.shape}"
        )
    if floating:
        need_floating(name, images)
    if colored and images.shape[3] not in (1, 3):
        raise ValueError(f"{name}: expected images of 1 or 3 channels, got the shape {images.shape}")
    return images


def refuse_pairs(name: str, images: Array | Paired) -> None:
    """Raise an error where targets are pictures, which would have to change alike.

    Raises:
        ValueError: They are.
    """
    if isinstance(images, Paired):
        raise ValueError(
            f"{name}: expected pictures whose targets are none, got pairs of pictures; "
            "for these there are patch, rescale, flip and rot90"
        )


def need_floating(name: str, images: Array) -> None:
    """Raise an error where images are not of a floating dtype.

    Raises:
        ValueError: They are not.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{name}: expected images of a floating dtype, got {images.dtype}")


def wide(images: Array) -> Array:
    """Images in the dtype to compute in: float32, or float64 where they are."""
    return images.astype(np.promote_types(images.dtype, np.float32))  # jnp's refuses under strict promotion


def each(values: Array, like: Array) -> Array:
    """A value of each image ``(n,)``, to be combined with the images."""
    return values.astype(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
