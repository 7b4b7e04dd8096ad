"""MobileNetV2 beside torchvision's."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from tests.models import reference

NAMING = ARCHITECTURES["mobilenet_v2"].namings["torchvision"]


def pictures(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_the_width_multiplies_the_channels():
    """6.11 million parameters: those of timm's mobilenetv2_140."""
    params, _ = reference.shapes(fnn.mobilenet_v2(width=1.4), np.zeros((1, 64, 64, 3), np.float32))
    assert fnn.count(params) == 6_108_776


@pytest.mark.oracle
@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_structure_is_torchvisions(width):
    models = reference.torchvision_models()
    import torch

    with torch.device("meta"):
        net = models.mobilenet_v2(width_mult=width)
    reference.same_structure(NAMING, net, fnn.mobilenet_v2(width=width), pictures(1, 64, 64, 3))


@pytest.mark.oracle
def test_mobilenet_v2_against_torchvision():
    """Of full size: logits, where ReLU6 cuts on both sides, and a step.

    In the step no channel is off: a depthwise convolution of one gives variances about 0, and normalising
    by them makes the gradients, PyTorch's own too, a matter of rounding.
    """
    net = reference.torchvision_models().mobilenet_v2(num_classes=4, dropout=0.0)
    model = fnn.mobilenet_v2(4, dropout_rate=0.0)
    x = pictures(8, 64, 64, 3)
    reference.same_logits(NAMING, reference.random_weights(net), model, x)
    reference.same_step(NAMING, reference.random_weights(net, shifts=(2.0,)), model, x, np.arange(8) % 4)
