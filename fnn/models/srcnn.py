"""SRCNN: three convolutions that sharpen a picture enlarged before."""

from __future__ import annotations

from collections.abc import Sequence

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import conv, relu, upsample
from fnn.models.super_resolution import check_enlarging, enlarging, last_start
from fnn.registry import register


@register
def srcnn(
    scale: int = 3,
    *,
    channels: int = 1,
    kernels: Sequence[int] = (9, 1, 5),
    features: Sequence[int] = (64, 32),
    skip: bool = False,
) -> Layer:
    """SRCNN: bicubic enlargement, then convolutions with ReLU between them.

    The input is a small picture ``(batch, height, width, channels)`` with values in 0..1, the output one
    ``scale`` times as high and wide; space is padded by zeros, so that pictures of every size will do. The
    paper's 9-1-5 has 8,032 weights, and 97 biases, which the paper does not count; ``kernels=(9, 5, 5)`` has
    57,184 weights, ``(9, 3, 5)`` 24,416.

    Args:
        scale: How many times as high and wide the result is: 2 or more.
        channels: Those of the pictures: 1 for luma, 3 for colours.
        kernels: The window of each convolution.
        features: The channels of each but the last.
        skip: Whether the enlarged picture is added to the output, so that the difference is learned.

    Raises:
        ValueError: The scale is not whole or below 2, or there are not as many kernels as layers.
        LayerError: The input has other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.srcnn().init(jax.random.key(0), jnp.ones((1, 11, 11, 1)))
        >>> fnn.count(params), sum(fnn.count(layer["kernel"]) for layer in params.values())
        (8129, 8032)

    Source: Dong et al. 2014, arXiv:1501.00092.
    """
    check_enlarging("srcnn", scale, channels)
    if not features or len(kernels) != len(features) + 1:
        raise ValueError(
            f"srcnn: expected a kernel for each of the features, at least one, and for the output, got "
            f"{len(kernels)} kernels and {len(features)} features"
        )
    layers: dict[str, Layer] = {}
    for i, (width, kernel) in enumerate(zip(features, kernels, strict=False), start=1):
        # The paper starts all from a standard deviation of 0.001: by Adam it is 2 dB behind after 400 steps
        layers |= {f"conv{i}": conv(width, kernel), f"relu{i}": relu}
    layers[f"conv{len(kernels)}"] = conv(channels, kernels[-1], kernel_init=last_start(skip))
    bicubic = upsample(scale, "bicubic")
    whole = serial(bicubic=bicubic, **({"residual": residual(serial(**layers))} if skip else layers))
    return enlarging("srcnn", channels, whole)
