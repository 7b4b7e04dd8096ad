"""Residual networks for pictures of 32 × 32: section 4.2 of their paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import batch_norm, dense, fn, global_avg_pool, relu
from fnn.layers.checks import few, positive
from fnn.models.blocks import fan_in_uniform, plain_conv, stage
from fnn.models.resnet import basic
from fnn.registry import register


@register
def cifar_resnet(
    depth: int = 20, classes: int = 10, *, width: int = 16, remat: bool = False, scan: bool = False
) -> Layer:
    """A residual network of ``depth`` layers: a stem, three stages of basic blocks, the mean, a dense layer.

    The shortcuts have no parameters: where a stage halves height and width, they keep every second cell and
    have 0 in the new channels (option A).

    Args:
        depth: 6 n + 2, with n blocks in a stage.
        classes: The number of outputs.
        width: Channels of the stem and of the first stage; each further stage has twice as many.
        remat, scan: As in `fnn.resnet`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = jax.eval_shape(fnn.cifar_resnet(20).init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> fnn.count(params)
        269722

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    positive("cifar_resnet", width=width)
    n = units("cifar_resnet", depth, 6, 2)
    stages = {}
    for i in range(3):
        features, stride = width * 2**i, 2 if i else 1
        skip = fn(_shortcut(stride, features // 2)) if stride > 1 else None
        first = residual(basic(features, stride), skip, activation=relu)
        rest = residual(basic(features), activation=relu) if skip else first
        stages[f"layer{i + 1}"] = stage([first, *[rest] * (n - 1)], remat=remat, scan=scan)
    stem = serial(conv=plain_conv(width, 3), norm=batch_norm(), relu=relu)
    head = dense(classes, kernel_init=fan_in_uniform)
    return replace(serial(stem=stem, **stages, pool=global_avg_pool, head=head), kind="cifar_resnet")


def units(kind: str, depth: int, layers: int, others: int) -> int:
    """The blocks of each of three stages, of ``layers / 3`` layers each, in a network of ``depth`` layers.

    Raises:
        ValueError: The depth is not a multiple of ``layers`` and the ``others``.
    """
    positive(kind, depth=depth)
    few(kind, depth=depth)
    n, left = divmod(depth - others, layers)
    if n < 1 or left:
        nearest = layers * max(round((depth - others) / layers), 1) + others
        raise ValueError(f"{kind}: depth must be {layers} n + {others}, got {depth}; nearest: {nearest}")
    return n


def _shortcut(stride: int, new: int) -> Callable[[Array], Array]:
    def shortcut(x: Array) -> Array:
        return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, new)))

    return shortcut


@register
def resnet20(classes: int = 10, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-20 for 32 × 32, 0.27 M parameters.

    Args:
        classes, remat, scan: As in `cifar_resnet`.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    return replace(cifar_resnet(20, classes, remat=remat, scan=scan), kind="resnet20")


@register
def resnet32(classes: int = 10, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-32 for 32 × 32, 0.46 M parameters.

    Args:
        classes, remat, scan: As in `cifar_resnet`.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    return replace(cifar_resnet(32, classes, remat=remat, scan=scan), kind="resnet32")


@register
def resnet44(classes: int = 10, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-44 for 32 × 32, 0.66 M parameters.

    Args:
        classes, remat, scan: As in `cifar_resnet`.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    return replace(cifar_resnet(44, classes, remat=remat, scan=scan), kind="resnet44")


@register
def resnet56(classes: int = 10, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-56 for 32 × 32, 0.85 M parameters.

    Args:
        classes, remat, scan: As in `cifar_resnet`.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    return replace(cifar_resnet(56, classes, remat=remat, scan=scan), kind="resnet56")


@register
def resnet110(classes: int = 10, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-110 for 32 × 32, 1.7 M parameters.

    Args:
        classes, remat, scan: As in `cifar_resnet`.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    return replace(cifar_resnet(110, classes, remat=remat, scan=scan), kind="resnet110")
