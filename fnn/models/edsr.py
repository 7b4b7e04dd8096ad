"""EDSR: residual blocks without normalisation on the small picture, enlarged by sub-pixel convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import conv, fn, pixel_shuffle, relu
from fnn.layers.affine import along_channels
from fnn.layers.checks import few, fraction, positive
from fnn.models.blocks import fan_in_uniform, stage
from fnn.models.super_resolution import check_enlarging, enlarging
from fnn.registry import register

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""The mean red, green and blue of the pictures that the paper trains on."""


@register
def edsr(
    scale: int = 2,
    *,
    channels: int = 3,
    blocks: int = 16,
    features: int = 64,
    residual_scaling: float = 1.0,
    remat: bool = False,
    scan: bool = False,
) -> Layer:
    """EDSR: a convolution, residual blocks, sub-pixel convolutions that enlarge, a convolution.

    The input is a small picture ``(batch, height, width, channels)`` with values in 0..1, the output one
    ``scale`` times as high and wide; space is padded by zeros, so that pictures of every size will do. As in
    the paper the mean colour of its training pictures, `DIV2K_MEAN`, is taken from the input and given back
    to the output; where there are not 3 channels, it is 0.5. By default it is the paper's baseline, with
    1,369,859 parameters for scale 2, 1,554,499 for 3 and 1,517,571 for 4, the 1.5 M of its table;
    ``edsr(4, blocks=32, features=256, residual_scaling=0.1)`` is EDSR itself, with 43,089,923, its 43 M.

    Args:
        scale: How many times as high and wide the result is: 3, or a power of 2, by which it is enlarged in
            steps of 2.
        channels: Those of the pictures: 1 for luma, 3 for colours.
        blocks: How many residual blocks.
        features: Their channels.
        residual_scaling: What each block's output is multiplied by before it is added to its input. With
            256 channels training does not begin without 0.1.
        remat, scan: As in `fnn.resnet`.

    Raises:
        ValueError: The scale is neither 3 nor a power of 2, or a size is not positive.
        LayerError: The input has other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = jax.eval_shape(fnn.edsr(2).init, jax.random.key(0), jnp.ones((1, 48, 48, 3)))
        >>> {name: fnn.count(tree) for name, tree in params.items()}
        {'head': 1792, 'tail': 1731, 'trunk': 1218624, 'upsampler': 147712}

    Source: Lim et al. 2017, arXiv:1707.02921.
    """
    check_enlarging("edsr", scale, channels)
    if scale != 3 and scale & (scale - 1):
        raise ValueError(f"edsr: scale must be 3 or a power of 2, got {scale}")
    positive("edsr", blocks=blocks, features=features)
    few("edsr", blocks=blocks)
    fraction("edsr", residual_scaling=residual_scaling)
    mean = DIV2K_MEAN if channels == 3 else (0.5,) * channels
    trunk = serial(
        blocks=stage([_block(features, residual_scaling)] * blocks, remat=remat, scan=scan),
        conv=_conv(features),
    )
    whole = serial(
        without_mean=_shift([-value for value in mean]),
        head=_conv(features),
        trunk=residual(trunk),
        upsampler=_upsampler(scale, features),
        tail=_conv(channels),
        with_mean=_shift(mean),
    )
    return enlarging("edsr", channels, whole)


def _conv(features: int) -> Layer:
    """Starts small, as in the paper's own code: from ``he_normal`` each block would triple the variance."""
    return conv(features, 3, kernel_init=fan_in_uniform)


def _block(features: int, scaling: float) -> Layer:
    scaled = {} if scaling == 1.0 else {"scale": fn(lambda x: x * scaling)}
    return residual(serial(conv1=_conv(features), relu=relu, conv2=_conv(features), **scaled))


def _upsampler(scale: int, features: int) -> Layer:
    layers: dict[str, Layer] = {}
    factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    for i, factor in enumerate(factors, start=1):
        layers |= {f"conv{i}": _conv(factor**2 * features), f"shuffle{i}": pixel_shuffle(factor)}
    return serial(**layers)


def _shift(by: Sequence[float]) -> Layer:
    return fn(lambda x: x + along_channels(jnp.asarray(by, x.dtype), x.ndim))
