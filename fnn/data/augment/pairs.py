"""Augmentations of pairs: a picture, and a larger one of the same that is to be made of it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.data.augment.augmentation import Augmentation, Paired, moving
from fnn.data.augment.checks import need_floating, pictures, whole, wide, within
from fnn.registry import register

SUPPORT = 2
"""Pixels of the smaller picture to each side that the bicubic kernel looks at."""


@register(group="augment")
def patch(size: int) -> Augmentation:
    """Cut a random square out of each pair: of the picture so many pixels, and the same of its target.

    Args:
        size: Height and width of the picture's part, in pixels; its target's are as many times larger as the
            target is.

    Raises:
        ValueError: ``size`` is below 1; when called, there are no pairs of pictures, or they are smaller.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import Paired, patch
        >>> pair = patch(8)(jax.random.key(0), Paired(jnp.ones((5, 20, 20, 1)), jnp.ones((5, 60, 60, 1))))
        >>> pair.inputs.shape, pair.targets.shape
        ((5, 8, 8, 1), (5, 24, 24, 1))
    """
    size = whole("patch", "size", size)
    if size < 1:
        raise ValueError("patch: expected a size of 1 or more, got 0")

    def augment(key: Array, images: Array | Paired) -> Paired:
        pair, scale = _pair("patch", images)
        n, height, width, _ = pair.inputs.shape
        if size > min(height, width):
            raise ValueError(
                f"patch: expected a size of at most the {height} x {width} of the pictures, got {size}"
            )
        places = jnp.array([[height - size + 1, width - size + 1]], jnp.int32)
        corners = jax.random.randint(key, (n, 2), 0, jnp.broadcast_to(places, (n, 2)), jnp.int32)

        def cut(images: Array, corners: Array, side: int) -> Array:
            def one(image: Array, corner: Array) -> Array:
                place = (corner[0], corner[1], jnp.int32(0))
                part: Array = lax.dynamic_slice(image, place, (side, side, image.shape[-1]))
                return part

            return jax.vmap(one)(images, corners)

        return Paired(cut(pair.inputs, corners, size), cut(pair.targets, scale * corners, scale * size))

    return augment


@register(group="augment")
def rescale(least: float = 0.6, share: float = 0.8) -> Augmentation:
    """Shrink the target of each pair by a random factor, and make the picture of it anew.

    What a camera sees from afar has finer detail than its pixels: few pictures become more. A random part of
    the target is shrunk by the antialiased bicubic kernel, rounded to bytes, and shrunk again by the scale of
    the pair. So both come out smaller: with a picture of 40 pixels and ``least=0.6`` 20 are left, which are
    the 24 of the smallest factor without 2 to each side, where the kernel would look beyond the border.

    Args:
        least: The smallest factor, above 0 and at most 1; it is drawn uniformly up to 1.
        share: How often it is drawn, from 0 to 1; else it is 1.

    Raises:
        ValueError: An argument is outside its range; when called, there are no pairs of square pictures of a
            floating dtype, or nothing would be left of them.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import Paired, rescale
        >>> pair = rescale(0.6)(jax.random.key(0), Paired(jnp.ones((5, 40, 40, 1)), jnp.ones((5, 80, 80, 1))))
        >>> pair.inputs.shape, pair.targets.shape
        ((5, 20, 20, 1), (5, 40, 40, 1))

    Source: Dong, Loy and Tang, "Accelerating the super-resolution convolutional neural network" (2016),
    arXiv:1608.00367, section 4.1; Timofte, Rothe and Van Gool, "Seven ways to improve example-based single
    image super resolution" (2016).
    """
    within("rescale", 1e-3, 1, least=least)
    within("rescale", 0, 1, share=share)

    def augment(key: Array, images: Array | Paired) -> Paired:
        pair, scale = _pair("rescale", images)
        need_floating("rescale", pair.targets)
        n, side = len(pair.inputs), pair.inputs.shape[1]
        left = int(side * least) - 2 * SUPPORT
        if pair.inputs.shape[2] != side or left < 1:
            raise ValueError(
                f"rescale: expected square pictures of at least {2 * SUPPORT + 1} pixels when shrunk, "
                f"got {pair.inputs.shape} by {least:g}"
            )
        of_factor, of_share, of_corner = jax.random.split(key, 3)
        factors = jax.random.uniform(of_factor, (n,), jnp.float32, least, 1)
        factors = jnp.where(jax.random.bernoulli(of_share, share, (n,)), factors, 1)
        size = scale * (left + 2 * SUPPORT)
        # whole pixels: where the factor is 1 nothing is resampled
        room = jnp.maximum(jnp.floor(factors.reshape(-1, 1) * pair.targets.shape[1] - size), 0)
        corners = jnp.minimum(jnp.floor(jax.random.uniform(of_corner, (n, 2)) * (room + 1)), room)
        targets = jax.vmap(functools.partial(_shrunk, size))(wide(pair.targets), factors, corners)
        small = (n, left + 2 * SUPPORT, left + 2 * SUPPORT, pair.inputs.shape[3])
        inputs = _bytes(jax.image.resize(targets, small, "cubic"))
        edge = SUPPORT * scale
        smaller = Paired(inputs[:, SUPPORT:-SUPPORT, SUPPORT:-SUPPORT], targets[:, edge:-edge, edge:-edge])
        return Paired(*(new.astype(old.dtype) for new, old in zip(smaller, pair, strict=True)))

    return augment


@register(group="augment")
def rot90() -> Augmentation:
    """Turn each image by 0, 90, 180 or 270 degrees, each as likely; with `flip` all eight views of it.

    Of a pair both are turned alike.

    Raises:
        ValueError: When called, the images are not of rank 4, or not square.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import rot90
        >>> rot90()(jax.random.key(0), jnp.ones((5, 8, 8, 1))).shape
        (5, 8, 8, 1)
    """

    def augment(key: Array, images: Array) -> Array:
        images = pictures("rot90", images)
        if images.shape[1] != images.shape[2]:
            raise ValueError(f"rot90: expected square images, got the shape {images.shape}")
        turns = jax.random.randint(key, (len(images), 1, 1, 1), 0, 4, jnp.int32)
        half = jnp.where(turns >= 2, images[:, ::-1, ::-1], images)
        return jnp.where(turns % 2 == 1, jnp.rot90(half, axes=(1, 2)), half)

    return moving(augment)


def _pair(name: str, images: Array | Paired) -> tuple[Paired, int]:
    """Pictures with larger ones as targets, and how many times larger these are."""
    if not isinstance(images, Paired):
        raise ValueError(f"{name}: expected pictures whose targets are pictures, as super_resolution's are")
    small, large = images.inputs.shape, images.targets.shape
    scale = large[1] // small[1]
    if scale < 1 or large[1:3] != (scale * small[1], scale * small[2]):
        raise ValueError(
            f"{name}: expected targets a whole number of times as large as pictures {small}, got {large}"
        )
    return images, scale


def _shrunk(size: int, image: Array, factor: Array, corner: Array) -> Array:
    """A square of an image that is shrunk by a factor: its corner in pixels of the shrunk one."""
    shape = (size, size, image.shape[-1])
    resized = jax.image.scale_and_translate(
        image, shape, (0, 1), jnp.stack([factor, factor]), -corner, "cubic", antialias=True
    )
    return _bytes(resized)


def _bytes(images: Array) -> Array:
    return jnp.clip(jnp.round(images), 0, 255)
