"""Residual networks for pictures of 224 × 224, as torchvision has them, and wide ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import batch_norm, dense, global_avg_pool, max_pool, relu
from fnn.layers.checks import few, positive
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import fan_in_uniform, numbered, plain_conv, stage
from fnn.models.exchange import Naming
from fnn.registry import register


@register
def resnet(
    blocks: Sequence[int],
    *,
    classes: int = 1000,
    bottleneck: bool = False,
    width: int = 64,
    widen: int = 1,
    remat: bool = False,
    scan: bool = False,
) -> Layer:
    """A residual network of any depth: a stem, stages of blocks, the mean over space, a dense layer.

    Each stage but the first halves height and width in its first block, and has twice the channels of the
    stage before. The stride of a bottleneck is in its 3 × 3 convolution, as in torchvision ("v1.5"); the
    paper has it in the 1 × 1 before.

    Args:
        blocks: How many blocks each stage has.
        classes: The number of outputs.
        bottleneck: Whether a block is of 1 × 1, 3 × 3 and 1 × 1 convolutions, the last with 4 times the
            channels; else of two 3 × 3 convolutions.
        width: Channels of the stem, and of the convolutions of the first stage.
        widen: How many times more channels the inner convolutions of a bottleneck have.
        remat: Whether the values inside of a block are computed again for the gradient instead of kept: less
            memory for more time.
        scan: Whether the equal blocks of a stage are one `fnn.repeat`, which compiles faster.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> model = fnn.resnet([1, 1], classes=10, width=4)
        >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> [path for path in fnn.paths(params) if path.startswith("layer2") and "kernel" in path]
        ['layer2/block1/body/conv1/kernel',
         'layer2/block1/body/conv2/kernel',
         'layer2/block1/skip/conv/kernel']

    Source: He et al. 2015, arXiv:1512.03385; with ``widen`` Zagoruyko & Komodakis 2016, arXiv:1605.07146.
    """
    _check("resnet", blocks, width=width, widen=widen)

    def block(features: int, stride: int, changes: bool) -> Layer:
        outer = 4 * features if bottleneck else features
        body = deep(widen * features, outer, stride) if bottleneck else basic(features, stride)
        skip = serial(conv=plain_conv(outer, 1, stride), norm=batch_norm()) if changes else None
        return residual(body, skip, activation=relu)

    stages = {}
    for i, n in enumerate(blocks):
        features, stride = width * 2**i, 2 if i else 1
        changes = bottleneck or stride > 1
        first = block(features, stride, changes)
        rest = block(features, 1, False) if changes else first
        stages[f"layer{i + 1}"] = stage([first, *[rest] * (n - 1)], remat=remat, scan=scan)
    pool = max_pool(3, 2, padding=1)
    stem = serial(conv=plain_conv(width, 7, 2), norm=batch_norm(), relu=relu, pool=pool)
    head = dense(classes, kernel_init=fan_in_uniform)
    return replace(serial(stem=stem, **stages, pool=global_avg_pool, head=head), kind="resnet")


def basic(features: int, stride: int = 1) -> Layer:
    """The body of a basic block: two 3 × 3 convolutions."""
    return serial(
        conv1=plain_conv(features, 3, stride),
        norm1=batch_norm(),
        relu1=relu,
        conv2=plain_conv(features, 3),
        norm2=batch_norm(),
    )


def deep(inner: int, outer: int, stride: int = 1) -> Layer:
    """The body of a bottleneck: to ``inner`` channels, 3 × 3 on these, to ``outer``."""
    return serial(
        conv1=plain_conv(inner, 1),
        norm1=batch_norm(),
        relu1=relu,
        conv2=plain_conv(inner, 3, stride),
        norm2=batch_norm(),
        relu2=relu,
        conv3=plain_conv(outer, 1),
        norm3=batch_norm(),
    )


def _check(kind: str, blocks: Sequence[int], **sizes: int) -> None:
    if not blocks:
        raise ValueError(f"{kind}: blocks must hold a stage or more, got none")
    positive(kind, **sizes, **{f"the number of blocks in stage {i}": n for i, n in enumerate(blocks, 1)})
    few(kind, blocks=sum(blocks))


@register
def resnet18(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-18: 8 basic blocks, 11.7 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Source: He et al. 2015, arXiv:1512.03385.
    """
    model = resnet([2, 2, 2, 2], classes=classes, remat=remat, scan=scan)
    return replace(model, kind="resnet18")


@register
def resnet34(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-34: 16 basic blocks, 21.8 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Source: He et al. 2015, arXiv:1512.03385.
    """
    model = resnet([3, 4, 6, 3], classes=classes, remat=remat, scan=scan)
    return replace(model, kind="resnet34")


@register
def resnet50(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-50: 16 bottlenecks, 25.6 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = jax.eval_shape(fnn.resnet50().init, jax.random.key(0), jnp.ones((1, 224, 224, 3)))
        >>> fnn.count(params)
        25557032

    Source: He et al. 2015, arXiv:1512.03385.
    """
    model = resnet([3, 4, 6, 3], bottleneck=True, classes=classes, remat=remat, scan=scan)
    return replace(model, kind="resnet50")


@register
def resnet101(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-101: 33 bottlenecks, 44.5 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Source: He et al. 2015, arXiv:1512.03385.
    """
    model = resnet([3, 4, 23, 3], bottleneck=True, classes=classes, remat=remat, scan=scan)
    return replace(model, kind="resnet101")


@register
def resnet152(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-152: 50 bottlenecks, 60.2 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Source: He et al. 2015, arXiv:1512.03385.
    """
    model = resnet([3, 8, 36, 3], bottleneck=True, classes=classes, remat=remat, scan=scan)
    return replace(model, kind="resnet152")


@register
def wide_resnet50_2(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-50 whose bottlenecks have twice the inner channels, 68.9 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Source: Zagoruyko & Komodakis 2016, arXiv:1605.07146.
    """
    model = resnet([3, 4, 6, 3], bottleneck=True, widen=2, classes=classes, remat=remat, scan=scan)
    return replace(model, kind="wide_resnet50_2")


@register
def wide_resnet101_2(classes: int = 1000, *, remat: bool = False, scan: bool = False) -> Layer:
    """ResNet-101 whose bottlenecks have twice the inner channels, 126.9 M parameters.

    Args:
        classes, remat, scan: As in `resnet`.

    Source: Zagoruyko & Komodakis 2016, arXiv:1605.07146.
    """
    model = resnet([3, 4, 23, 3], bottleneck=True, widen=2, classes=classes, remat=remat, scan=scan)
    return replace(model, kind="wide_resnet101_2")


_TORCHVISION = Naming(
    (
        (r"^stem\.conv", "conv1"),
        (r"^stem\.norm", "bn1"),
        (r"\.block(\d+)\.", numbered),
        (r"body\.", ""),
        (r"\.norm(\d)", r".bn\1"),
        *renamed({"skip.conv": "downsample.0", "skip.norm": "downsample.1", "head": "fc"}),
    )
)

# timm names what it has of these as torchvision does
ARCHITECTURES = {
    model.__name__: Architecture(IMAGENET, {"torchvision": _TORCHVISION, "timm": _TORCHVISION})
    for model in (resnet18, resnet34, resnet50, resnet101, resnet152, wide_resnet50_2, wide_resnet101_2)
}
