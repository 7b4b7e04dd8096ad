"""DenseNet beside torchvision's."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from fnn.models.densenet import densenet
from tests.models import reference

NAMING = ARCHITECTURES["densenet121"].namings["torchvision"]


def pictures(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_an_input_too_small_is_refused_by_name():
    model = densenet((1, 1, 1, 1), 3, 2, 0.0)
    with pytest.raises(fnn.LayerError, match=r"^transition3/pool: expected space for a window of \(2, 2\)"):
        reference.shapes(model, np.zeros((1, 28, 28, 3), np.float32))
    reference.shapes(model, np.zeros((1, 29, 29, 3), np.float32))


@pytest.mark.oracle
def test_densenet121_against_torchvision():
    """Of full size: structure, and logits of small pictures."""
    net = reference.random_weights(reference.torchvision_models().densenet121())
    x = pictures(2, 64, 64, 3)
    reference.same_structure(NAMING, net, fnn.densenet121(), x)
    reference.same_logits(NAMING, net, fnn.densenet121(), x)


@pytest.mark.oracle
def test_a_step_is_torchvisions():
    """torchvision's own class with fewer layers: 121 take a minute to compile.

    With so few ReLUs their biases may lie nearer to 0; far from it hardly any gradient is left of those
    that the next normalisation takes out.
    """
    net = reference.torchvision_models().DenseNet(8, (2, 3, 2), 16, num_classes=4)
    model = densenet((2, 3, 2), 4, 8, 0.0)
    reference.random_weights(net, shifts=(-1.0, 1.0))
    reference.same_step(NAMING, net, model, pictures(8, 32, 32, 3), np.arange(8) % 4)
