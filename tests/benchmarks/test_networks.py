"""The compared networks: shapes, weights, the order of channels."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.jobs import JOBS, make_batches
from benchmarks.networks import Conv, Dense, channels_first, make_weights, output_shape, walk

NETWORKS = ("digits_mlp", "mlp", "lenet", "resnet18", "depthwise")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_ends_in_ten_logits(name):
    job = JOBS[name]
    shape = job.shape
    for layer in job.layers:
        shape = output_shape(layer, shape)
    assert shape == (10,)


@pytest.mark.parametrize(
    ("name", "count"), [("digits_mlp", 4810), ("mlp", 669706), ("lenet", 1663370), ("resnet18", 11173962)]
)
def test_the_networks_have_their_known_sizes(name, count):
    weights = make_weights(JOBS[name].layers, JOBS[name].shape)
    trained = [value for path, value in weights.items() if not path.endswith(("/mean", "/var"))]
    assert sum(value.size for value in trained) == count
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}


def test_weights_depend_on_their_own_path_alone():
    alone = make_weights((Dense("head", 3),), (4,))
    among = make_weights((Dense("other", 4), Dense("head", 3)), (4,))
    np.testing.assert_array_equal(alone["head/kernel"], among["head/kernel"])
    assert np.abs(among["other/kernel"][:, :3] - among["head/kernel"]).min() > 0


def test_channels_first_keeps_the_function():
    layers = (Conv("conv", 3, 1), "flatten", Dense("head", 2))
    shape = (4, 5, 2)
    weights = make_weights(layers, shape)
    turned = channels_first(layers, shape, weights)
    x = np.random.default_rng(0).standard_normal(shape)
    last = (x @ weights["conv/kernel"][0, 0]).reshape(-1) @ weights["head/kernel"]
    first = np.einsum("oi,hwi->ohw", turned["conv/kernel"][:, :, 0, 0], x).reshape(-1)
    np.testing.assert_allclose(turned["head/kernel"] @ first, last, rtol=1e-6)


def test_walk_reads_like_paths():
    paths = [path for path, layer, _ in walk(JOBS["resnet18"].layers, (32, 32, 3)) if layer != "relu"]
    assert paths[:3] == ["stem", "stem_norm", "stage1_block1/body/conv1"]
    assert "stage2_block1/skip/conv" in paths and "stage2_block2/skip/conv" not in paths


def test_batches_are_the_same_each_time():
    (x, y), (again, labels) = make_batches(JOBS["lenet"]), make_batches(JOBS["lenet"])
    assert x.shape == (8, 128, 28, 28, 1) and y.shape == (8, 128)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, labels)
