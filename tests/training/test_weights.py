"""fnn.training.weights: safetensors there and back, and every difference listed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

import fnn
from fnn.training import load_weights, save_weights
from fnn.training.weights import WeightsError

MODEL = fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.relu, head=fnn.dense(2))
X = jnp.zeros((1, 3))


@pytest.fixture(scope="module")
def weights():
    params, state = MODEL.init(jax.random.key(0), X)
    return params, jax.tree.map(lambda leaf: leaf + 0.5, state)


@pytest.fixture
def file(tmp_path):
    def make(data):
        path = tmp_path / "model.safetensors"
        path.write_bytes(data)
        return path

    return make


def same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for one, two in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def test_what_is_saved_comes_back_to_the_bit(weights, file):
    path = file(save_weights(*weights, {"config": "seed: 0\n"}))
    same(load_weights(path, *weights), weights)


def test_shapes_are_enough_to_load(weights, file):
    path = file(save_weights(*weights, {}))
    same(load_weights(path, *jax.eval_shape(MODEL.init, jax.random.key(0), X)), weights)
    same(load_weights(str(path), *weights), weights)


def test_any_safetensors_reader_finds_names_values_and_metadata(weights, file):
    params, _ = weights
    path = file(save_weights(*weights, {"config": "seed: 0\n", "classes": '["é"]'}))
    with safe_open(path, framework="numpy") as tensors:
        assert set(tensors.keys()) == {
            "params/dense1/kernel", "params/dense1/bias", "params/head/kernel", "params/head/bias",
            "params/batch_norm1/scale", "params/batch_norm1/bias",
            "state/batch_norm1/mean", "state/batch_norm1/var",
        }  # fmt: skip
        assert tensors.metadata() == {"config": "seed: 0\n", "classes": '["é"]'}
        np.testing.assert_array_equal(tensors.get_tensor("params/head/kernel"), params["head"]["kernel"])


def test_of_an_average_the_raw_parameters_lie_beside_it(weights, file):
    params, state = weights
    raw = jax.tree.map(lambda leaf: leaf - 1, params)
    data = save_weights(params, state, {}, raw)
    same(load_weights(file(data), params, state), weights)
    tensors = load(data)
    np.testing.assert_array_equal(tensors["raw/dense1/kernel"], raw["dense1"]["kernel"])
    assert sum(name.startswith("raw/") for name in tensors) == 6


def test_a_model_without_state_and_a_transposed_array(file):
    params = {"kernel": jnp.arange(6.0).reshape(2, 3).T}
    same(load_weights(file(save_weights(params, {}, {})), params, {}), (params, {}))
    params = {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3).T}  # in another order in memory
    got, _ = load_weights(file(save_weights(params, {}, {})), params, {})
    np.testing.assert_array_equal(got["kernel"], params["kernel"])


def test_dtypes_are_kept(file):
    params = {"kernel": jnp.ones((2, 2), jnp.bfloat16), "count": jnp.arange(3, dtype=jnp.int32)}
    same(load_weights(file(save_weights(params, {}, {})), params, {}), (params, {}))


def test_every_difference_is_listed(weights, file):
    params, state = weights
    saved = {
        "dense1": {
            "kernel": np.ones((3, 5), np.float32),
            "bias": params["dense1"]["bias"].astype(jnp.float16),
        },
        "batch_norm1": params["batch_norm1"],
        "heat": params["head"],
    }
    path = file(save_weights(saved, {}, {}))
    with pytest.raises(WeightsError) as caught:
        load_weights(path, params, state)
    message = str(caught.value)
    assert message.startswith(f"{path} does not fit the model: ")
    assert "\n" not in message
    for difference in (
        "missing params/head/kernel", "missing params/head/bias", "missing state/batch_norm1/mean",
        "missing state/batch_norm1/var", "unknown params/heat/kernel", "unknown params/heat/bias",
        "params/dense1/kernel: expected float32[3, 4], got float32[3, 5]",
        "params/dense1/bias: expected float32[4], got float16[4]",
    ):  # fmt: skip
        assert difference in message
    assert message.count(";") == 7, "and nothing else"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: b"\x93NUMPY" + data,
        lambda data: b"\xff" * 100,
        lambda data: data + b"\0" * 8,
        lambda data: data.replace(b'"F32"', b'"Q99"'),
    ],
)
def test_a_damaged_file_is_no_crash(weights, file, damage):
    path = file(damage(save_weights(*weights, {})))
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as safetensors"):
        load_weights(path, *weights)


def test_a_missing_file_and_a_folder(weights, tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        load_weights(tmp_path / "none.safetensors", *weights)
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        load_weights(tmp_path, *weights)


def test_names_outside_of_params_and_state_are_strangers(weights, file):
    tensors = load(save_weights(*weights, {}))
    path = file(save({**tensors, "optimizer/momentum": np.ones(1, np.float32)}))
    with pytest.raises(WeightsError, match="unknown optimizer/momentum"):
        load_weights(path, *weights)
