"""How far a function of pictures looks: found by changing half of a picture."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax import Array

SIDES = (64, 128, 256)
"""Of the pictures that are tried, one after the other."""
_STRENGTHS = (1.0, 1000.0)
"""Of the change: what white is multiplied by. A strong one is seen through many layers, a weak one where
activations have bounds."""


def reach(function: Callable[[Array], Array], channels: int, sides: tuple[int, ...] = SIDES) -> int | None:
    """From how many pixels away, along an axis, a pixel of the input changes what is made of another.

    A picture of noise is changed beyond a line, and the function's outputs are compared bit by bit. What it
    does not look at makes no difference; what it looks at makes one somewhere along the line, for that is as
    many trials as there are pixels and channels. (NaN in place of another value would spread through every
    product of matrices, such as those that resize pictures, whose weights are nearly all 0.)

    Args:
        function: Pictures ``(1, height, width, channels)`` of any size to ``(1, height·s, width·s, c)``, for
            a whole number s, the same for all pixels but for what it does at the border.
        channels: Of its input.
        sides: Of the pictures, rising and even: a reach is found if it is below half of one of them.

    Returns:
        0 if every pixel is made from its own one alone; None if it is too far to be found.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> layer = fnn.conv(1, 5)
        >>> params, _ = layer.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
        >>> reach(lambda x: layer.apply(params, {}, x)[0], 1)
        2

    Source: the receptive field of Luo et al., Understanding the effective receptive field, 2016,
    arXiv:1701.04128, as far as it has any effect.
    """
    compiled = jax.jit(function)
    return next((found for side in sides if (found := _within(compiled, channels, side)) is not None), None)


def _within(function: Callable[[np.ndarray], Array], channels: int, side: int) -> int | None:
    """The reach, if it is below half of the side."""
    shape, half = (1, side, side, channels), side // 2
    rng = np.random.default_rng(0)
    picture, other = (rng.random(shape, np.float32) for _ in range(2))
    plain = np.asarray(function(picture))
    furthest = 0
    for axis in (1, 2):
        after = np.expand_dims(np.arange(side) >= half, [a for a in range(4) if a != axis])
        for changed, away in ((after, -1), (~after, 1)):
            for strength in _STRENGTHS:
                outputs = np.asarray(function(np.where(changed, strength * other, picture)))
                differ = (outputs != plain).any(axis=tuple(a for a in range(4) if a != axis))
                pixels = differ.reshape(side, -1).any(axis=1)
                distances = pixels[:half][::-1] if away < 0 else pixels[half:]  # 1, 2, ... from the line
                furthest = max(furthest, *(np.flatnonzero(distances) + 1), 0)
    return int(furthest) if furthest < half else None
