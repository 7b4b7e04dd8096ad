"""The networks that are compared, as plain data, and their weights from a seed, by path.

Every peer builds its own form from these layers in order. Arrays are channels last (``NHWC``), kernels are
``(height, width, in, out)``; a convolution is padded by half its kernel on every side, so that PyTorch and
JAX mean the same by it, at a stride, too.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED = 0

Shape = tuple[int, ...]
Weights = dict[str, np.ndarray]
"""Arrays by path: ``block1/body/conv1/kernel``."""


@dataclass(frozen=True)
class Conv:
    """A square convolution."""

    name: str
    features: int
    kernel: int
    stride: int = 1
    bias: bool = False


@dataclass(frozen=True)
class Depthwise:
    """A 3 x 3 convolution of each channel by itself, without a bias."""

    name: str
    stride: int = 1
    kernel: int = 3


@dataclass(frozen=True)
class Norm:
    """Batch normalisation: momentum 0.9 (PyTorch's 0.1), epsilon 1e-5."""

    name: str


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with a bias."""

    name: str
    features: int


@dataclass(frozen=True)
class Residual:
    """``body(x) + skip(x)``; an empty skip is the identity."""

    name: str
    body: Layers
    skip: Layers = ()


Layer = Conv | Depthwise | Norm | Dense | Residual | str
"""A layer with weights, or ``"relu"``, ``"max_pool"`` (2 x 2), ``"flatten"``, ``"global_avg_pool"``."""
Layers = tuple[Layer, ...]


def mlp(*widths: int) -> Layers:
    *hidden, last = widths
    layers = [layer for i, width in enumerate(hidden, 1) for layer in (Dense(f"dense{i}", width), "relu")]
    return (*layers, Dense(f"dense{len(widths)}", last))


def lenet() -> Layers:
    return (
        *(Conv("conv1", 32, 5, bias=True), "relu", "max_pool"),
        *(Conv("conv2", 64, 5, bias=True), "relu", "max_pool"),
        *("flatten", Dense("dense1", 512), "relu", Dense("dense2", 10)),
    )


def resnet18() -> Layers:
    """ResNet-18 as for CIFAR: a 3 x 3 stem and no first pooling (He et al. 2015, arXiv:1512.03385)."""
    layers: list[Layer] = [Conv("stem", 64, 3), Norm("stem_norm"), "relu"]
    channels = 64
    for stage, features in enumerate((64, 128, 256, 512), 1):
        for block, stride in enumerate((1 if stage == 1 else 2, 1), 1):
            body = (
                *(Conv("conv1", features, 3, stride), Norm("norm1"), "relu"),
                *(Conv("conv2", features, 3), Norm("norm2")),
            )
            changed = features != channels
            skip: Layers = (Conv("conv", features, 1, stride), Norm("norm")) if changed else ()
            layers += [Residual(f"stage{stage}_block{block}", body, skip), "relu"]
            channels = features
    return (*layers, "global_avg_pool", Dense("head", 10))


def depthwise() -> Layers:
    """A small MobileNet: five depthwise-separable blocks (Howard et al. 2017, arXiv:1704.04861)."""
    layers: list[Layer] = [Conv("stem", 32, 3), Norm("stem_norm"), "relu"]
    for block, (features, stride) in enumerate(((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)), 1):
        layers += [Depthwise(f"depthwise{block}", stride), Norm(f"depthwise{block}_norm"), "relu"]
        layers += [Conv(f"pointwise{block}", features, 1), Norm(f"pointwise{block}_norm"), "relu"]
    return (*layers, "global_avg_pool", Dense("head", 10))


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """The shape that a layer makes of one example's shape."""
    match layer:
        case Conv():
            return (*(math.ceil(n / layer.stride) for n in shape[:-1]), layer.features)
        case Depthwise():
            return (*(math.ceil(n / layer.stride) for n in shape[:-1]), shape[-1])
        case Dense():
            return (layer.features,)
        case Residual():
            for inner in layer.body:
                shape = output_shape(inner, shape)
        case "max_pool":
            return (*(n // 2 for n in shape[:-1]), shape[-1])
        case "flatten":
            return (math.prod(shape),)
        case "global_avg_pool":
            return shape[-1:]
    return shape


def walk(layers: Layers, shape: Shape, path: str = "") -> Iterator[tuple[str, Layer, Shape]]:
    """Path, layer and the shape of its input, for every layer in order, the inner ones of residuals."""
    for layer in layers:
        own = path + getattr(layer, "name", "")
        if isinstance(layer, Residual):
            yield from walk(layer.body, shape, f"{own}/body/")
            yield from walk(layer.skip, shape, f"{own}/skip/")
        else:
            yield own, layer, shape
        shape = output_shape(layer, shape)


def make_weights(layers: Layers, shape: Shape) -> Weights:
    """Weights and running statistics: each depends on the seed and its own path alone."""
    weights = {}
    for path, layer, inputs in walk(layers, shape):
        for name, value in _leaves(path, layer, inputs[-1]):
            weights[f"{path}/{name}"] = value.astype(np.float32)
    return weights


def _leaves(path: str, layer: Layer, channels: int) -> Iterator[tuple[str, Any]]:
    rng = np.random.default_rng([SEED, zlib.crc32(path.encode())])
    match layer:
        case Conv(kernel=k, features=features):
            yield "kernel", rng.standard_normal((k, k, channels, features)) * (2 / (k * k * channels)) ** 0.5
        case Depthwise(kernel=k):
            yield "kernel", rng.standard_normal((k, k, 1, channels)) * (2 / (k * k)) ** 0.5
        case Dense(features=features):
            yield "kernel", rng.standard_normal((channels, features)) * (2 / channels) ** 0.5
        case Norm():
            yield "scale", 1 + 0.1 * rng.standard_normal(channels)
            yield "mean", 0.1 * rng.standard_normal(channels)
            yield "var", rng.uniform(0.5, 1.5, channels)
            yield "bias", 0.1 * rng.standard_normal(channels)
    if isinstance(layer, Dense) or (isinstance(layer, Conv) and layer.bias):
        yield "bias", 0.1 * rng.standard_normal(layer.features)


def is_statistic(path: str) -> bool:
    """Whether a path leads to a running statistic, which no gradient reaches."""
    return path.rsplit("/", 1)[-1] in ("mean", "var")


def channels_first(layers: Layers, shape: Shape, weights: Weights) -> Weights:
    """The same weights for ``NCHW``: kernels ``(out, in, ...)``, and rows in its order after a flatten."""
    weights = dict(weights)
    flattened: Shape = ()
    for path, layer, inputs in walk(layers, shape):
        kernel = weights.get(f"{path}/kernel")
        if layer == "flatten":
            flattened = inputs
        elif isinstance(layer, Dense):
            if flattened:
                kernel = np.moveaxis(kernel.reshape(*flattened, -1), -2, 0).reshape(kernel.shape)
                flattened = ()
            weights[f"{path}/kernel"] = kernel.T
        elif kernel is not None:
            weights[f"{path}/kernel"] = np.moveaxis(kernel, (-1, -2), (0, 1))
    return {path: np.ascontiguousarray(value) for path, value in weights.items()}
