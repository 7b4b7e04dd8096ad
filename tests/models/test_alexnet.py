"""AlexNet beside torchvision's; that of 2012 beside PyTorch's layers and the paper's own formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import Naming
from tests.models import reference

ALEXNET = ARCHITECTURES["alexnet"].namings["torchvision"]


def pictures(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def parameters(model, size):
    params, state = reference.shapes(model, np.zeros((1, size, size, 3), np.float32))
    assert not state
    return params


def test_parameter_counts():
    assert fnn.count(parameters(fnn.alexnet(), 224)) == 61_100_840
    assert fnn.count(parameters(fnn.alexnet_2012(), 227)) == 60_965_224
    assert fnn.count(parameters(fnn.alexnet_2012(padding=((1, 2), (1, 2))), 224)) == 60_965_224


def test_the_groups_of_2012_see_half_of_the_channels():
    features = parameters(fnn.alexnet_2012(), 227)["features"]
    assert {name: leaves["kernel"].shape for name, leaves in features.items()} == {
        "conv1": (11, 11, 3, 96),
        "conv2": (5, 5, 48, 256),
        "conv3": (3, 3, 256, 384),
        "conv4": (3, 3, 192, 384),
        "conv5": (3, 3, 192, 256),
    }


def start(model, part, name, *shape):
    """What one layer of a model starts from."""
    layer = dict(dict(model.children)[part].children)[name]
    params, _ = layer.init(jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    return params["kernel"], params["bias"]


def test_the_start_of_2012():
    """Section 5: kernels of deviation 0.01; biases of 1 in the second, fourth, fifth and hidden layers."""
    model = fnn.alexnet_2012(5, width=1 / 16)
    kernel, bias = start(model, "features", "conv2", 1, 5, 5, 16)
    assert abs(np.std(kernel) - 0.01) < 1e-3
    assert (bias == 1).all()
    kernel, bias = start(model, "classifier", "fc8", 1, 256)
    assert abs(np.std(kernel) - 0.01) < 1e-3
    assert not bias.any()


def test_the_start_of_alexnet_is_torchs():
    kernel, bias = start(fnn.alexnet(width=1 / 16), "features", "conv2", 1, 7, 7, 16)
    bound = 1 / np.sqrt(5 * 5 * 16)
    assert 0.99 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6)
    assert abs(np.abs(kernel).mean() - bound / 2) < 0.05 * bound
    assert not bias.any()


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012"])
def test_refused_widths(name):
    with pytest.raises(ValueError) as error:
        getattr(fnn, name)(width=0)
    assert str(error.value).startswith(f"{name}: width must be positive, and")
    for width in (float("nan"), float("inf"), 1e300, -1):
        with pytest.raises(ValueError, match="width must be positive"):
            getattr(fnn, name)(width=width)


def test_an_input_too_small_is_refused_by_name():
    with pytest.raises(fnn.LayerError, match=r"^features/pool5: expected space for a window"):
        reference.shapes(fnn.alexnet(), np.zeros((1, 62, 62, 3), np.float32))
    reference.shapes(fnn.alexnet(), np.zeros((1, 63, 63, 3), np.float32))


@pytest.mark.oracle
def test_alexnet_has_torchvisions_structure():
    models = reference.torchvision_models()
    import torch

    with torch.device("meta"):
        net = models.alexnet()
    reference.same_structure(ALEXNET, net, fnn.alexnet(), pictures(1, 224, 224, 3))


@pytest.mark.oracle
def test_alexnet_against_torchvision():
    """Of full width, for a picture that is not square and leaves space of 1 × 2 to average. There is nothing
    that evaluation does otherwise."""
    net = reference.random_weights(reference.torchvision_models().alexnet(num_classes=4, dropout=0.0))
    model = fnn.alexnet(4, dropout_rate=0.0)
    x = pictures(2, 67, 95, 3)
    reference.same_step(ALEXNET, net, model, x, np.array([1, 3]))


@pytest.mark.oracle
@pytest.mark.parametrize("size, padding, sides", [(227, "VALID", 0), (224, ((1, 2), (1, 2)), (1, 2, 1, 2))])
def test_alexnet_2012_against_torch(size, padding, sides):
    """An eighth of its width; the normalisation is written as in Section 3.3."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Response(nn.Module):
        def forward(self, a):
            squares = nn.functional.pad(a.square(), (0, 0, 0, 0, 2, 2))
            near = sum(squares[:, j : j + a.shape[1]] for j in range(5))
            return a / (2 + 1e-4 * near) ** 0.75

    net = nn.Sequential(
        nn.Conv2d(3, 12, 11, stride=4), nn.ReLU(), Response(), nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 32, 5, padding=2, groups=2), nn.ReLU(), Response(), nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(48, 32, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(1152, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 4),
    )  # fmt: skip
    if sides:
        net.insert(0, nn.ZeroPad2d(sides))
    weighted = [i for i, layer in enumerate(net) if isinstance(layer, nn.Conv2d | nn.Linear)]
    naming = Naming(
        tuple((rf"^\w+\.(conv|fc){number}\.", f"{i}.") for number, i in enumerate(weighted, start=1)),
        flattened={"classifier/fc6": (6, 6, 32)},
    )
    model = fnn.alexnet_2012(4, width=1 / 8, dropout_rate=0.0, padding=padding)
    x = 50 * pictures(2, size, size, 3)  # of the size of bytes, so that the normalisation shows
    reference.random_weights(net)
    reference.same_step(naming, net, model, x, np.array([1, 3]))


def test_dropout_is_where_the_papers_have_it():
    """In 2012 after the hidden dense layers, in 2014 before them."""
    order = [name for name, _ in dict(fnn.alexnet().children)["classifier"].children]
    assert order == ["drop6", "fc6", "relu6", "drop7", "fc7", "relu7", "fc8"]
    order = [name for name, _ in dict(fnn.alexnet_2012().children)["classifier"].children]
    assert order == ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"]
