"""FSRCNN: SRCNN made fast, by working on the small picture and enlarging it last."""

from __future__ import annotations

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import conv, conv_transpose, prelu
from fnn.layers.checks import few, positive
from fnn.models.super_resolution import beside_bicubic, check_enlarging, enlarging, last_start
from fnn.registry import register

LAST = 9
"""The window of the transposed convolution."""


@register
def fsrcnn(
    scale: int = 3, *, d: int = 56, s: int = 12, m: int = 4, channels: int = 1, skip: bool = False
) -> Layer:
    """FSRCNN(d, s, m): features of the small picture, shrunk, mapped, expanded, and enlarged at last.

    The input is a small picture ``(batch, height, width, channels)`` with values in 0..1, the output one
    ``scale`` times as high and wide; space is padded by zeros, so that pictures of every size will do. The
    last layer is a 9 × 9 transposed convolution with the scale as its stride, centred on each pixel.
    FSRCNN(56, 12, 4) has 12,464 weights in its kernels, for every scale, as the paper counts; 173 biases and
    172 slopes of PReLU come to them.

    Args:
        scale: How many times as high and wide the result is: 2 to 9. Above, the last kernel would leave gaps.
        d: Channels of the features.
        s: Channels that they are shrunk to.
        m: How many 3 × 3 convolutions map them.
        channels: Those of the pictures: 1 for luma, 3 for colours.
        skip: Whether the bicubic enlargement is added to the output, so that the difference is learned.

    Raises:
        ValueError: The scale is not whole or not in 2..9, or a size is not positive.
        LayerError: The input has other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.fsrcnn().init(jax.random.key(0), jnp.ones((1, 7, 7, 1)))
        >>> fnn.count(params), sum(fnn.count(layer.get("kernel", {})) for layer in params.values())
        (12809, 12464)

    Source: Dong et al. 2016, arXiv:1608.00367.
    """
    return _fsrcnn("fsrcnn", scale, d, s, m, channels, skip)


@register
def fsrcnn_s(scale: int = 3, *, channels: int = 1, skip: bool = False) -> Layer:
    """FSRCNN-s, the small form: FSRCNN(32, 5, 1), with 3,937 weights in its kernels.

    Args:
        scale, channels, skip: As in `fsrcnn`.

    Raises:
        ValueError, LayerError: As `fsrcnn`.

    Source: Dong et al. 2016, arXiv:1608.00367.
    """
    return _fsrcnn("fsrcnn_s", scale, 32, 5, 1, channels, skip)


def _fsrcnn(kind: str, scale: int, d: int, s: int, m: int, channels: int, skip: bool) -> Layer:
    check_enlarging(kind, scale, channels)
    positive(kind, d=d, s=s, m=m)
    few(kind, m=m)
    if scale > LAST:
        raise ValueError(f"{kind}: scale must be at most {LAST}, the last kernel's width, got {scale}")
    mapping = {f"map{i}": conv(s, 3) for i in range(1, m + 1)}
    hidden = {"extract": conv(d, 5), "shrink": conv(s, 1), **mapping, "expand": conv(d, 1)}
    layers: dict[str, Layer] = {}
    for name, layer in hidden.items():
        layers |= {name: layer, f"{name}_prelu": prelu()}
    # "SAME" cuts (9 - scale) / 2 cells from each side, so that a pixel paints around its own middle
    enlarge = conv_transpose(channels, LAST, stride=scale, kernel_init=last_start(skip))
    whole = serial(**layers, enlarge=enlarge)
    return enlarging(kind, channels, beside_bicubic(whole, scale) if skip else whole)
