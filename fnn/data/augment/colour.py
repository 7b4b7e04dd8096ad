"""Augmentations of colour: torchvision's and Pillow's definitions, for any value of white.

An image has one channel, grey, or three: red, green, blue; its values are from 0, black, to white. The
transforms take a factor for each image, ``(n,)``, of which 1 changes nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fnn.data.augment.augmentation import Augmentation
from fnn.data.augment.checks import each, pictures, positive, wide, within
from fnn.registry import register

WEIGHTS = (0.299, 0.587, 0.114)
"""How bright red, green and blue are (ITU-R BT.601); torchvision's are these but for 0.2989."""


@register(group="augment")
def color_jitter(
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    white: float = 255,
) -> Augmentation:
    """Change each image's brightness, contrast, saturation and hue, in this order, by factors of its own.

    The changes and their ranges are torchvision's; there their order is random. Grey images have
    neither saturation nor hue: these change nothing.

    Args:
        brightness: The factor is drawn uniformly from ``max(0, 1 - brightness)`` to ``1 + brightness``.
        contrast: Likewise.
        saturation: Likewise.
        hue: The largest turn of the hue either way, in whole turns, from 0 to 0.5.
        white: The value of white; what goes beyond 0 or white is set to it.

    Raises:
        ValueError: An argument is outside its range; when called, the images are not of rank 4,
            not of 1 or 3 channels, or not of a floating dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import color_jitter
        >>> images = color_jitter(brightness=0.5)(jax.random.key(0), jnp.full((100, 2, 2, 3), 100.0))
        >>> bool((images >= 50).all() and (images <= 150).all() and images.std() > 20)
        True

    Source: Howard, "Some improvements on deep convolutional neural network based image
    classification" (2013).
    """
    within("color_jitter", 0, 1e6, brightness=brightness, contrast=contrast, saturation=saturation)
    within("color_jitter", 0, 0.5, hue=hue)
    white = positive("color_jitter", "white", white)
    strengths = (brightness, contrast, saturation)
    adjusts = (adjust_brightness, adjust_contrast, adjust_saturation)

    def augment(key: Array, images: Array) -> Array:
        images = pictures("color_jitter", images, floating=True, colored=True)
        changed = wide(images)
        for i, (adjust, strength) in enumerate(zip(adjusts, strengths, strict=True)):
            if strength:  # what is left out costs nothing
                factors = draw_factors(jax.random.fold_in(key, i), len(images), strength)
                changed = adjust(changed, factors, white)
        if hue:
            changed = adjust_hue(changed, draw_turns(jax.random.fold_in(key, 3), len(images), hue), white)
        return changed.astype(images.dtype)

    return augment


def draw_factors(key: Array, n: int, strength: float) -> Array:
    """Factors ``(n,)``, uniform from ``max(0, 1 - strength)`` to ``1 + strength``."""
    return jax.random.uniform(key, (n,), jnp.float32, max(0.0, 1 - strength), 1 + strength)


def draw_turns(key: Array, n: int, hue: float) -> Array:
    """Parts of a whole turn ``(n,)``, uniform from ``-hue`` to ``hue``."""
    return jax.random.uniform(key, (n,), jnp.float32, -hue, hue)


def adjust_brightness(images: Array, factors: Array, white: float) -> Array:
    """Away from black, or towards it."""
    return _blend(images, jnp.zeros_like(images), factors, white)


def adjust_contrast(images: Array, factors: Array, white: float) -> Array:
    """Away from the mean of the grey image, or towards it."""
    mean = grey(images).mean((1, 2, 3), keepdims=True)
    return _blend(images, jnp.broadcast_to(mean, images.shape), factors, white)


def adjust_saturation(images: Array, factors: Array, white: float) -> Array:
    """Away from the grey image, or towards it."""
    return _blend(images, jnp.broadcast_to(grey(images), images.shape), factors, white)


def adjust_sharpness(images: Array, factors: Array, white: float) -> Array:
    """Away from the smoothed image, or towards it; the outermost pixels stay.

    It is smoothed by a window of 3 × 3 pixels, the middle one of weight 5 and the others of 1.
    """
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        return images
    columns = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    total = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] + 4 * images[:, 1:-1, 1:-1]
    return _blend(images, images.at[:, 1:-1, 1:-1].set(total / 13), factors, white)


def adjust_hue(images: Array, turns: Array, white: float) -> Array:
    """The hue turned by a part of a whole turn, ``(n,)`` from -0.5 to 0.5; saturation and value stay."""
    if images.shape[3] == 1:
        return images
    red, green, blue = (images[..., i] for i in range(3))
    value, least = images.max(3), images.min(3)
    chroma = value - least
    safe = jnp.where(chroma == 0, 1, chroma)
    sixths = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = sixths + 6 * each(turns, value)

    def channel(offset: int) -> Array:
        place = offset + sixths
        place = place - 6 * jnp.floor(place / 6)  # what jnp.mod does in a quarter of its time
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.clip(jnp.stack([channel(5), channel(3), channel(1)], 3), 0, white)


def grey(images: Array) -> Array:
    """The brightness of each pixel, ``(n, h, w, 1)``."""
    if images.shape[3] == 1:
        return images
    red, green, blue = (weight * images[..., i : i + 1] for i, weight in enumerate(WEIGHTS))
    return red + green + blue


def _blend(images: Array, others: Array, factors: Array, white: float) -> Array:
    """From the others, by a factor of the way to the images, and beyond where it is above 1."""
    return jnp.clip(others + each(factors, images) * (images - others), 0, white)
