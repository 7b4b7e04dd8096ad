"""ESPCN: its counts, and the same network in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.exchange import Naming
from tests.models.reference import random_weights, same_fit, shapes
from tests.models.torch_blocks import biased_conv, bicubic, residual, seq


def pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_counts(scale):
    params, _ = shapes(fnn.espcn(scale), pictures(1, 9, 9, 1))
    last = scale**2
    assert fnn.count(params) == (25 * 64 + 64) + (9 * 64 * 32 + 32) + (9 * 32 * last + last)


def test_refused_features():
    with pytest.raises(ValueError, match=r"^espcn: features must hold a layer's channels or more, got none$"):
        fnn.espcn(features=())


@pytest.mark.oracle
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("scale, channels, activation", [(3, 1, "Tanh"), (2, 3, "ReLU")])
def test_a_step_is_pytorchs(scale, channels, activation, skip):
    nn = pytest.importorskip("torch").nn
    net = seq(
        conv1=biased_conv(channels, 8, 5),
        activation1=getattr(nn, activation)(),
        conv2=biased_conv(8, 4, 3),
        activation2=getattr(nn, activation)(),
        conv3=biased_conv(4, channels * scale**2, 3),
        shuffle=nn.PixelShuffle(scale),
    )
    net = seq(sum=residual(net, bicubic(scale))) if skip else net
    ours = {"Tanh": fnn.tanh, "ReLU": fnn.relu}[activation]
    model = fnn.espcn(scale, channels=channels, features=(8, 4), activation=ours, skip=skip)
    x, targets = pictures(2, 7, 6, channels), pictures(2, 7 * scale, 6 * scale, channels)
    naming = Naming(rules=((r"^body", "sum.body"),))
    same_fit(naming, random_weights(net), model, x, targets)
