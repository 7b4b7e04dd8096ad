"""MLP-Mixer, written out in PyTorch from the paper, and the published sizes."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from tests.models.reference import random_weights, same_logits, same_step, shapes
from tests.models.torch_blocks import function, seq

NAMING = ARCHITECTURES["mixer_b16"].namings["timm"]
X = np.random.default_rng(0).standard_normal((3, 16, 16, 3), np.float32)


@pytest.mark.parametrize(
    "name, count",
    [("mixer_s16", 18_528_264), ("mixer_b16", 59_880_472), ("mixer_l16", 208_196_168)],
)
def test_published_sizes(name, count):
    """19, 59 and 207 million in table 1, with another number of classes."""
    model = getattr(fnn, name)(scan=True)  # scanned, so that each block is traced once
    assert model.kind == name
    assert fnn.count(shapes(model, np.zeros((1, 224, 224, 3), np.float32))[0]) == count


def network(depth: int, features: int, patch: int, tokens: int, token_hidden: int, channel_hidden: int):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def perceptron(width: int, hidden: int):
        return {"fc1": nn.Linear(width, hidden), "gelu": nn.GELU(), "fc2": nn.Linear(hidden, width)}

    class Block(nn.Module):
        """Equation 1: U = X + W2 s(W1 norm(X)), by columns; Y = U + W4 s(W3 norm(U)), by rows."""

        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(features, eps=1e-6), nn.LayerNorm(features, eps=1e-6)
            self.mlp_tokens = seq(**perceptron(tokens, token_hidden))
            self.mlp_channels = seq(**perceptron(features, channel_hidden))

        def forward(self, x):
            u = x + self.mlp_tokens(self.norm1(x).mT).mT
            return u + self.mlp_channels(self.norm2(u))

    proj = nn.Conv2d(3, features, patch, patch)
    return seq(
        stem=seq(proj=proj, rows=function(lambda x: x.flatten(2).mT)),
        blocks=seq(**{str(i): Block() for i in range(depth)}),
        norm=nn.LayerNorm(features, eps=1e-6),
        pool=function(lambda x: x.mean(1)),
        head=nn.Linear(features, 5),
    )


@pytest.mark.oracle
@pytest.mark.slow
def test_it_is_the_network_of_the_paper():
    net = random_weights(network(2, 8, 4, 16, 5, 12))
    sizes = {"patch": 4, "size": 16, "token_hidden": 5, "channel_hidden": 12}
    model = fnn.mlp_mixer(2, 8, classes=5, **sizes)
    same_logits(NAMING, net, model, X)
    same_step(NAMING, net, model, X, np.array([1, 0, 4]))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 0}, "mlp_mixer: depth must be a positive whole number, got 0"),
        ({"patch": 15}, "mlp_mixer: size must be a multiple of patch, got 224 and 15"),
        ({"depth": 5000}, "mlp_mixer writes out its depth: expected at most 4096, got 5000"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.mlp_mixer(**{"depth": 2, "features": 8} | arguments)
    assert str(error.value) == message


def test_another_size_of_picture_names_the_layer():
    with pytest.raises(fnn.LayerError) as error:
        shapes(fnn.mlp_mixer(1, 8, patch=4, size=16), np.zeros((1, 32, 32, 3), np.float32))
    assert str(error.value) == (
        "stem/patches: expected examples that fit (16, 8), got (1, 8, 8, 8) with 512 values each"
    )
