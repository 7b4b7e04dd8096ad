"""Residual networks whose blocks begin with normalisation, for pictures of 32 × 32: deep and wide ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import batch_norm, dense, dropout, global_avg_pool, relu
from fnn.layers.checks import positive
from fnn.models.blocks import fan_in_uniform, plain_conv, stage
from fnn.models.resnet_cifar import units
from fnn.registry import register


@register
def preact_resnet(
    depth: int = 164,
    classes: int = 10,
    *,
    bottlenecks: bool | None = None,
    width: int = 16,
    remat: bool = False,
    scan: bool = False,
) -> Layer:
    """A residual network with identity mappings: normalisation and ReLU come before each convolution.

    A block is of two 3 × 3 convolutions (in the paper at depth 110: 1.7 M parameters) or a bottleneck of
    1 × 1, 3 × 3 and 1 × 1 (164: 1.7 M, 1001: 10.3 M). Where it changes the channels, its shortcut is a 1 × 1
    convolution behind the same normalisation and ReLU, as in the authors' code.

    Args:
        depth: With n blocks in each of three stages 6 n + 2, and with bottlenecks 9 n + 2.
        classes: The number of outputs.
        bottlenecks: Whether the blocks are bottlenecks; by default from 164 layers on.
        width: Channels of the stem, and of the 3 × 3 convolutions of the first stage.
        remat, scan: As in `fnn.resnet`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 32, 32, 3))
        >>> params, _ = jax.eval_shape(fnn.preact_resnet(8).init, jax.random.key(0), x)
        >>> [path for path in fnn.paths(params) if path.startswith("layer2/block1") and "kernel" in path]
        ['layer2/block1/residual/body/conv1/kernel',
         'layer2/block1/residual/body/conv2/kernel',
         'layer2/block1/residual/skip/kernel']

    Source: He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027.
    """
    positive("preact_resnet", width=width)
    if bottlenecks is None:
        bottlenecks = depth >= 164
    n = units("preact_resnet", depth, 9 if bottlenecks else 6, 2)
    features, convs = (4 * width, bottleneck) if bottlenecks else (width, basic)
    whole = _network(n, width, features, classes, convs, remat, scan)
    return replace(whole, kind="preact_resnet")


@register
def wide_resnet(
    depth: int = 28,
    width: int = 10,
    classes: int = 10,
    *,
    dropout_rate: float = 0.0,
    remat: bool = False,
    scan: bool = False,
) -> Layer:
    """WRN-``depth``-``width``: few blocks, as in `preact_resnet`, with ``width`` times the channels.

    WRN-28-10 has 36.5 M parameters, WRN-16-8 11.0 M, WRN-40-4 8.9 M.

    Args:
        depth: 6 n + 4, with n blocks in each of three stages.
        width: The stages have 16, 32 and 64 times so many channels.
        classes: The number of outputs.
        dropout_rate: The share of values dropped between the convolutions of a block in training.
        remat, scan: As in `fnn.resnet`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 32, 32, 3))
        >>> params, _ = jax.eval_shape(fnn.wide_resnet(28, 10).init, jax.random.key(0), x)
        >>> fnn.count(params)
        36479194

    Source: Zagoruyko & Komodakis 2016, arXiv:1605.07146.
    """
    positive("wide_resnet", width=width)
    n = units("wide_resnet", depth, 6, 4)

    def block(features: int, stride: int) -> dict[str, Layer]:
        return basic(features, stride, dropout_rate)

    return replace(_network(n, 16, 16 * width, classes, block, remat, scan), kind="wide_resnet")


def basic(features: int, stride: int, dropout_rate: float = 0.0) -> dict[str, Layer]:
    """Two 3 × 3 convolutions, what is before the first left out."""
    return {
        "conv1": plain_conv(features, 3, stride),
        "norm2": batch_norm(),
        "relu2": relu,
        **({"dropout": dropout(dropout_rate)} if dropout_rate else {}),
        "conv2": plain_conv(features, 3),
    }


def bottleneck(features: int, stride: int) -> dict[str, Layer]:
    """To a quarter of the channels, 3 × 3 on these, back; what is before the first left out."""
    return {
        "conv1": plain_conv(features // 4, 1, stride),
        "norm2": batch_norm(),
        "relu2": relu,
        "conv2": plain_conv(features // 4, 3),
        "norm3": batch_norm(),
        "relu3": relu,
        "conv3": plain_conv(features, 1),
    }


def _network(
    n: int,
    stem: int,
    features: int,
    classes: int,
    convs: Callable[[int, int], dict[str, Layer]],
    remat: bool,
    scan: bool,
) -> Layer:
    """Three stages of ``n`` blocks, the first of ``features`` channels, each further one of twice as many."""

    def same(wide: int) -> Layer:
        return residual(serial(norm1=batch_norm(), relu1=relu, **convs(wide, 1)))

    def changing(wide: int, stride: int) -> Layer:
        both = residual(serial(**convs(wide, stride)), skip=plain_conv(wide, 1, stride))
        return serial(norm1=batch_norm(), relu1=relu, residual=both)

    stages = {}
    for i in range(3):
        wide, stride = features * 2**i, 2 if i else 1
        rest = same(wide)
        first = changing(wide, stride) if stride > 1 or features != stem else rest
        stages[f"layer{i + 1}"] = stage([first, *[rest] * (n - 1)], remat=remat, scan=scan)
    return serial(
        stem=plain_conv(stem, 3),
        **stages,
        norm=batch_norm(),
        relu=relu,
        pool=global_avg_pool,
        head=dense(classes, kernel_init=fan_in_uniform),
    )
