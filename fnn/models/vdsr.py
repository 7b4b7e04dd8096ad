"""VDSR: twenty convolutions that learn what the enlarged picture lacks."""

from __future__ import annotations

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import conv, relu, upsample
from fnn.layers.checks import few, positive
from fnn.models.super_resolution import check_enlarging, enlarging, last_start
from fnn.registry import register


@register
def vdsr(scale: int = 3, *, channels: int = 1, depth: int = 20, features: int = 64) -> Layer:
    """VDSR: bicubic enlargement, then ``depth`` 3 × 3 convolutions whose output is added to it.

    The input is a small picture ``(batch, height, width, channels)`` with values in 0..1, the output one
    ``scale`` times as high and wide; space is padded by zeros, so that pictures of every size will do. It has
    664,704 weights and 1,217 biases. All kernels but the last start from ``he_normal``, as in the paper, and
    the last one from zeros, so that training starts at the bicubic picture.

    Args:
        scale: How many times as high and wide the result is: 2 or more. It changes the enlargement alone:
            parameters for one scale work for every other, and the paper trains one network for all.
        channels: Those of the pictures: 1 for luma, 3 for colours.
        depth: How many convolutions: 2 or more.
        features: The channels of each but the last.

    Raises:
        ValueError: The scale is not whole or below 2, or a size is not positive.
        LayerError: The input has other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = jax.eval_shape(fnn.vdsr().init, jax.random.key(0), jnp.ones((1, 14, 14, 1)))
        >>> fnn.count(params)
        665921

    Source: Kim et al. 2015, arXiv:1511.04587.
    """
    check_enlarging("vdsr", scale, channels)
    positive("vdsr", depth=depth, features=features)
    few("vdsr", depth=depth)
    if depth < 2:
        raise ValueError(f"vdsr: depth must be 2 or more, got {depth}")
    layers: dict[str, Layer] = {}
    for i in range(1, depth):
        layers |= {f"conv{i}": conv(features, 3), f"relu{i}": relu}
    layers[f"conv{depth}"] = conv(channels, 3, kernel_init=last_start(skip=True))
    whole = serial(bicubic=upsample(scale, "bicubic"), residual=residual(serial(**layers)))
    return enlarging("vdsr", channels, whole)
