"""Blocks that models are made of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import jax
import numpy as np
from jax.nn.initializers import variance_scaling

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import conv, depthwise_conv
from fnn.layers.checks import LARGEST
from fnn.layers.conv import Size
from fnn.layers.initializers import Initializer
from fnn.layers.padding import Padding
from fnn.registry import register
from fnn.repeat import remat as recomputed
from fnn.repeat import repeat

he_fan_out = variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015 (arXiv:1502.01852), for the gradient on its way back: what residual networks start from."""

fan_in_uniform = variance_scaling(1 / 3, "fan_in", "uniform")
"""Within ``1 / sqrt(fan-in)``: PyTorch's default, from which torchvision's last layers start."""

_STACKED = re.compile(r"(?<![^/])blocks(\d{1,4})-(\d{1,4})/layer/")
"""What `stage` calls the blocks that are scanned, in a path."""


def plain_conv(features: int, kernel: int, stride: int = 1) -> Layer:
    """A convolution as residual networks have it before a normalisation, without a bias.

    It is padded by half its kernel, as in PyTorch: "SAME" has other windows at stride 2.
    """
    return conv(features, kernel, stride=stride, padding=kernel // 2, bias=False, kernel_init=he_fan_out)


def numbered(match: re.Match[str]) -> str:
    """``.block3.`` as others count: ``.2.``."""
    return f".{int(match[1]) - 1}."


def stage(blocks: Sequence[Layer], *, remat: bool = False, scan: bool = False) -> Layer:
    """Blocks one after the other, named ``block1``, ``block2``, ...

    Args:
        blocks: Layers; the same one several times has parameters of its own each time.
        remat: Whether the values inside of a block are computed again for the gradient instead of kept.
        scan: Whether the same block several times in a row is compiled once, as one `fnn.repeat`: its
            parameters are stacked, and the path says of which blocks: ``blocks2-6/layer/...``.

    Example:
        >>> import fnn
        >>> from fnn.models.blocks import stage
        >>> first, other = fnn.dense(8), fnn.dense(8)
        >>> [name for name, _ in stage([first, other, other]).children]
        ['block1', 'block2', 'block3']
        >>> [name for name, _ in stage([first, other, other], scan=True).children]
        ['block1', 'blocks2-3']
    """
    children: dict[str, Layer] = {}
    first = 1
    for block, alike in groupby(blocks):
        n = len(list(alike))
        block = recomputed(block) if remat else block
        if scan and n > 1:
            children[f"blocks{first}-{first + n - 1}"] = repeat(block, n)
        else:
            children |= {f"block{i}": block for i in range(first, first + n)}
        first += n
    return serial(**children)


def regrouped(leaves: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The leaves of a tree whose stages are scanned, or not, as another tree of the same model has them.

    Args:
        leaves: Arrays or shapes by path.
        names: The paths of the other tree. What is stacked there gets stacked, if all its blocks are here
            and alike; what is stacked here and not there comes apart, block by block.

    Returns:
        All leaves, in the order of their paths.

    Example:
        >>> import numpy as np
        >>> from fnn.models.blocks import regrouped
        >>> apart = regrouped({"blocks2-3/layer/bias": np.array([[1, 2], [3, 4]])}, ())
        >>> apart
        {'block2/bias': array([1, 2]), 'block3/bias': array([3, 4])}
        >>> regrouped(apart, ["blocks2-3/layer/bias"])["blocks2-3/layer/bias"].shape
        (2, 2)
    """
    stacks = dict.fromkeys(name for name in names if _STACKED.search(name))
    found: dict[str, Any] = {}
    for path, leaf in leaves.items():
        blocks = [] if path in stacks else list(_blocks(path))
        apart = blocks and leaf.shape[:1] == (len(blocks),)  # else somebody's own name, which looks like ours
        found |= dict(zip(blocks, _apart(leaf), strict=True)) if apart else {path: leaf}
    for name in stacks:
        if not all(block in found for block in _blocks(name)):
            continue
        blocks = list(_blocks(name))
        if len({(found[block].shape, found[block].dtype) for block in blocks}) == 1:
            found[name] = _together([found.pop(block) for block in blocks])
    return dict(sorted(found.items()))


def _blocks(path: str) -> Iterator[str]:
    """Where the blocks one by one have what is stacked at a path; nothing, where it is not stacked."""
    if stack := _STACKED.search(path):
        for i in range(int(stack[1]), int(stack[2]) + 1):
            yield f"{path[: stack.start()]}block{i}/{path[stack.end() :]}"


def _apart(leaf: Any) -> list[Any]:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)] * leaf.shape[0]
    return list(np.asarray(leaf))


def _together(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(parts), *parts[0].shape), parts[0].dtype)
    return np.stack(parts)


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
