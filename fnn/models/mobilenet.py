"""MobileNetV2: inverted residual blocks of depthwise convolutions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import (
    INITIALIZERS,
    batch_norm,
    conv,
    dense,
    depthwise_conv,
    dropout,
    global_avg_pool,
    relu6,
)
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import he_fan_out, scaled
from fnn.models.exchange import Naming
from fnn.registry import register

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of the paper: expansion, channels, blocks, stride of the first block."""


@register
def mobilenet_v2(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.2) -> Layer:
    """MobileNetV2: 17 inverted residual blocks, 3,504,872 parameters.

    The input is ``(batch, 224, 224, 3)``, or of any other size. A block expands the channels by a 1 × 1
    convolution, sees space by a depthwise 3 × 3 convolution, and projects to few channels without an
    activation: ``stage2/block1/expand``, ``depthwise``, ``project``. Its input is added where the shapes
    agree, and the path then has ``body``. Kernels of convolutions start with variance 2 / fan-out, that of
    the last layer with a standard deviation of 0.01.

    Args:
        classes: The number of outputs.
        width: What the channels are multiplied by, to the nearest multiple of 8; the last convolution stays
            as wide where they become fewer.
        dropout_rate: The share of values dropped before the last layer in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 224, 224, 3))
        >>> fnn.count(jax.eval_shape(lambda: fnn.mobilenet_v2().init(jax.random.key(0), x)[0]))
        3504872

    Source: Sandler et al. 2018, arXiv:1801.04381.
    """
    return replace(mobilenet(STAGES, classes, width, dropout_rate), kind="mobilenet_v2")


def mobilenet(
    stages: Sequence[tuple[int, int, int, int]], classes: int, width: float, dropout_rate: float
) -> Layer:
    """MobileNetV2 with the stages of a table."""

    def channels(n: int) -> int:
        return scaled("mobilenet_v2", n, width, 8)

    before = channels(32)
    parts = {"stem": _normed(conv(before, 3, stride=2, padding=1, bias=False, kernel_init=he_fan_out))}
    for number, (expansion, features, blocks, stride) in enumerate(stages, start=1):
        inner: dict[str, Layer] = {}
        for i in range(1, blocks + 1):
            inner[f"block{i}"] = _block(before, channels(features), expansion, stride if i == 1 else 1)
            before = channels(features)
        parts[f"stage{number}"] = serial(**inner)
    last = scaled("mobilenet_v2", 1280, max(width, 1.0), 8)
    parts["head"] = _normed(conv(last, 1, bias=False, kernel_init=he_fan_out))
    return serial(
        **parts,
        pool=global_avg_pool,
        drop=dropout(dropout_rate),
        classifier=dense(classes, kernel_init=INITIALIZERS["normal"](0.01)),
    )


def _block(before: int, after: int, expansion: int, stride: int) -> Layer:
    parts: dict[str, Layer] = {}
    if expansion > 1:
        parts["expand"] = _normed(conv(before * expansion, 1, bias=False, kernel_init=he_fan_out))
    parts["depthwise"] = _normed(
        depthwise_conv(3, stride=stride, padding=1, bias=False, kernel_init=he_fan_out)
    )
    parts["project"] = serial(conv=conv(after, 1, bias=False, kernel_init=he_fan_out), norm=batch_norm())
    body = serial(**parts)
    return residual(body) if stride == 1 and before == after else body


def _normed(convolution: Layer) -> Layer:
    return serial(conv=convolution, norm=batch_norm(), relu6=relu6)


def _place(match: re.Match[str]) -> str:
    """torchvision numbers the blocks through all stages, after the stem."""
    stage, block = int(match[1]), int(match[2])
    return f"features.{sum(blocks for _, _, blocks, _ in STAGES[: stage - 1]) + block}.conv."


_TORCHVISION = Naming(
    (
        *renamed({"project.conv": "2", "project.norm": "3"}),
        (r"\bconv\.(\w+)$", r"0.\1"),
        (r"\bnorm\.(\w+)$", r"1.\1"),
        *renamed({"expand": "0", "depthwise": "1"}),
        (r"^stage(\d)\.block(\d)\.(?:body\.)?", _place),
        # the first block expands nothing, and what comes after is one place ahead
        (r"^features\.1\.conv\.(\d)", lambda match: f"features.1.conv.{int(match[1]) - 1}"),
        *renamed({"stem": "features.0", "head": "features.18", "classifier": "classifier.1"}),
    )
)

_TIMM = Naming(
    (
        *renamed(
            {"stem.conv": "conv_stem", "stem.norm": "bn1", "head.conv": "conv_head", "head.norm": "bn2"}
        ),
        (
            r"^stage(\d)\.block(\d)\.(?:body\.)?",
            lambda match: f"blocks.{int(match[1]) - 1}.{int(match[2]) - 1}.",
        ),
        # the first block expands nothing
        (r"^(blocks\.0\.0)\.depthwise\.norm", r"\1.bn1"),
        (r"^(blocks\.0\.0)\.project\.conv", r"\1.conv_pw"),
        (r"^(blocks\.0\.0)\.project\.norm", r"\1.bn2"),
        *renamed({"expand.conv": "conv_pw", "depthwise.conv": "conv_dw", "project.conv": "conv_pwl"}),
        *renamed({"expand.norm": "bn1", "depthwise.norm": "bn2", "project.norm": "bn3"}),
    )
)

ARCHITECTURES = {"mobilenet_v2": Architecture(IMAGENET, {"torchvision": _TORCHVISION, "timm": _TIMM})}
