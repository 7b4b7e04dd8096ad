"""VDSR: its count, and the same network in PyTorch."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import fnn
from fnn.models.exchange import Naming
from tests.models.reference import random_weights, same_fit, shapes
from tests.models.torch_blocks import biased_conv, bicubic, residual, seq


def pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def test_the_count_of_the_published_network():
    params, _ = shapes(fnn.vdsr(), pictures(1, 9, 9, 1))
    assert fnn.count(params) == 664_704 + 19 * 64 + 1


def test_one_network_for_all_scales():
    """The scale is in no parameter."""
    params, state = shapes(fnn.vdsr(2), pictures(1, 5, 5, 1))
    for scale in (3, 4):
        y, _ = jax.eval_shape(fnn.vdsr(scale).apply, params, state, pictures(1, 5, 5, 1))
        assert y.shape == (1, 5 * scale, 5 * scale, 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 1}, "vdsr: depth must be 2 or more, got 1"),
        ({"depth": 10_000}, "vdsr writes out its depth: expected at most 4096, got 10000"),
        ({"features": 0}, "vdsr: features must be a positive whole number, got 0"),
    ],
)
def test_refused_sizes(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.vdsr(**arguments)
    assert str(error.value) == message


@pytest.mark.oracle
@pytest.mark.parametrize("scale, channels", [(4, 1), (2, 3)])
def test_a_step_is_pytorchs(scale, channels):
    nn = pytest.importorskip("torch").nn

    convs = {"conv1": biased_conv(channels, 4, 3), "relu1": nn.ReLU()}
    for i in (2, 3):
        convs |= {f"conv{i}": biased_conv(4, 4, 3), f"relu{i}": nn.ReLU()}
    convs["conv4"] = biased_conv(4, channels, 3)
    net = seq(bicubic=bicubic(scale), residual=residual(seq(**convs)))
    model = fnn.vdsr(scale, channels=channels, depth=4, features=4)
    x, targets = pictures(2, 5, 4, channels), pictures(2, 5 * scale, 4 * scale, channels)
    same_fit(Naming(), random_weights(net), model, x, targets)
