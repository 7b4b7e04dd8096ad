"""FSRCNN: the paper's counts, where its pixels lie, and the same network in PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.models.exchange import Naming
from tests.models.reference import random_weights, same_fit, shapes
from tests.models.torch_blocks import biased_conv, bicubic, residual, seq


def pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(
    "model, weights, features",
    [
        (fnn.fsrcnn(), 12_464, 56 + 12 + 4 * 12 + 56),
        (fnn.fsrcnn(2), 12_464, 56 + 12 + 4 * 12 + 56),
        (fnn.fsrcnn_s(), 3_937, 32 + 5 + 5 + 32),
    ],
)
def test_the_papers_counts(model, weights, features):
    params, _ = shapes(model, pictures(1, 9, 9, 1))
    counts = {path: fnn.count(leaf) for path, leaf in fnn.paths(params).items()}
    assert sum(n for path, n in counts.items() if path.endswith("kernel")) == weights
    assert sum(n for path, n in counts.items() if path.endswith("slope")) == features
    assert sum(n for path, n in counts.items() if path.endswith("bias")) == features + 1


def test_pixels_lie_where_the_bicubic_enlargement_has_them():
    """With equal numbers in every kernel, the mirrored picture becomes the mirrored enlargement."""
    model = fnn.fsrcnn(3, d=2, s=2, m=1)
    x = pictures(1, 4, 5, 1)
    params = jax.tree.map(lambda p: jnp.full(p.shape, 0.1), shapes(model, x)[0])
    y, mirrored = (np.asarray(model.apply(params, {}, v)[0]) for v in (x, x[:, ::-1, ::-1]))
    np.testing.assert_allclose(mirrored, y[:, ::-1, ::-1], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scale": 10}, "fsrcnn: scale must be at most 9, the last kernel's width, got 10"),
        ({"s": 0}, "fsrcnn: s must be a positive whole number, got 0"),
        ({"m": 10_000}, "fsrcnn writes out its m: expected at most 4096, got 10000"),
    ],
)
def test_refused_sizes(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.fsrcnn(**arguments)
    assert str(error.value) == message


def transposed(inputs, features, scale):
    """PyTorch's, cut to ``scale`` times the size; the kernel is kept with the output first, as ours is."""
    torch = pytest.importorskip("torch")

    class Transposed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(features, inputs, 9, 9))
            self.bias = torch.nn.Parameter(torch.zeros(features))

        def forward(self, x):
            whole = torch.nn.functional.conv_transpose2d(x, self.weight.transpose(0, 1), self.bias, scale)
            (height, width), cut = x.shape[2:], (9 - scale) // 2
            return whole[:, :, cut : cut + height * scale, cut : cut + width * scale]

    return Transposed()


@pytest.mark.oracle
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("scale, channels", [(3, 1), (2, 3), (8, 1)])
def test_a_step_is_pytorchs(scale, channels, skip):
    nn = pytest.importorskip("torch").nn
    convs = {
        "extract": biased_conv(channels, 6, 5),
        "shrink": biased_conv(6, 3, 1),
        "map1": biased_conv(3, 3, 3),
        "map2": biased_conv(3, 3, 3),
        "expand": biased_conv(3, 6, 1),
    }
    layers = {}
    for name, conv in convs.items():
        layers |= {name: conv, f"{name}_prelu": nn.PReLU(conv.out_channels)}
    net = seq(**layers, enlarge=transposed(6, channels, scale))
    net = seq(sum=residual(net, bicubic(scale))) if skip else net
    model = fnn.fsrcnn(scale, d=6, s=3, m=2, channels=channels, skip=skip)
    x, targets = pictures(2, 5, 4, channels), pictures(2, 5 * scale, 4 * scale, channels)
    same_fit(Naming(rules=((r"^body", "sum.body"),)), random_weights(net), model, x, targets)
