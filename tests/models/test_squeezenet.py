"""SqueezeNet beside torchvision's, and with its published weights beside its description for Caffe."""

from __future__ import annotations

import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import from_foreign
from tests.models import reference

COUNTS = {"squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496}
SMALLEST = {"squeezenet1_0": 21, "squeezenet1_1": 17}


def pictures(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def torchvision(name):
    return ARCHITECTURES[name].namings["torchvision"]


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    model = getattr(fnn, name)()
    assert model.kind == name
    params, _ = reference.shapes(model, np.zeros((1, 224, 224, 3), np.float32))
    assert fnn.count(params) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_an_input_too_small_is_refused_by_name(name):
    model, size = getattr(fnn, name)(), SMALLEST[name]
    reference.shapes(model, np.zeros((1, size, size, 3), np.float32))
    with pytest.raises(fnn.LayerError, match=r"^features/pool\d: expected space for a window"):
        reference.shapes(model, np.zeros((1, size - 1, size - 1, 3), np.float32))


@pytest.mark.oracle
@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("classes", [4, 1000])
def test_structure_is_torchvisions(name, classes):
    models = reference.torchvision_models()
    import torch

    with torch.device("meta"):
        net = models.get_model(name, num_classes=classes)
    reference.same_structure(torchvision(name), net, getattr(fnn, name)(classes), pictures(1, 64, 64, 3))


@pytest.mark.oracle
@pytest.mark.parametrize("name", COUNTS)
def test_a_step_is_torchvisions(name):
    """Sizes at which the last windows of max pooling reach beyond the end of one axis alone."""
    net = reference.torchvision_models().get_model(name, num_classes=4, dropout=0.0)
    model = getattr(fnn, name)(4, dropout_rate=0.0)
    reference.random_weights(net)
    reference.same_step(torchvision(name), net, model, pictures(2, 64, 75, 3), np.array([1, 3]))


def layers_of(prototxt):
    """The layers of a Caffe description, each as what is written in it."""
    for text in prototxt.split("\nlayer {")[1:]:
        found = re.findall(r"^ +(\w+): \"?([^\"\n]+)\"?$", text, re.MULTILINE)
        values = dict(reversed(found))  # a filler of weights, too, has a type
        yield values | {"bottoms": re.findall(r"bottom: \"(.+)\"", text)}


def caffe(torch, prototxt, weights, x):
    """A Caffe description run by PyTorch's functions: the output of its last layer."""
    functional = torch.nn.functional
    blobs = {"data": x}
    for layer in layers_of(prototxt):
        inputs = [blobs[name] for name in layer["bottoms"]]
        number = {key: int(layer.get(key, default)) for key, default in (("stride", 1), ("pad", 0))}
        window = int(layer.get("kernel_size", 0))
        if layer["type"] == "Convolution":
            name = layer["name"].replace("/", ".")
            kernel, bias = (torch.tensor(weights[f"{name}.{leaf}"]) for leaf in ("weight", "bias"))
            assert kernel.shape[0] == int(layer["num_output"]) and kernel.shape[2] == window
            y = functional.conv2d(inputs[0], kernel, bias, number["stride"], number["pad"])
        elif layer["type"] == "Pooling" and layer.get("global_pooling") == "true":
            y = inputs[0].mean((2, 3))
        elif layer["type"] == "Pooling":
            assert layer["pool"] == "MAX"
            y = functional.max_pool2d(inputs[0], window, number["stride"], number["pad"], ceil_mode=True)
        else:
            y = {"ReLU": functional.relu, "Dropout": lambda v: v, "Concat": lambda *vs: torch.cat(vs, 1)}[
                layer["type"]
            ](*inputs)
        blobs[layer["top"]] = y
    return y


@pytest.mark.data
@pytest.mark.oracle
def test_the_published_weights_see_what_caffe_sees():
    """Two photographs that scikit-learn has: a Chinese temple roof, and a flower."""
    torch = pytest.importorskip("torch")
    from sklearn.datasets import load_sample_images

    folder = Path(os.environ["FNN_DATA"], "squeezenet")
    with np.load(folder / "squeezenet_v1.0.npz") as file:
        weights = dict(file)
    classes = [line.split("\t")[2] for line in (folder / "imagenet_classes.txt").read_text().splitlines()]
    known = ARCHITECTURES["squeezenet1_0"]
    preprocessing = known.exceptions["caffe"]
    photographs = load_sample_images().images
    x = preprocessing.normalizer()(np.stack([preprocessing.prepare(picture) for picture in photographs]))
    x = np.asarray(x)
    model = fnn.squeezenet1_0(**known.arguments["caffe"])
    params, state = from_foreign(known.namings["caffe"], weights, *reference.shapes(model, x))
    logits, _ = jax.jit(model.apply)(params, state, x)

    with torch.no_grad():
        wanted = caffe(
            torch,
            (folder / "SqueezeNet_deploy.prototxt").read_text(),
            weights,
            torch.tensor(x.transpose(0, 3, 1, 2).copy()),
        )
    reference.near("logits", logits, wanted)
    reference.near("probabilities", jax.nn.softmax(logits), wanted.softmax(-1))
    best = [[classes[i] for i in np.argsort(row)[:-6:-1]] for row in np.asarray(logits)]
    assert {"bell_cote", "monastery"} <= set(best[0])
    assert "sea_urchin" in best[1]  # of flowers ImageNet knows the daisy and the lady's slipper alone
