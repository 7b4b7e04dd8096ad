"""Blocks that models are made of."""

from __future__ import annotations

from dataclasses import replace

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import conv, depthwise_conv
from fnn.layers.checks import LARGEST
from fnn.layers.conv import Size
from fnn.layers.initializers import Initializer
from fnn.layers.padding import Padding
from fnn.registry import register


@register
def separable_conv(
    features: int,
    kernel: Size,
    *,
    multiplier: int = 1,
    stride: Size = 1,
    padding: Padding = "SAME",
    dilation: Size = 1,
    bias: bool = True,
    kernel_init: str | Initializer = "he_normal",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """A convolution in two steps: each channel over space, then a 1 × 1 convolution over channels.

    Its children are ``depthwise`` (without a bias) and ``pointwise``.

    Args:
        features: The number of output channels.
        kernel, multiplier, stride, padding, dilation: Those of `fnn.depthwise_conv`.
        bias: Whether a bias is added at the end.
        kernel_init, bias_init: As in `fnn.conv`, for both.

    Raises:
        LayerError: As in `fnn.conv`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.separable_conv(32, 3).init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))
        >>> list(fnn.paths(params))
        ['depthwise/kernel', 'pointwise/bias', 'pointwise/kernel']

    Source: Chollet 2016, arXiv:1610.02357.
    """
    depthwise = depthwise_conv(
        kernel,
        multiplier=multiplier,
        stride=stride,
        padding=padding,
        dilation=dilation,
        bias=False,
        kernel_init=kernel_init,
    )
    pointwise = conv(features, 1, bias=bias, kernel_init=kernel_init, bias_init=bias_init)
    return replace(serial(depthwise=depthwise, pointwise=pointwise), kind="separable_conv")


def scaled(kind: str, channels: int, width: float, multiple: int = 1) -> int:
    """So many channels times the width of a model, to the nearest multiple, and not below 90 %.

    Raises:
        ValueError: The width is not positive, or makes more channels than an axis can have.

    Source: MobileNet's, whose channels are multiples of 8: Howard et al. 2017, arXiv:1704.04861.
    """
    if not 0 < channels * width <= LARGEST:
        raise ValueError(f"{kind}: width must be positive, and {channels} * width below 2**31, got {width!r}")
    near = max(multiple, int(channels * width / multiple + 0.5) * multiple)
    return near if near >= 0.9 * channels * width else near + multiple
