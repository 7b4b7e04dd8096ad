"""Layers that move values, and the one that takes any function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from fnn.layer import Layer, LayerError, Params, stateless
from fnn.layers.checks import positive, spatial_axes
from fnn.registry import register


def _flatten(params: Params, x: Float[Array, "batch ..."]) -> Float[Array, "batch features"]:
    if x.ndim < 1:
        raise LayerError(f"expected an input with a batch axis, got {x.shape}")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


flatten = register(stateless("flatten", _flatten))
"""All axes but the first into one: ``(batch, height, width, channels)`` to ``(batch, features)``."""


@register
def reshape(*shape: int) -> Layer:
    """Each example in another shape; one axis may be -1.

    Args:
        *shape: The shape without the batch axis.

    Raises:
        LayerError: An example has another number of values.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.reshape(8, 8, 1).apply({}, {}, jnp.ones((2, 64)))[0].shape
        (2, 8, 8, 1)
    """
    if shape.count(-1) > 1 or any(not isinstance(n, int) or (n < 1 and n != -1) for n in shape):
        raise ValueError(f"reshape: expected positive sizes and at most one -1, got {shape}")
    positive("reshape", **{"each size": abs(max(shape, key=abs))} if shape else {})

    known = math.prod(n for n in shape if n != -1)

    def forward(params: Params, x: Float[Array, "batch ..."]) -> Array:
        size = math.prod(x.shape[1:])
        if size % known if -1 in shape else size != known:
            raise LayerError(f"expected examples that fit {shape}, got {x.shape} with {size} values each")
        return x.reshape(x.shape[0], *(size // known if n == -1 else n for n in shape))

    return stateless("reshape", forward)


@register
def transpose(*axes: int) -> Layer:
    """The axes of each example in another order.

    Args:
        *axes: The axes of the input by number, the first behind the batch being 1, in the new order.

    Raises:
        LayerError: An example has another number of axes.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.transpose(2, 1).apply({}, {}, jnp.ones((2, 196, 768)))[0].shape
        (2, 768, 196)
    """
    if sorted(axes) != list(range(1, len(axes) + 1)):
        raise ValueError(f"transpose: expected each of 1..{max(len(axes), 1)} once, got {axes}")

    def forward(params: Params, x: Float[Array, "batch ..."]) -> Array:
        if x.ndim != len(axes) + 1:
            raise LayerError(
                f"expected an input of rank {len(axes) + 1}, a batch and its axes, got {x.shape}"
            )
        return x.transpose(0, *axes)

    return stateless("transpose", forward)


@register
def pad(width: int, value: float = 0.0) -> Layer:
    """Cells of one value around space: ``(batch, *space, channels)``, each axis ``2 * width`` longer.

    Args:
        width: Cells on every side.
        value: What they hold.

    Raises:
        LayerError: The input has no 1, 2 or 3 spatial axes.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.pad(2).apply({}, {}, jnp.ones((1, 28, 28, 1)))[0].shape
        (1, 32, 32, 1)
    """
    positive("pad", width=width)

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *larger c"]:
        axes = spatial_axes(x, width)
        return jnp.pad(x, [(0, 0), *[(width, width)] * axes, (0, 0)], constant_values=value)

    return stateless("pad", forward)


@register
def pixel_shuffle(factor: int) -> Layer:
    """Channels into space: ``(batch, h, w, c f²)`` to ``(batch, h f, w f, c)``; sub-pixel convolution.

    Of the ``f²`` channels that make one, the first row of the block comes first, as in PyTorch.

    Args:
        factor: How many times higher and wider the result is.

    Raises:
        LayerError: The channels are no multiple of ``factor²``, or the rank is not 4.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.pixel_shuffle(2).apply({}, {}, jnp.arange(4.0).reshape(1, 1, 1, 4))[0][0, :, :, 0])
        [[0. 1.]
         [2. 3.]]

    Source: Shi et al. 2016, arXiv:1609.05158.
    """
    positive("pixel_shuffle", factor=factor)

    def forward(params: Params, x: Float[Array, "batch h w c"]) -> Float[Array, "batch hf wf d"]:
        if x.ndim != 4 or x.shape[-1] % factor**2:
            raise LayerError(
                f"expected (batch, height, width, channels) with channels in {factor**2}s, got {x.shape}"
            )
        n, h, w, c = x.shape
        blocks = x.reshape(n, h, w, c // factor**2, factor, factor)
        return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, h * factor, w * factor, c // factor**2)

    return stateless("pixel_shuffle", forward)


@register
def fn(function: Callable[[Any], Any]) -> Layer:
    """Any function of the input as a layer, without parameters.

    Args:
        function: ``x -> y``, pure, the same in training and evaluation.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.fn(jnp.square).apply({}, {}, jnp.array([3.0]))[0])
        [9.]
    """
    return stateless("fn", lambda params, x: function(x))
