"""EDSR: the published counts, and the same network in PyTorch."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import fnn
from fnn.models.edsr import DIV2K_MEAN
from fnn.models.exchange import Naming
from tests.models.reference import KEY, random_weights, same_fit, shapes
from tests.models.torch_blocks import biased_conv, function, residual, seq

pytestmark = pytest.mark.usefixtures("quick_compiler")


def pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(
    "model, count",
    [
        (fnn.edsr(2), 1_369_859),
        (fnn.edsr(3), 1_554_499),
        (fnn.edsr(4), 1_517_571),
        (fnn.edsr(2, scan=True), 1_369_859),
        (fnn.edsr(4, blocks=32, features=256, residual_scaling=0.1), 43_089_923),
    ],
)
def test_published_counts(model, count):
    assert fnn.count(shapes(model, pictures(1, 9, 9, 3))[0]) == count


def test_training_starts_near_the_mean_colour():
    """The signal does not grow from block to block."""
    x = pictures(1, 8, 8, 3)
    model = fnn.edsr(2, blocks=4, features=16, scan=True)
    y = jax.jit(lambda x: model.apply(model.init(KEY, x)[0], {}, x)[0])(x)
    np.testing.assert_allclose(np.mean(y, (0, 1, 2)), DIV2K_MEAN, atol=0.2)
    assert np.std(y) < 0.5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scale": 6}, "edsr: scale must be 3 or a power of 2, got 6"),
        ({"scale": 9}, "edsr: scale must be 3 or a power of 2, got 9"),
        ({"blocks": 0}, "edsr: blocks must be a positive whole number, got 0"),
        ({"residual_scaling": 2.0}, "edsr: residual_scaling must lie in 0..1, got 2.0"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.edsr(**arguments)
    assert str(error.value) == message


def theirs(scale, channels, scaling):
    """With 2 blocks of 4 channels."""
    torch = pytest.importorskip("torch")
    mean = torch.tensor(DIV2K_MEAN if channels == 3 else [0.5] * channels).reshape(-1, 1, 1)

    def block():
        body = seq(conv1=biased_conv(4, 4, 3), relu=torch.nn.ReLU(), conv2=biased_conv(4, 4, 3))
        return residual(seq(**dict(body.named_children()), scale=function(lambda x: x * scaling)))

    enlarge = {}
    for i, factor in enumerate([3] if scale == 3 else [2] * int(np.log2(scale)), start=1):
        enlarge[f"conv{i}"] = biased_conv(4, 4 * factor**2, 3)
        enlarge[f"shuffle{i}"] = torch.nn.PixelShuffle(factor)
    return seq(
        without_mean=function(lambda x: x - mean),
        head=biased_conv(channels, 4, 3),
        trunk=residual(seq(blocks=seq(block1=block(), block2=block()), conv=biased_conv(4, 4, 3))),
        upsampler=seq(**enlarge),
        tail=biased_conv(4, channels, 3),
        with_mean=function(lambda x: x + mean),
    )


@pytest.mark.oracle
@pytest.mark.parametrize("scale, channels, scaling", [(2, 3, 1.0), (3, 1, 0.1), (4, 3, 1.0)])
def test_a_step_is_pytorchs(scale, channels, scaling):
    model = fnn.edsr(scale, channels=channels, blocks=2, features=4, residual_scaling=scaling)
    x, targets = pictures(2, 5, 4, channels), pictures(2, 5 * scale, 4 * scale, channels)
    same_fit(Naming(), random_weights(theirs(scale, channels, scaling)), model, x, targets)
