"""ResNets: torchvision's own with the same weights, and the published sizes."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from tests.models.reference import (
    random_weights,
    same_logits,
    same_step,
    same_structure,
    shapes,
    torchvision_models,
)

NAMING = ARCHITECTURES["resnet50"].namings["torchvision"]
X = np.random.default_rng(0).standard_normal((4, 64, 64, 3), np.float32)
LABELS = np.array([1, 0, 4, 3])
COUNTS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes(name):
    model = getattr(fnn, name)(scan=True)  # scanned, so that each block is traced once
    assert model.kind == name
    assert fnn.count(shapes(model, X)[0]) == COUNTS[name]


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_names_and_shapes_are_torchvisions(name):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        net = getattr(torchvision_models(), name)()
    same_structure(NAMING, net, getattr(fnn, name)(), X)


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_and_a_step_are_torchvisions(name):
    net = random_weights(getattr(torchvision_models(), name)(num_classes=5))
    model = getattr(fnn, name)(5)
    same_logits(NAMING, net, model, X)
    same_step(NAMING, net, model, X, LABELS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"blocks": []}, "resnet: blocks must hold a stage or more, got none"),
        (
            {"blocks": [1, 0]},
            "resnet: the number of blocks in stage 2 must be a positive whole number, got 0",
        ),
        ({"blocks": [1], "width": 0}, "resnet: width must be a positive whole number, got 0"),
        ({"blocks": [9999]}, "resnet writes out its blocks: expected at most 4096, got 9999"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.resnet(**arguments)
    assert str(error.value) == message
