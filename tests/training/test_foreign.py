"""Tensors from other libraries' files: what is read, and what is refused without being unpickled."""

from __future__ import annotations

import pickle
import zipfile
from io import BytesIO

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from fnn.data import DataError
from fnn.training.foreign import read_tensors
from fnn.training.weights import WeightsError

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.ones(2, np.float16),
    "n": np.array(7),
}


def test_safetensors_keep_their_types(tmp_path):
    save_file(TENSORS | {"c": np.ones(3, ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    found = read_tensors(tmp_path / "w.safetensors")
    assert {name: tensor.dtype.name for name, tensor in found.items()} == {
        "a": "float32", "b": "float16", "c": "bfloat16", "n": "int64",
    }  # fmt: skip
    np.testing.assert_array_equal(found["a"], TENSORS["a"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_archive(tmp_path, save):
    save(tmp_path / "w.npz", **TENSORS)
    found = read_tensors(tmp_path / "w.npz")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "w.bin").write_bytes(pickle.dumps(Trap()))
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Trap()))
    np.savez(tmp_path / "w.npz", a=np.array([Trap()], dtype=object))
    for name, error in (("w.bin", WeightsError), ("w.pth", WeightsError), ("w.npz", DataError)):
        with pytest.raises(error, match="pickle") as caught:
            read_tensors(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("cut", [1, 40, 200, -1])
def test_a_damaged_archive_is_one_clear_line(tmp_path, cut):
    np.savez(tmp_path / "w.npz", **TENSORS)
    (tmp_path / "w.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:cut])
    with pytest.raises((WeightsError, DataError), match=r"^\S+w.npz: [^\n]+$"):
        read_tensors(tmp_path / "w.npz")


def test_what_an_array_promises_is_checked_before_it_is_allocated(tmp_path):
    header = BytesIO()
    promised = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, promised)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(16))
    with pytest.raises(DataError, match=r"a: expected 4000000000000 bytes for \(1000000000000,\) .*found 16"):
        read_tensors(tmp_path / "w.npz")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"expected weights as safetensors or \.npz, found none"):
        read_tensors(tmp_path / "no.safetensors")
