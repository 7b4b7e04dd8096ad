"""VGG beside torchvision's."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from tests.models import reference

COUNTS = {
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}


def pictures(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def torchvision(name):
    return ARCHITECTURES[name].namings["torchvision"]


def narrow(name):
    """torchvision's own class with an eighth of the channels, and the classifier that goes with them."""
    models = reference.torchvision_models()
    from torch.nn import Linear

    column = models.vgg.cfgs[{"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}[name[:5]]]
    channels = [place if place == "M" else place // 8 for place in column]
    net = models.VGG(
        models.vgg.make_layers(channels, name.endswith("_bn")), num_classes=4, init_weights=False, dropout=0.0
    )
    net.classifier[0], net.classifier[3], net.classifier[6] = (
        Linear(3136, 512),
        Linear(512, 512),
        Linear(512, 4),
    )
    return reference.random_weights(net)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    model = getattr(fnn, name)()
    assert model.kind == name
    params, state = reference.shapes(model, np.zeros((1, 224, 224, 3), np.float32))
    assert fnn.count(params) == COUNTS[name]
    assert bool(state) == name.endswith("_bn")


def test_names_are_the_papers():
    params, _ = reference.shapes(fnn.vgg16(), np.zeros((1, 32, 32, 3), np.float32))
    convolutions = [f"conv{stage}_{i}" for stage, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]
    assert list(params["features"]) == convolutions
    assert list(params["classifier"]) == ["fc6", "fc7", "fc8"]
    assert params["classifier"]["fc6"]["kernel"].shape == (25088, 4096)


@pytest.mark.oracle
@pytest.mark.parametrize("name", COUNTS)
def test_structure_is_torchvisions(name):
    models = reference.torchvision_models()
    import torch

    with torch.device("meta"):
        net = models.get_model(name)
    reference.same_structure(torchvision(name), net, getattr(fnn, name)(), pictures(1, 224, 224, 3))


@pytest.mark.oracle
@pytest.mark.parametrize("name", COUNTS)
def test_logits_are_torchvisions(name):
    """An eighth of the channels; 3 × 2 cells are left, which are averaged to 7 × 7."""
    model = getattr(fnn, name)(4, width=1 / 8)
    reference.same_logits(torchvision(name), narrow(name), model, pictures(2, 96, 70, 3))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_a_step_is_torchvisions(name):
    model = getattr(fnn, name)(4, width=1 / 8, dropout_rate=0.0)
    reference.same_step(torchvision(name), narrow(name), model, pictures(4, 64, 96, 3), np.arange(4))
