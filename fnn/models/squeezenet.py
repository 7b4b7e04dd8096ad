"""SqueezeNet: AlexNet's accuracy with fifty times fewer parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fnn.combine import concat, serial
from fnn.data import Preprocessing
from fnn.layer import Layer
from fnn.layers import INITIALIZERS, conv, dropout, global_avg_pool, max_pool, relu
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import scaled
from fnn.models.exchange import Naming
from fnn.registry import register

SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
"""Channels that each fire module squeezes to; it expands them to four times as many twice over."""


@register
def squeezenet1_0(
    classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5, final_padding: int = 0
) -> Layer:
    """SqueezeNet 1.0: eight fire modules between two convolutions, 1,248,424 parameters.

    The input is ``(batch, 224, 224, 3)``, or of another size from 21 × 21 on. A fire module squeezes the
    channels by a 1 × 1 convolution, and expands them by 1 × 1 and 3 × 3 convolutions side by side:
    ``features/fire2/squeeze``, ``features/fire2/expand/conv1x1`` and ``conv3x3``. The last convolution starts
    with a standard deviation of 0.01, all others uniformly with variance 2 / fan-in.

    Args:
        classes: The number of outputs.
        width: What the channels are multiplied by.
        dropout_rate: The share of values dropped before the last convolution in training.
        final_padding: Cells of zeros around the input of the last convolution. The paper's own release for
            Caffe has 1, and weights from there ask for it; torchvision has 0.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 224, 224, 3))
        >>> fnn.count(jax.eval_shape(lambda: fnn.squeezenet1_0().init(jax.random.key(0), x)[0]))
        1248424

    Source: Iandola et al. 2016, arXiv:1602.07360.
    """
    stem = conv(scaled("squeezenet1_0", 96, width), 7, stride=2, padding="VALID", kernel_init="he_uniform")
    return _squeezenet("squeezenet1_0", stem, (1, 4, 8), classes, width, dropout_rate, final_padding)


@register
def squeezenet1_1(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """SqueezeNet 1.1: a smaller first window and earlier pooling, 2.4 times less work; 1,235,496 parameters.

    See `squeezenet1_0`; the input is from 17 × 17 on.

    Source: https://github.com/forresti/SqueezeNet/tree/master/SqueezeNet_v1.1
    """
    stem = conv(scaled("squeezenet1_1", 64, width), 3, stride=2, padding="VALID", kernel_init="he_uniform")
    return _squeezenet("squeezenet1_1", stem, (1, 3, 5), classes, width, dropout_rate, 0)


def _squeezenet(
    kind: str,
    stem: Layer,
    pooled: tuple[int, ...],
    classes: int,
    width: float,
    dropout_rate: float,
    final_padding: int,
) -> Layer:
    """``pooled``: the numbers of the convolution and the fire modules that max pooling comes after."""
    layers = {"conv1": stem, "relu1": relu}
    for number in range(1, 10):
        if number in SQUEEZED:
            layers[f"fire{number}"] = _fire(scaled(kind, SQUEEZED[number], width))
        if number in pooled:
            layers[f"pool{number}"] = max_pool(3, 2, ceil_mode=True)
    classifier = serial(
        drop10=dropout(dropout_rate),
        conv10=conv(classes, 1, padding=final_padding, kernel_init=INITIALIZERS["normal"](0.01)),
        relu10=relu,
        pool10=global_avg_pool,
    )
    return replace(serial(features=serial(**layers), classifier=classifier), kind=kind)


def _fire(squeezed: int) -> Layer:
    def mixed(features: int, kernel: int) -> Layer:
        return conv(features, kernel, kernel_init="he_uniform")

    return serial(
        squeeze=mixed(squeezed, 1),
        squeeze_relu=relu,
        expand=concat(conv1x1=mixed(4 * squeezed, 1), conv3x3=mixed(4 * squeezed, 3)),
        expand_relu=relu,
    )


def _torchvision(fires: Sequence[int]) -> Naming:
    """``fires``: where its ``features``, a list of modules, has the fire modules."""
    places = {f"fire{number}": str(place) for number, place in zip(SQUEEZED, fires, strict=True)}
    ends = {"features.conv1": "features.0", "classifier.conv10": "classifier.1"}
    return Naming(renamed({**ends, **places, "expand.conv1x1": "expand1x1", "expand.conv3x3": "expand3x3"}))


_CAFFE = Naming(
    (
        (r"^(features|classifier)\.", ""),
        (r"\.squeeze\.", ".conv1x1_1."),
        (r"\.expand\.conv(1x1|3x3)\.", r".conv\1_2."),
        (r"^conv10\.", "conv_final."),
    )
)

ARCHITECTURES = {
    "squeezenet1_0": Architecture(
        IMAGENET,
        {"torchvision": _torchvision((3, 4, 5, 7, 8, 9, 10, 12)), "caffe": _CAFFE},
        {"caffe": Preprocessing((227, 227), bgr=True, mean=(104.0, 117.0, 123.0))},
    ),
    "squeezenet1_1": Architecture(IMAGENET, {"torchvision": _torchvision((3, 4, 6, 7, 9, 10, 11, 12))}),
}
