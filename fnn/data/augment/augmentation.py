"""What an augmentation is, and how several make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.registry import register


class Mixed(NamedTuple):
    """What an augmentation gives that mixes examples with each other.

    The loss of a mixed example is ``share * loss(outputs, targets) + (1 - share) * loss(outputs,
    targets[partner])``. For the cross entropy it is the loss of the mixed labels, label smoothing
    included, as it is linear in them; for every other loss it is well-defined all the same.

    Attributes:
        inputs: ``(n, ...)``, mixed.
        partner: Whole numbers ``(n,)``: the example of the batch that each is mixed with.
        share: ``(n,)``, from 0 to 1: how much of each is its own.
    """

    inputs: Array
    partner: Array
    share: Array


class Paired(NamedTuple):
    """What an augmentation is given and gives where targets are pictures, too: both change alike.

    Attributes:
        inputs: ``(n, h, w, c)``.
        targets: ``(n, h s, w s, d)``, of the same places, ``s`` times as large.
    """

    inputs: Array
    targets: Array


Augmentation = Callable[[Array, Any], Any]
"""``(key, images) -> images``, or what is `Mixed` of them; or ``(key, paired) -> paired``."""


def moving(augment: Callable[[Array, Array], Array]) -> Augmentation:
    """An augmentation that moves pixels whatever the size of images, for pairs as well.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import Paired
        >>> mirrored = moving(lambda key, images: images[:, ::-1])
        >>> pair = mirrored(jax.random.key(0), Paired(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 6, 6, 1))))
        >>> pair.targets.shape
        (1, 6, 6, 1)
    """

    def both(key: Array, images: Array | Paired) -> Array | Paired:
        if isinstance(images, Paired):
            return Paired(augment(key, images.inputs), augment(key, images.targets))
        return augment(key, images)

    return both


def compose(augmentations: Sequence[Augmentation]) -> Augmentation:
    """One augmentation after the other, each with a key of its own: ``fold_in(key, position)``.

    One of them may mix examples; those after it change the mixed images.

    Raises:
        ValueError: When called, a second one mixes examples.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import compose, flip, shift
        >>> augment = jax.jit(compose([shift(2), flip()]))
        >>> augment(jax.random.key(0), jnp.ones((5, 8, 8, 1))).shape
        (5, 8, 8, 1)
    """
    augmentations = tuple(augmentations)

    def augment(key: Array, images: Array) -> Array | Mixed:
        mixed = None
        for position, each in enumerate(augmentations):
            given = each(jax.random.fold_in(key, position), images)
            if isinstance(given, Mixed):
                if mixed is not None:
                    raise ValueError(
                        "expected one augmentation that mixes examples, got a second one at index "
                        f"{position}; one_of chooses among several"
                    )
                mixed, images = given, given.inputs
            else:
                images = given
        return images if mixed is None else mixed._replace(inputs=images)

    return augment


@register(group="augment")
def one_of(augmentations: Sequence[Augmentation], weights: Sequence[float] | None = None) -> Augmentation:
    """One of several augmentations, drawn anew for each batch: such as mixup or cutmix.

    The choice is the batch's and not each image's, so that only what is chosen is computed. Where
    one of them mixes examples, the others mix each example with nothing.

    Args:
        augmentations: One or more.
        weights: How often each is chosen, in proportion; by default all are as often.

    Raises:
        ValueError: There is none, or the weights are not as many, negative, infinite or all 0; when called,
            they give images of different sizes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.data import cutmix, mixup, one_of
        >>> mixed = one_of([mixup(0.2), cutmix()])(jax.random.key(0), jnp.ones((5, 8, 8, 3)))
        >>> mixed.inputs.shape, mixed.partner.shape, mixed.share.shape
        ((5, 8, 8, 3), (5,), (5,))
    """
    # traced once for its form and for its place, however deep one stands in another
    branches = [jax.jit(each, inline=True) for each in augmentations]
    chances = np.ones(len(branches)) if weights is None else np.asarray(weights, np.float64)
    if not branches:
        raise ValueError("one_of: expected one augmentation or more, got none")
    if chances.shape != (len(branches),) or not (chances >= 0).all() or not 0 < chances.sum() < np.inf:
        raise ValueError(
            f"one_of: expected {len(branches)} weights of at least 0, not all 0, got {chances.tolist()}"
        )
    chances = chances / chances.sum()

    def augment(key: Array, images: Array) -> Array | Mixed:
        chosen = draw_choice(jax.random.fold_in(key, 0), chances)
        key = jax.random.fold_in(key, 1)
        given = [jax.eval_shape(branch, key, images) for branch in branches]
        shapes = [each.inputs.shape if isinstance(each, Mixed | Paired) else each.shape for each in given]
        if len(set(shapes)) > 1:
            raise ValueError(f"one_of: expected augmentations that give images of one size, got {shapes}")
        mixes = any(isinstance(each, Mixed) for each in given)
        found: Array | Mixed = jax.lax.switch(
            chosen, [_lifted(branch) if mixes else branch for branch in branches], key, images
        )
        return found

    return augment


def draw_choice(key: Array, chances: np.ndarray) -> Array:
    """An index, each with its chance; they add up to 1."""
    chosen: Array = jax.random.choice(key, len(chances), p=jnp.asarray(chances, jnp.float32))
    return chosen


def _lifted(augment: Augmentation) -> Callable[[Array, Array], Mixed]:
    def mixing(key: Array, images: Array) -> Mixed:
        given = augment(key, images)
        if isinstance(given, Mixed):
            return given
        n = len(given)
        return Mixed(given, jnp.arange(n, dtype=jnp.int32), jnp.ones(n, jnp.float32))

    return mixing
