"""Augmentations that mix the examples of a batch with each other, and what is learned from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data.augment.augmentation import Augmentation, Mixed
from fnn.data.augment.boxes import inside
from fnn.data.augment.checks import each, need_floating, pictures, positive, refuse_pairs, wide, within
from fnn.registry import register


@register(group="augment")
def mixup(alpha: float = 0.2, probability: float = 1.0) -> Augmentation:
    """Replace each example by a weighted mean of it and another one of the batch.

    The weight of its own is drawn from the distribution Beta(alpha, alpha), for each example anew;
    whom it is mixed with by a permutation of the batch. How the loss is mixed: see `Mixed`.

    Args:
        alpha: Above 0; the smaller, the nearer to 0 or 1 are the weights.
        probability: With which an example is mixed, from 0 to 1.

    Raises:
        ValueError: An argument is outside its range; when called, the inputs are not of a floating
            dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import mixup
        >>> mixed = mixup(1.0)(jax.random.key(0), jnp.arange(4.0).reshape(4, 1))
        >>> own, partners = jnp.arange(4), mixed.partner
        >>> bool(jnp.allclose(mixed.inputs[:, 0], mixed.share * own + (1 - mixed.share) * partners))
        True

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization" (2017).
    """
    alpha = positive("mixup", "alpha", alpha)
    within("mixup", 0, 1, probability=probability)
    shares = beta_quantiles(alpha)

    def augment(key: Array, inputs: Array) -> Mixed:
        refuse_pairs("mixup", inputs)
        inputs = jnp.asarray(inputs)
        need_floating("mixup", inputs)
        of_partner, of_share = jax.random.split(key)
        share = draw_shares(of_share, len(inputs), shares, probability)
        return blend(inputs, draw_partners(of_partner, len(inputs)), share)

    return augment


@register(group="augment")
def cutmix(alpha: float = 1.0, probability: float = 1.0) -> Augmentation:
    """Replace a rectangle of each image by the same rectangle of another one of the batch.

    The share of the image that stays is drawn from the distribution Beta(alpha, alpha), for each
    image anew, and the rectangle's centre uniformly from the pixels; a part of it may lie outside.
    What counts in the loss is the share of pixels that stay: see `Mixed`.

    Args:
        alpha: Above 0.
        probability: With which an image is mixed, from 0 to 1.

    Raises:
        ValueError: An argument is outside its range; when called, the images are not of rank 4.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import cutmix
        >>> images = jnp.broadcast_to(jnp.arange(4.0).reshape(4, 1, 1, 1), (4, 8, 8, 1))
        >>> mixed = cutmix()(jax.random.key(0), images)
        >>> own, partners = jnp.arange(4), mixed.partner
        >>> bool(jnp.allclose(mixed.inputs.mean((1, 2, 3)), mixed.share * own + (1 - mixed.share) * partners))
        True

    Source: Yun, Han, Oh, Chun, Choe and Yoo, "CutMix: regularization strategy to train strong
    classifiers with localizable features" (2019).
    """
    alpha = positive("cutmix", "alpha", alpha)
    within("cutmix", 0, 1, probability=probability)
    shares = beta_quantiles(alpha)

    def augment(key: Array, images: Array) -> Mixed:
        images = pictures("cutmix", images)
        of_partner, of_share, of_centre = jax.random.split(key, 3)
        n, height, width, _ = images.shape
        share = draw_shares(of_share, n, shares, probability)
        boxes = draw_patches(of_centre, (height, width), share)
        return paste(images, draw_partners(of_partner, n), boxes)

    return augment


def draw_partners(key: Array, n: int) -> Array:
    """A permutation of the batch: the partner of each example, which may be itself."""
    return jax.random.permutation(key, jnp.arange(n, dtype=jnp.int32))


def beta_quantiles(alpha: float) -> np.ndarray:
    """4096 equally likely values of the distribution Beta(alpha, alpha), in order.

    Example:
        >>> print(beta_quantiles(1.0)[[0, 2048, 4095]].round(4))
        [1.000e-04 5.001e-01 9.999e-01]
    """
    from scipy.special import betaincinv

    # jax.random.beta takes several times as long to compile as all the rest of an augmentation
    return np.asarray(betaincinv(alpha, alpha, (np.arange(4096) + 0.5) / 4096), np.float32)


def draw_shares(key: Array, n: int, quantiles: np.ndarray, probability: float) -> Array:
    """Shares ``(n,)``: with a probability one of the quantiles, else 1."""
    choice, place = jnp.split(jax.random.uniform(key, (n, 2), jnp.float32), 2, 1)
    index = (place[:, 0] * len(quantiles)).astype(jnp.int32)
    return jnp.where(choice[:, 0] < probability, jnp.asarray(quantiles)[index], 1)


def draw_patches(key: Array, size: tuple[int, int], shares: Array) -> Array:
    """Boxes ``(n, 4)`` about any pixel of an image, of all of whose area a share ``(n,)`` is left out."""
    centres = jax.random.randint(key, (len(shares), 2), 0, jnp.array([size], jnp.int32), jnp.int32)
    sides = jnp.sqrt(1 - shares).reshape(-1, 1) * jnp.array([size], jnp.float32)
    halves = sides.astype(jnp.int32) // 2
    return jnp.concatenate([centres - halves, 2 * halves], 1)


def blend(inputs: Array, partner: Array, share: Array) -> Mixed:
    """Each example by its share, and its partner by the rest."""
    acc = wide(inputs)
    own = each(share, acc)
    return Mixed((own * acc + (1 - own) * acc[partner]).astype(inputs.dtype), partner, share)


def paste(images: Array, partner: Array, boxes: Array) -> Mixed:
    """Each image with its partner's pixels in its box ``(n, 4)``."""
    there = inside(boxes, (images.shape[1], images.shape[2]))
    share = 1 - there.astype(jnp.float32).mean((1, 2, 3))
    return Mixed(jnp.where(there, images[partner], images), partner, share)
