"""ConvNeXt: torchvision's own with the same weights, and the published sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
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

NAMINGS = ARCHITECTURES["convnext_tiny"].namings
X = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)
COUNTS = {"convnext_tiny": 28_589_128, "convnext_small": 50_223_688, "convnext_base": 88_591_464}


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
    same_structure(NAMINGS["torchvision"], net, getattr(fnn, name)(), X)


@pytest.mark.oracle
@pytest.mark.slow
def test_logits_and_a_step_are_torchvisions():
    module = torchvision_models().convnext
    sizes = [(8, 16, 2), (16, 24, 1), (24, 32, 3), (32, None, 1)]
    net = random_weights(module.ConvNeXt([module.CNBlockConfig(*size) for size in sizes], num_classes=5))
    model = fnn.convnext([2, 1, 3, 1], [8, 16, 24, 32], classes=5)
    same_logits(NAMINGS["torchvision"], net, model, X)
    same_step(NAMINGS["torchvision"], net, model, X, np.array([1, 4]))


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_blocks_are_skipped_as_often_as_torchvisions(scan):
    """The rate grows from block to block; of scanned ones it is the mean of their stage."""
    module = torchvision_models().convnext
    sizes = [(8, 16, 2), (16, None, 2)]
    net = module.ConvNeXt([module.CNBlockConfig(*size) for size in sizes], stochastic_depth_prob=0.6)
    wanted = [child.p for child in net.modules() if type(child).__name__ == "StochasticDepth"]
    np.testing.assert_allclose(wanted, [0.0, 0.2, 0.4, 0.6])
    model = fnn.convnext([2, 2], [8, 16], drop_rate=0.6, scan=scan)
    np.testing.assert_allclose(rates(model), [0.1, 0.5] if scan else wanted[1:], atol=0.05)


def rates(model):
    """How often the layers called ``drop`` make an example 0."""
    found = {}

    def note(path, layer):
        if path.endswith("drop"):
            key, x = jax.random.key(1), jnp.ones((1000, 1, 1, 1))
            found[path] = np.mean(layer.apply({}, {}, x, key=key, train=True)[0] == 0.0)
        return layer

    fnn.map_layers(note, model)
    return list(found.values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([], []), "convnext: expected a depth and a width for each stage, got 0 and 0"),
        (([1, 1], [8]), "convnext: expected a depth and a width for each stage, got 2 and 1"),
        (
            ([1, 0], [8, 8]),
            "convnext: the number of blocks in stage 2 must be a positive whole number, got 0",
        ),
        (([1], [0]), "conv: features must be a positive whole number, got 0"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.convnext(*arguments)
    assert str(error.value) == message
