"""fnn.training.weights: safetensors there and back, and every difference listed."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

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
        lambda data: b"\xff" * 100,
        lambda data: data + b"\0" * 8,
        lambda data: data.replace(b'"F32"', b'"Q99"'),
    ],
)
def test_a_damaged_file_is_no_crash(weights, file, damage):
    path = file(damage(save_weights(*weights, {})))
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as safetensors"):
        load_weights(path, *weights)


def test_a_missing_file_a_folder_and_a_pipe(weights, tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors: expected a safetensors file, found none"):
        load_weights(tmp_path / "none.safetensors", *weights)
    os.mkfifo(tmp_path / "pipe")  # opened, it would wait for ever
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(WeightsError, match="expected a safetensors file, found something else"):
            load_weights(path, *weights)


def container(header, data=b"", length=None):
    """A safetensors file as its specification lays it out: the header's length, the header, the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, end, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


LIES = {
    "overlapping": container({"params/a": entry(0, 8), "params/b": entry(4, 12)}, bytes(12)),
    "two names for one place": container({"params/a": entry(0, 8), "params/b": entry(0, 8)}, bytes(8)),
    "a hole": container({"params/a": entry(0, 8), "params/b": entry(16, 24)}, bytes(24)),
    "backwards": container({"params/a": entry(8, 0), "params/b": entry(8, 16)}, bytes(16)),
    "cut short": container({"params/a": entry(0, 8), "params/b": entry(8, 16)}, bytes(15)),
    "a tail": container({"params/a": entry(0, 8), "params/b": entry(8, 16)}, bytes(17)),
    "fewer bytes than the shape": container({"params/a": entry(0, 4)}, bytes(4)),
    "another dtype than the bytes": container({"params/a": entry(0, 8, "F64")}, bytes(8)),
    "a vast shape": container({"params/a": entry(0, 8, shape=(2**62, 2**62))}, bytes(8)),
    "a vast offset": container({"params/a": entry(0, 2**63)}, bytes(8)),
    "a negative offset": container({"params/a": entry(-8, 0)}, bytes(8)),
    "no offsets": container({"params/a": {"dtype": "F32"}}),
    "no entry": container({"params/a": [0, 8]}),
    "no mapping": container([]),
    "no JSON": container(b"no JSON"),
    "no text": container(b"\xff" * 8),
    "deep": container(b'{"a":' * 10_000),
    "a vast header": container({}, length=2**64 - 1),
    "a header longer than the file": container({}, length=50 << 20),
    "a header cut short": container({}, length=1),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(file, lie):
    params = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as safetensors") as caught:
        load_weights(file(LIES[lie]), params, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("F64", 16), ("I32", 8), ("F8_E5M2", 2), ("F8_E4M3", 2), ("C64", 16), ("BF16", 4), ("F4", 1)],
)
def test_another_dtype_is_named_even_if_numpy_has_it_not(file, dtype, size):
    path = file(container({"params/a": entry(0, size, dtype)}, bytes(size)))
    with pytest.raises(WeightsError, match=r"params/a: expected float32\[2\], got \w+\[2\]$"):
        load_weights(path, {"a": np.zeros(2, np.float32)}, {})


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def test_other_formats_are_named_and_nothing_is_unpickled(file, tmp_path):
    pickled = pickle.dumps({"kernel": Trap(tmp_path / "sprung")})
    pth, npz = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(pth, "w") as archive:  # as torch.save writes it
        archive.writestr("model/data.pkl", pickled)
    np.savez(npz, kernel=np.array([Trap(tmp_path / "sprung")], object))
    for data, found in {
        pth.getvalue(): r"a zip archive, as PyTorch's \.pth and NumPy's \.npz are",
        npz.getvalue(): r"a zip archive, as PyTorch's \.pth and NumPy's \.npz are",
        pickled: "a pickle",
        b"\x93NUMPY\x01\x00": r"an array of NumPy \(\.npy\)",
        b"\x89HDF\r\n\x1a\n": r"an HDF5 file \(\.h5\)",
    }.items():
        with pytest.raises(WeightsError, match=f": expected a safetensors file, .* found {found}"):
            load_weights(file(data), {}, {})
    assert not (tmp_path / "sprung").exists()


def test_of_many_strangers_some_are_named(file):
    path = file(save({f"params/{i:04}": np.ones(1, np.float32) for i in range(1000)}))
    with pytest.raises(WeightsError, match=r"unknown params/\d{4}; and 980 more unknown$") as caught:
        load_weights(path, {}, {})
    assert str(caught.value).count("unknown params/") == 20


def test_names_outside_of_params_and_state_are_strangers(weights, file):
    tensors = load(save_weights(*weights, {}))
    path = file(save({**tensors, "optimizer/momentum": np.ones(1, np.float32)}))
    with pytest.raises(WeightsError, match="unknown optimizer/momentum"):
        load_weights(path, *weights)
