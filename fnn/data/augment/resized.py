"""Parts of an image, scaled to the size of the whole."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fnn.data.augment.augmentation import Augmentation
from fnn.data.augment.boxes import draw_boxes
from fnn.data.augment.checks import pictures, span, wide
from fnn.registry import register


@register(group="augment")
def random_resized_crop(
    scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Augmentation:
    """Cut a part out of each image and scale it to the image's size: what ImageNet is trained with.

    Its share of the area is drawn uniformly, and its width over its height uniformly in the
    logarithm, until it fits, 10 times at the most; if it never does, it is the largest part about
    the image's centre whose width over height is in range. All of that is as in torchvision.

    The part is scaled bilinearly, from its own pixels alone. It is never scaled down, so that there
    is nothing to smooth before (to antialias).

    Args:
        scale: The least and the largest share of the image's area.
        ratio: The least and the largest width over height.

    Raises:
        ValueError: An argument is outside its range; when called, the images are not of rank 4
            or not of a floating dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import random_resized_crop
        >>> jax.eval_shape(random_resized_crop(), jax.random.key(0), jnp.ones((5, 32, 32, 3))).shape
        (5, 32, 32, 3)

    Source: Szegedy et al., "Going deeper with convolutions" (2014), section 6.
    """
    scale = span("random_resized_crop", "scale", scale, 1)
    ratio = span("random_resized_crop", "ratio", ratio)

    def augment(key: Array, images: Array) -> Array:
        images = pictures("random_resized_crop", images, floating=True)
        n, height, width, _ = images.shape
        boxes, fits = draw_boxes(key, n, (height, width), scale, ratio)
        middle = jnp.array([central((height, width), ratio)], jnp.int32)
        return enlarge(images, jnp.where(fits.reshape(n, 1), boxes, middle))

    return augment


def central(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """The largest box about the centre of an image whose width over height is in a range.

    Example:
        >>> central((100, 400), (3 / 4, 4 / 3))
        (0, 133, 100, 133)
    """
    height, width = size
    if width < ratio[0] * height:
        inner = (max(1, round(width / ratio[0])), width)
    elif width > ratio[1] * height:
        inner = (height, max(1, round(height * ratio[1])))
    else:
        inner = size
    return (height - inner[0]) // 2, (width - inner[1]) // 2, *inner


def enlarge(images: Array, boxes: Array) -> Array:
    """The part of each image in its box, scaled bilinearly to the size of the image.

    Args:
        images: ``(n, h, w, c)`` of a floating dtype.
        boxes: ``(n, 4)`` within the images.
    """

    # one axis after the other, by whole rows and columns: measured, 2 to 3 times as fast as products
    # with matrices of weights
    def one(image: Array, box: Array) -> Array:
        low, high, share = _neighbours(image.shape[0], box[0], box[2], image.dtype)
        share = share.reshape(-1, 1, 1)
        image = (1 - share) * image[low] + share * image[high]
        low, high, share = _neighbours(image.shape[1], box[1], box[3], image.dtype)
        share = share.reshape(1, -1, 1)
        return (1 - share) * image[:, low] + share * image[:, high]

    return jax.vmap(one)(wide(images), boxes).astype(images.dtype)


def _neighbours(length: int, start: Array, part: Array, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
    """Between which two pixels of a part each pixel of the whole lies, and how near to the second."""
    pixels = (jnp.arange(length, dtype=dtype) + 0.5) * part.astype(dtype) / length - 0.5
    places = jnp.clip(pixels, 0, part.astype(dtype) - 1)
    low = jnp.floor(places)
    first = low.astype(jnp.int32)
    return start + first, start + jnp.minimum(first + 1, part - 1), places - low
