"""ESPCN: convolutions on the small picture, the last of which makes all pixels of the large one."""

from __future__ import annotations

from collections.abc import Sequence

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import conv, pixel_shuffle, tanh
from fnn.models.super_resolution import beside_bicubic, check_enlarging, enlarging, last_start
from fnn.registry import register


@register
def espcn(
    scale: int = 3,
    *,
    channels: int = 1,
    features: Sequence[int] = (64, 32),
    activation: Layer = tanh,
    skip: bool = False,
) -> Layer:
    """ESPCN: a 5 × 5 and then 3 × 3 convolutions, the last with a channel for each pixel that it makes.

    The input is a small picture ``(batch, height, width, channels)`` with values in 0..1, the output one
    ``scale`` times as high and wide; space is padded by zeros, so that pictures of every size will do. For
    scale 3 it has 22,624 weights and 105 biases.

    Args:
        scale: How many times as high and wide the result is: 2 or more.
        channels: Those of the pictures: 1 for luma, 3 for colours.
        features: The channels of each convolution but the last.
        activation: What follows each of them; the paper has tanh, and ReLU for comparison.
        skip: Whether the bicubic enlargement is added to the output, so that the difference is learned.

    Raises:
        ValueError: The scale is not whole or below 2, or there are no features.
        LayerError: The input has other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.espcn().init(jax.random.key(0), jnp.ones((1, 17, 17, 1)))
        >>> {name: layer["kernel"].shape for name, layer in params.items()}
        {'conv1': (5, 5, 1, 64), 'conv2': (3, 3, 64, 32), 'conv3': (3, 3, 32, 9)}

    Source: Shi et al. 2016, arXiv:1609.05158.
    """
    check_enlarging("espcn", scale, channels)
    if not features:
        raise ValueError("espcn: features must hold a layer's channels or more, got none")
    layers: dict[str, Layer] = {}
    for i, width in enumerate(features, start=1):
        # variance 1 / fan-in keeps the signal through tanh
        kernel = conv(width, 5 if i == 1 else 3, kernel_init="lecun_normal")
        layers |= {f"conv{i}": kernel, f"activation{i}": activation}
    layers[f"conv{len(features) + 1}"] = conv(channels * scale**2, 3, kernel_init=last_start(skip))
    whole = serial(**layers, shuffle=pixel_shuffle(scale))
    return enlarging("espcn", channels, beside_bicubic(whole, scale) if skip else whole)
