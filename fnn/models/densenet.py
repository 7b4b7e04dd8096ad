"""DenseNet: every layer of a block sees the outputs of all before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fnn.combine import concat, serial
from fnn.layer import Layer
from fnn.layers import (
    INITIALIZERS,
    avg_pool,
    batch_norm,
    conv,
    dense,
    dropout,
    global_avg_pool,
    max_pool,
    relu,
)
from fnn.models.architecture import IMAGENET, Architecture
from fnn.models.exchange import Naming
from fnn.registry import register


@register
def densenet121(classes: int = 1000, *, growth: int = 32, dropout_rate: float = 0.0) -> Layer:
    """DenseNet-BC of 121 layers with weights, in blocks of 6, 12, 24 and 16: 7,978,856 parameters.

    The input is ``(batch, 224, 224, 3)``, or of another size from 29 × 29 on. Layer ``i`` of a block makes
    ``growth`` new channels, ``block1/layer1/new``, and hands them on beside all that it got. Between blocks a
    transition halves channels and space. Kernels start with variance 2 / fan-in, and that of the last layer
    uniformly in ±1 / √fan-in.

    Args:
        classes: The number of outputs.
        growth: The channels that each layer adds; the first convolution has twice as many.
        dropout_rate: The share of each layer's new values dropped in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 224, 224, 3))
        >>> fnn.count(jax.eval_shape(lambda: fnn.densenet121().init(jax.random.key(0), x)[0]))
        7978856

    Source: Huang et al. 2016, arXiv:1608.06993.
    """
    return replace(densenet((6, 12, 24, 16), classes, growth, dropout_rate), kind="densenet121")


def densenet(layers: Sequence[int], classes: int, growth: int, dropout_rate: float) -> Layer:
    """DenseNet-BC with so many layers in each of its blocks."""
    channels = 2 * growth
    parts: dict[str, Layer] = {
        "conv0": conv(channels, 7, stride=2, padding=3, bias=False),
        "norm0": batch_norm(),
        "relu0": relu,
        "pool0": max_pool(3, 2, padding=1),
    }
    for number, depth in enumerate(layers, start=1):
        if number > 1:
            channels //= 2
            parts[f"transition{number - 1}"] = _transition(channels)
        parts[f"block{number}"] = serial(
            **{f"layer{i}": _layer(growth, dropout_rate) for i in range(1, depth + 1)}
        )
        channels += depth * growth
    last = dense(classes, kernel_init=INITIALIZERS["variance_scaling"](1 / 3, "fan_in", "uniform"))
    return serial(**parts, norm5=batch_norm(), relu5=relu, pool5=global_avg_pool, classifier=last)


def _layer(growth: int, dropout_rate: float) -> Layer:
    """A bottleneck of four times the growth, whose output comes after the input's own channels."""
    new = serial(
        norm1=batch_norm(),
        relu1=relu,
        conv1=conv(4 * growth, 1, bias=False),
        norm2=batch_norm(),
        relu2=relu,
        conv2=conv(growth, 3, bias=False),
        drop=dropout(dropout_rate),
    )
    return concat(old=serial(), new=new)


def _transition(channels: int) -> Layer:
    return serial(norm=batch_norm(), relu=relu, conv=conv(channels, 1, bias=False), pool=avg_pool(2))


_PYTORCH = Naming(
    (
        (r"^block(\d)\.layer(\d+)\.new\.", r"denseblock\1.denselayer\2."),
        (r"^(?!classifier)", "features."),
    )
)

ARCHITECTURES = {"densenet121": Architecture(IMAGENET, {"torchvision": _PYTORCH, "timm": _PYTORCH})}
