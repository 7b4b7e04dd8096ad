"""RandAugment: a few operations for each image, drawn from a fixed list."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fnn.data.augment.augmentation import Augmentation
from fnn.data.augment.checks import pictures, positive, whole, wide, within
from fnn.data.augment.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_sharpness,
)
from fnn.data.augment.geometry import turn, warp
from fnn.data.augment.tone import autocontrast, equalize, posterize, solarize
from fnn.registry import register

Operation = Callable[[Array, Array, float, float], Array]
"""``(images, signs, level, white) -> images``: signs ``(n,)`` of -1 and 1; the level is from 0 to 1."""


@register(group="augment")
def randaugment(n: int = 2, magnitude: float = 9, white: float = 255) -> Augmentation:
    """Apply so many operations to each image, one after the other, each drawn anew from 14.

    They are identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast,
    brightness, sharpness, shear-x, shear-y, translate-x and translate-y, all as likely. How strong
    they are is the magnitude's and no draw; whether a change is up or down, left or right is drawn.
    The strengths are torchvision's. What comes into view is 0. Equalize and posterize round to 256
    levels.

    Args:
        n: Operations an image, from 0 to 14.
        magnitude: From 0, where nearly nothing changes, to 30.
        white: The value of white.

    Raises:
        ValueError: An argument is outside its range; when called, the images are not of rank 4,
            not of 1 or 3 channels, or not of a floating dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import randaugment
        >>> augment = randaugment(n=2, magnitude=9)
        >>> jax.eval_shape(augment, jax.random.key(0), jnp.ones((64, 32, 32, 3))).shape
        (64, 32, 32, 3)

    Source: Cubuk, Zoph, Shlens and Le, "RandAugment: practical automated data augmentation with a
    reduced search space" (2019).
    """
    count = whole("randaugment", "n", n)
    within("randaugment", 0, len(OPERATIONS), n=count)
    within("randaugment", 0, 30, magnitude=magnitude)
    white = positive("randaugment", "white", white)

    def augment(key: Array, images: Array) -> Array:
        images = pictures("randaugment", images, floating=True, colored=True)

        def once(i: Array, changed: Array) -> Array:
            chosen, signs = draw_operations(jax.random.fold_in(key, i), len(images))
            return operate(changed, chosen, signs, magnitude / 30, white)

        changed: Array = jax.lax.fori_loop(0, count, once, wide(images))
        return changed.astype(images.dtype)

    return augment


def draw_operations(key: Array, n: int) -> tuple[Array, Array]:
    """For each of n images which operation, from 0 to 13, and a sign, -1 or 1."""
    of_choice, of_sign = jax.random.split(key)
    chosen = jax.random.randint(of_choice, (n,), 0, len(OPERATIONS), jnp.int32)
    return chosen, jax.random.rademacher(of_sign, (n,), jnp.float32)


def operate(images: Array, chosen: Array, signs: Array, level: float, white: float) -> Array:
    """Each image changed by an operation of `OPERATIONS`.

    Args:
        images: ``(n, h, w, c)``.
        chosen: Whole numbers ``(n,)``.
        signs: ``(n,)`` of -1 and 1.
        level: How strong, from 0 to 1.
        white: The value of white.
    """
    branches = [
        lambda image, sign, operation=operation: operation(image[None], sign[None], level, white)[0]
        for operation in OPERATIONS.values()
    ]

    def one(image: Array, index: Array, sign: Array) -> Array:
        changed: Array = jax.lax.switch(index, branches, image, sign)
        return changed

    # Image by image only the chosen operation is computed: measured on a CPU, 16 to 19 times as fast as all
    # images at once, where every operation is computed of each. Other devices would idle, one image a time.
    changed: Array = jax.lax.platform_dependent(
        images,
        chosen,
        signs,
        cpu=lambda *given: jax.lax.map(lambda own: one(*own), given),
        default=jax.vmap(one),
    )
    return changed


def _affine(top: list[Array | float], bottom: list[Array | float], like: Array) -> Array:
    rows = [jnp.broadcast_to(jnp.asarray(entry, jnp.float32), (len(like),)) for entry in (*top, *bottom)]
    return jnp.stack(rows, 1).reshape(-1, 2, 3)


def _shear_x(images: Array, signs: Array, level: float, white: float) -> Array:
    slope = 0.3 * level * signs  # about the first row: it stays
    return warp(images, _affine([1, 0, 0], [slope, 1, slope * (images.shape[1] / 2)], images))


def _shear_y(images: Array, signs: Array, level: float, white: float) -> Array:
    slope = 0.3 * level * signs
    return warp(images, _affine([1, slope, slope * (images.shape[2] / 2)], [0, 1, 0], images))


def _translate_x(images: Array, signs: Array, level: float, white: float) -> Array:
    pixels = int(150 / 331 * images.shape[2] * level)
    return warp(images, _affine([1, 0, 0], [0, 1, pixels * signs], images))


def _translate_y(images: Array, signs: Array, level: float, white: float) -> Array:
    pixels = int(150 / 331 * images.shape[1] * level)
    return warp(images, _affine([1, 0, pixels * signs], [0, 1, 0], images))


def _posterize(images: Array, signs: Array, level: float, white: float) -> Array:
    return posterize(images, jnp.full(len(images), 8 - round(4 * level), jnp.int32), white)


def _solarize(images: Array, signs: Array, level: float, white: float) -> Array:
    return solarize(images, jnp.full(len(images), white * (1 - level), images.dtype), white)


def _adjust(adjust: Callable[[Array, Array, float], Array]) -> Operation:
    return lambda images, signs, level, white: adjust(images, 1 + 0.9 * level * signs, white)


OPERATIONS: dict[str, Operation] = {
    "identity": lambda images, signs, level, white: images,
    "autocontrast": lambda images, signs, level, white: autocontrast(images, white),
    "equalize": lambda images, signs, level, white: equalize(images, white),
    "rotate": lambda images, signs, level, white: turn(images, 30 * level * signs),
    "solarize": _solarize,
    "color": _adjust(adjust_saturation),
    "posterize": _posterize,
    "contrast": _adjust(adjust_contrast),
    "brightness": _adjust(adjust_brightness),
    "sharpness": _adjust(adjust_sharpness),
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
}
"""By name."""
