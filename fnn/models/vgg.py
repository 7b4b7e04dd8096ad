"""VGG: 3 × 3 convolutions in five stages, each stage halved in space by max pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import (
    INITIALIZERS,
    adaptive_avg_pool,
    batch_norm,
    conv,
    dense,
    dropout,
    flatten,
    max_pool,
    relu,
)
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import scaled
from fnn.models.exchange import Naming
from fnn.registry import register

CHANNELS = (64, 128, 256, 512, 512)
CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each stage, by the number of layers: columns A, B, D and E of the paper's Table 1."""


@register
def vgg11(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """VGG of 8 convolutions and 3 dense layers, column A of the paper: 132,863,336 parameters.

    See `vgg16`.
    """
    return _vgg("vgg11", 11, False, classes, width, dropout_rate)


@register
def vgg13(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """VGG of 10 convolutions and 3 dense layers, column B of the paper: 133,047,848 parameters.

    See `vgg16`.
    """
    return _vgg("vgg13", 13, False, classes, width, dropout_rate)


@register
def vgg16(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """VGG of 13 convolutions and 3 dense layers, column D of the paper: 138,357,544 parameters.

    The input is ``(batch, 224, 224, 3)``, or of another size from 32 × 32 on: what the convolutions give is
    averaged to 7 × 7. They are named as in the paper's own release, ``features/conv3_1`` for the first of the
    third stage, ``classifier/fc6`` to ``fc8``. Kernels of convolutions start with variance 2 / fan-out, those
    of dense layers with a standard deviation of 0.01.

    Args:
        classes: The number of outputs.
        width: What the channels and the hidden dense layers are multiplied by.
        dropout_rate: The share of the hidden dense layers' values dropped in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 224, 224, 3))
        >>> fnn.count(jax.eval_shape(lambda: fnn.vgg16().init(jax.random.key(0), x)[0]))
        138357544

    Source: Simonyan & Zisserman 2014, arXiv:1409.1556.
    """
    return _vgg("vgg16", 16, False, classes, width, dropout_rate)


@register
def vgg19(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """VGG of 16 convolutions and 3 dense layers, column E of the paper: 143,667,240 parameters.

    See `vgg16`.
    """
    return _vgg("vgg19", 19, False, classes, width, dropout_rate)


@register
def vgg11_bn(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """`vgg11` with batch normalisation after every convolution, as torchvision has it."""
    return _vgg("vgg11_bn", 11, True, classes, width, dropout_rate)


@register
def vgg13_bn(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """`vgg13` with batch normalisation after every convolution, as torchvision has it."""
    return _vgg("vgg13_bn", 13, True, classes, width, dropout_rate)


@register
def vgg16_bn(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """`vgg16` with batch normalisation after every convolution, as torchvision has it."""
    return _vgg("vgg16_bn", 16, True, classes, width, dropout_rate)


@register
def vgg19_bn(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """`vgg19` with batch normalisation after every convolution, as torchvision has it."""
    return _vgg("vgg19_bn", 19, True, classes, width, dropout_rate)


def _vgg(kind: str, depth: int, norm: bool, classes: int, width: float, dropout_rate: float) -> Layer:
    channels = [scaled(kind, n, width) for n in CHANNELS]
    hidden = scaled(kind, 4096, width)
    normal = INITIALIZERS["normal"](0.01)
    classifier = serial(
        fc6=dense(hidden, kernel_init=normal),
        relu6=relu,
        drop6=dropout(dropout_rate),
        fc7=dense(hidden, kernel_init=normal),
        relu7=relu,
        drop7=dropout(dropout_rate),
        fc8=dense(classes, kernel_init=normal),
    )
    whole = serial(
        features=_stages(CONVS[depth], channels, norm),
        pool=adaptive_avg_pool(7),
        flatten=flatten,
        classifier=classifier,
    )
    return replace(whole, kind=kind)


def _stages(convs: Sequence[int], channels: Sequence[int], norm: bool) -> Layer:
    fan_out = INITIALIZERS["variance_scaling"](2.0, "fan_out", "normal")
    layers: dict[str, Layer] = {}
    for stage, (number, width) in enumerate(zip(convs, channels, strict=True), start=1):
        for i in range(1, number + 1):
            layers[f"conv{stage}_{i}"] = conv(width, 3, kernel_init=fan_out)
            layers |= {f"norm{stage}_{i}": batch_norm()} if norm else {}
            layers[f"relu{stage}_{i}"] = relu
        layers[f"pool{stage}"] = max_pool(2)
    return serial(**layers)


def _places(convs: Sequence[int], norm: bool) -> dict[str, str]:
    """Where torchvision's ``features``, a list of modules, has our layers."""
    places: dict[str, str] = {}
    place = 0
    for stage, number in enumerate(convs, start=1):
        for i in range(1, number + 1):
            places[f"conv{stage}_{i}"] = str(place)
            places |= {f"norm{stage}_{i}": str(place + 1)} if norm else {}
            place += 3 if norm else 2
        place += 1
    return places


def _architecture(depth: int, norm: bool) -> Architecture:
    features = _places(CONVS[depth], norm)
    flattened = {"classifier/fc6": (7, 7, -1)}
    torchvision = Naming(renamed({**features, "fc6": "0", "fc7": "3", "fc8": "6"}), flattened)
    # timm has convolutions where the first two dense layers are
    layers = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    names = {f"classifier.{ours}": theirs for ours, theirs in layers.items()}
    windows: tuple[tuple[str, Callable[[tuple[int, ...]], tuple[int, ...]]], ...] = (
        (r"pre_logits\.fc1\.weight", lambda shape: (shape[0], shape[1] // 49, 7, 7)),
        (r"pre_logits\.fc2\.weight", lambda shape: (*shape, 1, 1)),
    )
    timm = Naming(renamed({**features, **names}), flattened, windows)
    return Architecture(IMAGENET, {"torchvision": torchvision, "timm": timm})


ARCHITECTURES = {
    f"vgg{depth}{'_bn' if norm else ''}": _architecture(depth, norm)
    for depth in CONVS
    for norm in (False, True)
}
