"""The ResNets of section 4.2: the network written out in PyTorch from the paper, and the published sizes."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.exchange import Naming
from tests.models.reference import random_weights, same_logits, same_step, shapes
from tests.models.torch_blocks import conv, function, mean_over_space, residual, seq

X = np.random.default_rng(0).standard_normal((4, 32, 32, 3), np.float32)


@pytest.mark.parametrize(
    "depth, count", [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_published_sizes(depth, count):
    """0.27, 0.46, 0.66, 0.85 and 1.7 million in table 6."""
    model = getattr(fnn, f"resnet{depth}")(scan=True)  # scanned, so that each block is traced once
    assert model.kind == f"resnet{depth}"
    assert fnn.count(shapes(model, X)[0]) == count


def network(n: int, width: int, classes: int):
    torch = pytest.importorskip("torch")
    norm, relu = torch.nn.BatchNorm2d, torch.nn.ReLU

    def option_a(x):
        """Every second cell, and zeros for the new channels."""
        return torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)

    def block(before: int, features: int):
        halves = before != features
        body = seq(
            conv1=conv(before, features, 3, 2 if halves else 1),
            norm1=norm(features),
            relu1=relu(),
            conv2=conv(features, features, 3),
            norm2=norm(features),
        )
        return residual(body, function(option_a) if halves else None, relu())

    stages = {}
    for i, (before, features) in enumerate(
        [(width, width), (width, 2 * width), (2 * width, 4 * width)], start=1
    ):
        blocks = {f"block{j}": block(before if j == 1 else features, features) for j in range(1, n + 1)}
        stages[f"layer{i}"] = seq(**blocks)
    stem = seq(conv=conv(3, width, 3), norm=norm(width), relu=relu())
    return seq(stem=stem, **stages, pool=mean_over_space(), head=torch.nn.Linear(4 * width, classes))


@pytest.mark.oracle
@pytest.mark.slow
def test_it_is_the_network_of_the_paper():
    net = random_weights(network(2, 4, 5))
    model = fnn.cifar_resnet(14, 5, width=4)
    same_logits(Naming(), net, model, X)
    same_step(Naming(), net, model, X, np.array([1, 0, 4, 3]))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 21}, "cifar_resnet: depth must be 6 n + 2, got 21; nearest: 20"),
        ({"depth": 2}, "cifar_resnet: depth must be 6 n + 2, got 2; nearest: 8"),
        ({"depth": 0}, "cifar_resnet: depth must be a positive whole number, got 0"),
        ({"depth": 6002}, "cifar_resnet writes out its depth: expected at most 4096, got 6002"),
        ({"width": -1}, "cifar_resnet: width must be a positive whole number, got -1"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.cifar_resnet(**arguments)
    assert str(error.value) == message
