"""SRCNN: the paper's counts, and the same network in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.exchange import Naming
from tests.models.reference import random_weights, same_fit, shapes
from tests.models.torch_blocks import biased_conv, bicubic, residual, seq


def pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("kernels, weights", [((9, 1, 5), 8_032), ((9, 3, 5), 24_416), ((9, 5, 5), 57_184)])
def test_the_papers_counts(kernels, weights):
    params, _ = shapes(fnn.srcnn(kernels=kernels), pictures(1, 9, 9, 1))
    counts = {path: fnn.count(leaf) for path, leaf in fnn.paths(params).items()}
    assert sum(n for path, n in counts.items() if path.endswith("kernel")) == weights
    assert sum(n for path, n in counts.items() if path.endswith("bias")) == 64 + 32 + 1


@pytest.mark.parametrize("kernels, features", [((9, 5), (64, 32)), ((9,), ()), ((9, 1, 5), (64,))])
def test_refused_sizes(kernels, features):
    with pytest.raises(ValueError) as error:
        fnn.srcnn(kernels=kernels, features=features)
    assert str(error.value) == (
        "srcnn: expected a kernel for each of the features, at least one, and for the output, got "
        f"{len(kernels)} kernels and {len(features)} features"
    )


@pytest.mark.oracle
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("scale, channels", [(3, 1), (2, 3)])
def test_a_step_is_pytorchs(scale, channels, skip):
    nn = pytest.importorskip("torch").nn

    convs = {
        "conv1": biased_conv(channels, 8, 9),
        "relu1": nn.ReLU(),
        "conv2": biased_conv(8, 4, 1),
        "relu2": nn.ReLU(),
        "conv3": biased_conv(4, channels, 5),
    }
    net = seq(bicubic=bicubic(scale), **({"residual": residual(seq(**convs))} if skip else convs))
    model = fnn.srcnn(scale, channels=channels, features=(8, 4), skip=skip)
    x, targets = pictures(2, 7, 6, channels), pictures(2, 7 * scale, 6 * scale, channels)
    same_fit(Naming(), random_weights(net), model, x, targets)
