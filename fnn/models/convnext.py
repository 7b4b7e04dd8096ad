"""ConvNeXt: a convolutional network with the proportions of a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jax.nn.initializers import normal

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import (
    conv,
    dense,
    depthwise_conv,
    gelu,
    global_avg_pool,
    layer_norm,
    layer_scale,
    stochastic_depth,
)
from fnn.layers.checks import few, fraction, positive
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import numbered, stage
from fnn.models.exchange import Naming
from fnn.registry import register

_START = normal(0.02)  # the paper cuts it at ±2, a hundred of its deviations
_EPSILON = 1e-6


@register
def convnext(
    depths: Sequence[int],
    features: Sequence[int],
    *,
    classes: int = 1000,
    scale: float = 1e-6,
    drop_rate: float = 0.0,
    remat: bool = False,
    scan: bool = False,
) -> Layer:
    """A ConvNeXt of any size: a stem of 4 × 4 patches, stages of blocks, the mean over space, a dense layer.

    A block is a 7 × 7 depthwise convolution, layer normalisation, and a perceptron over the channels with 4
    times as many inside. Between stages height and width are halved by a 2 × 2 convolution.

    Args:
        depths: How many blocks each stage has.
        features: The channels of each stage.
        classes: The number of outputs.
        scale: What the learned scale of each block starts from.
        drop_rate: How often the last block is skipped in training (`fnn.stochastic_depth`); it grows linearly
            from 0 in the first. Blocks that are scanned share the mean of their stage.
        remat, scan: As in `fnn.resnet`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> model = fnn.convnext([1, 1], [4, 8], classes=3)
        >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 16, 16, 3)))
        >>> {name: fnn.count(tree) for name, tree in params.items()}
        {'down2': 144, 'head': 27, 'norm': 16, 'stage1': 360, 'stage2': 976, 'stem': 204}

    Source: Liu et al. 2022, arXiv:2201.03545.
    """
    if len(depths) != len(features) or not depths:
        raise ValueError(
            f"convnext: expected a depth and a width for each stage, got {len(depths)} and {len(features)}"
        )
    positive("convnext", **{f"the number of blocks in stage {i}": n for i, n in enumerate(depths, 1)})
    few("convnext", blocks=sum(depths))
    fraction("convnext", drop_rate=drop_rate)
    rates = np.split(np.linspace(0.0, drop_rate, sum(depths)), np.cumsum(depths)[:-1])

    children: dict[str, Layer] = {}
    for i, (wide, own) in enumerate(zip(features, rates, strict=True), start=1):
        if i == 1:
            children["stem"] = serial(conv=_patches(wide, 4), norm=layer_norm(_EPSILON))
        else:
            children[f"down{i}"] = serial(norm=layer_norm(_EPSILON), conv=_patches(wide, 2))
        if scan or not drop_rate:
            blocks = [_block(wide, scale, float(own.mean()))] * len(own)
        else:
            blocks = [_block(wide, scale, float(rate)) for rate in own]
        children[f"stage{i}"] = stage(blocks, remat=remat, scan=scan)
    head = dense(classes, kernel_init=_START)
    whole = serial(**children, pool=global_avg_pool, norm=layer_norm(_EPSILON), head=head)
    return replace(whole, kind="convnext")


def _patches(features: int, size: int) -> Layer:
    return conv(features, size, stride=size, padding="VALID", kernel_init=_START)


def _block(features: int, scale: float, drop_rate: float) -> Layer:
    body = serial(
        conv=depthwise_conv(7, padding=3, kernel_init=_START),
        norm=layer_norm(_EPSILON),
        expand=dense(4 * features, kernel_init=_START),
        gelu=gelu(approximate=False),
        project=dense(features, kernel_init=_START),
        scale=layer_scale(scale),
        **({"drop": stochastic_depth(drop_rate)} if drop_rate else {}),
    )
    return residual(body)


@register
def convnext_tiny(
    classes: int = 1000, *, drop_rate: float = 0.1, remat: bool = False, scan: bool = False
) -> Layer:
    """ConvNeXt-T: 18 blocks, 28.6 M parameters.

    Args:
        classes, drop_rate, remat, scan: As in `convnext`.

    Source: Liu et al. 2022, arXiv:2201.03545.
    """
    sizes = [3, 3, 9, 3], [96, 192, 384, 768]
    model = convnext(*sizes, classes=classes, drop_rate=drop_rate, remat=remat, scan=scan)
    return replace(model, kind="convnext_tiny")


@register
def convnext_small(
    classes: int = 1000, *, drop_rate: float = 0.4, remat: bool = False, scan: bool = False
) -> Layer:
    """ConvNeXt-S: 36 blocks, 50.2 M parameters.

    Args:
        classes, drop_rate, remat, scan: As in `convnext`.

    Source: Liu et al. 2022, arXiv:2201.03545.
    """
    sizes = [3, 3, 27, 3], [96, 192, 384, 768]
    model = convnext(*sizes, classes=classes, drop_rate=drop_rate, remat=remat, scan=scan)
    return replace(model, kind="convnext_small")


@register
def convnext_base(
    classes: int = 1000, *, drop_rate: float = 0.5, remat: bool = False, scan: bool = False
) -> Layer:
    """ConvNeXt-B: 36 blocks, 88.6 M parameters.

    Args:
        classes, drop_rate, remat, scan: As in `convnext`.

    Source: Liu et al. 2022, arXiv:2201.03545.
    """
    sizes = [3, 3, 27, 3], [128, 256, 512, 1024]
    model = convnext(*sizes, classes=classes, drop_rate=drop_rate, remat=remat, scan=scan)
    return replace(model, kind="convnext_base")


_TORCHVISION = Naming(
    rules=(
        (r"\.block(\d+)\.", numbered),
        (r"^stage(\d)", lambda match: f"features.{2 * int(match[1]) - 1}"),
        (r"^down(\d)", lambda match: f"features.{2 * int(match[1]) - 2}"),
        (r"^stem\.conv", "features.0.0"),
        (r"^stem\.norm", "features.0.1"),
        (r"^features\.(\d)\.norm", r"features.\1.0"),
        (r"^features\.(\d)\.conv", r"features.\1.1"),
        (r"body\.scale\.weight", "layer_scale"),
        (r"body\.", "block."),
        *renamed({"block.conv": "block.0", "block.norm": "block.2"}),
        *renamed({"block.expand": "block.3", "block.project": "block.5"}),
        (r"^norm", "classifier.0"),
        (r"^head", "classifier.2"),
    ),
    shapes=((r".*layer_scale", lambda shape: (*shape, 1, 1)),),
)

_TIMM = Naming(
    (
        (r"\.block(\d+)\.", lambda match: f".blocks.{int(match[1]) - 1}."),
        (r"^stage(\d)", lambda match: f"stages.{int(match[1]) - 1}"),
        (r"^down(\d)\.norm", lambda match: f"stages.{int(match[1]) - 1}.downsample.0"),
        (r"^down(\d)\.conv", lambda match: f"stages.{int(match[1]) - 1}.downsample.1"),
        (r"body\.scale\.weight", "gamma"),
        (r"^head", "head.fc"),
        (r"^norm", "head.norm"),
        *renamed({"stem.conv": "stem.0", "stem.norm": "stem.1", "body.conv": "conv_dw", "body.norm": "norm"}),
        *renamed({"body.expand": "mlp.fc1", "body.project": "mlp.fc2"}),
    )
)

_NAMINGS = {"torchvision": _TORCHVISION, "timm": _TIMM}

ARCHITECTURES = {
    "convnext_tiny": Architecture(replace(IMAGENET, short_side=236), _NAMINGS),
    "convnext_small": Architecture(replace(IMAGENET, short_side=230), _NAMINGS),
    "convnext_base": Architecture(replace(IMAGENET, short_side=232), _NAMINGS),
}
