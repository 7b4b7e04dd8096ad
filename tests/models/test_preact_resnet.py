"""Networks with identity mappings, deep and wide ones, written out in PyTorch from the papers."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.exchange import Naming
from tests.models.reference import random_weights, same_logits, same_step, shapes
from tests.models.torch_blocks import conv, mean_over_space, residual, seq

X = np.random.default_rng(0).standard_normal((4, 16, 16, 3), np.float32)


@pytest.mark.parametrize(
    "model, count",
    [
        (fnn.preact_resnet(110, scan=True), 1_730_522),  # 1.7 million in table 4 of He et al.
        (fnn.preact_resnet(164, scan=True), 1_703_258),  # 1.7
        (fnn.preact_resnet(1001, scan=True), 10_327_706),  # 10.2: ours counts the projections, too
        (fnn.wide_resnet(40, 1, scan=True), 563_930),  # 0.6 in table 4 of Zagoruyko & Komodakis
        (fnn.wide_resnet(40, 4, scan=True), 8_949_210),  # 8.9
        (fnn.wide_resnet(16, 8, scan=True), 10_961_370),  # 11.0
        (fnn.wide_resnet(28, 10, scan=True), 36_479_194),  # 36.5
    ],
)
def test_published_sizes(model, count):
    assert fnn.count(shapes(model, X)[0]) == count


def basic(before: int, features: int, stride: int):
    """(features, kernel, stride) of each convolution."""
    return [(before, features, 3, stride), (features, features, 3, 1)]


def bottleneck(before: int, features: int, stride: int):
    inner = features // 4
    return [(before, inner, 1, stride), (inner, inner, 3, 1), (inner, features, 1, 1)]


def network(n: int, stem: int, features: int, classes: int, convs):
    torch = pytest.importorskip("torch")
    norm, relu = torch.nn.BatchNorm2d, torch.nn.ReLU

    def block(before: int, wide: int, stride: int):
        children = {}
        for i, sizes in enumerate(convs(before, wide, stride), start=1):
            children |= {f"norm{i}": norm(sizes[0]), f"relu{i}": relu(), f"conv{i}": conv(*sizes)}
        if before == wide and stride == 1:
            return residual(seq(**children))
        common = {name: children.pop(name) for name in ("norm1", "relu1")}
        return seq(**common, residual=residual(seq(**children), conv(before, wide, 1, stride)))

    stages, before = {}, stem
    for i in range(3):
        wide, blocks = features * 2**i, {}
        for j in range(n):
            blocks[f"block{j + 1}"] = block(before, wide, 2 if i and not j else 1)
            before = wide
        stages[f"layer{i + 1}"] = seq(**blocks)
    return seq(
        stem=conv(3, stem, 3),
        **stages,
        norm=norm(before),
        relu=relu(),
        pool=mean_over_space(),
        head=torch.nn.Linear(before, classes),
    )


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["basic", "bottleneck", "wide"])
def test_it_is_the_network_of_the_paper(kind):
    if kind == "wide":
        net, model = network(2, 16, 32, 5, basic), fnn.wide_resnet(16, 2, 5)
    elif kind == "basic":
        net, model = network(2, 4, 4, 5, basic), fnn.preact_resnet(14, 5, width=4)
    else:
        net = network(2, 4, 16, 5, bottleneck)
        model = fnn.preact_resnet(20, 5, bottlenecks=True, width=4)
    random_weights(net, seed=2)  # of 0 and 1 a gradient all but cancels, and what is left of it is rounding
    same_logits(Naming(), net, model, X)
    same_step(Naming(), net, model, X, np.array([1, 0, 4, 3]))


def test_dropout_is_between_the_convolutions():
    model = fnn.wide_resnet(10, 1, dropout_rate=0.3)
    blocks = dict(dict(model.children)["layer2"].children)
    body = dict(dict(dict(blocks["block1"].children)["residual"].children)["body"].children)
    assert list(body) == ["conv1", "norm2", "relu2", "dropout", "conv2"]


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (fnn.preact_resnet, (163,), "preact_resnet: depth must be 6 n + 2, got 163; nearest: 164"),
        (fnn.preact_resnet, (165,), "preact_resnet: depth must be 9 n + 2, got 165; nearest: 164"),
        (fnn.wide_resnet, (20,), "wide_resnet: depth must be 6 n + 4, got 20; nearest: 22"),
        (fnn.wide_resnet, (16, 0), "wide_resnet: width must be a positive whole number, got 0"),
    ],
)
def test_refused_arguments(make, arguments, message):
    with pytest.raises(ValueError) as error:
        make(*arguments)
    assert str(error.value) == message
