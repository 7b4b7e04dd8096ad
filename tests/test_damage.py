"""Any damage to a valid file: what a reader says of it is a result or one clear line, and nothing else."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fnn.choices import ConfigError
from fnn.data import DataError, Dataset, arrays, cifar10, cifar100, image_folder, mnist
from fnn.document import Document, read
from fnn.training import load_weights, save_weights
from fnn.training.weights import WeightsError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 4, 5), np.uint8)
X, Y = RNG.normal(size=(4, 3)), np.array([0, 2, 1, 0])
PARAMS = {"dense1": {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)}}
CONFIG = """\
seed: 1
data: {source: digits}  # é
model:
  - conv: {features: 8, kernel: 3, name: "stem"}
  - relu
optimizer: {sgd: 1e-3}
"""
EXTREME = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


class Reader(NamedTuple):
    """A file of a folder that is valid, and what reads it."""

    name: str
    content: bytes
    read: Callable[[Path], object]
    error: type[Exception] = DataError
    result: type = Dataset
    pack: Callable[[bytes], bytes] = lambda content: content
    """From what is damaged to the file, where a checksum would find every damage at once."""


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def zipped(array: np.ndarray) -> bytes:
    return gzip.compress(idx(array), mtime=0)


def npz(save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(stream, x=X, y=Y)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def archive(x: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        out.writestr("x.npy", x)
        out.writestr("y.npy", npy(Y))
    return stream.getvalue()


def records(labels: int) -> bytes:
    return b"".join(bytes([i] * labels) + bytes(3072) for i in range(2))


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


TABLE = b"path,label,split\na.png,cat,train\na.png,dog,train\na.png,cat,test\n"
FOLDER = {
    "a.png": png(IMAGES[0]),
    "train-images-idx3-ubyte": idx(IMAGES),
    "train-labels-idx1-ubyte": idx(np.array([1, 0, 9], np.uint8)),
    "t10k-images-idx3-ubyte": idx(IMAGES[:1]),
    "t10k-labels-idx1-ubyte": idx(np.array([3], np.uint8)),
    **{f"data_batch_{i}.bin": records(1) for i in range(1, 6)},
    "test_batch.bin": records(1),
    "batches.meta.txt": "\n".join("abcdefghij").encode(),
    "train.bin": records(2),
    "test.bin": records(2),
    "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode(),
    "coarse_label_names.txt": "\n".join(f"coarse{i}" for i in range(20)).encode(),
}


def in_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda file: read(file.parent)


READERS = {
    "idx images": Reader("train-images-idx3-ubyte", idx(IMAGES), in_folder(mnist)),
    "idx labels": Reader("t10k-labels-idx1-ubyte", FOLDER["t10k-labels-idx1-ubyte"], in_folder(mnist)),
    "idx gzipped": Reader("train-images-idx3-ubyte", zipped(IMAGES), in_folder(mnist)),
    "idx in gzip": Reader("train-images-idx3-ubyte", idx(IMAGES), in_folder(mnist), pack=gzip.compress),
    "cifar10": Reader("data_batch_2.bin", records(1), in_folder(cifar10)),
    "cifar10 names": Reader("batches.meta.txt", FOLDER["batches.meta.txt"], in_folder(cifar10)),
    "cifar100": Reader("train.bin", records(2), in_folder(cifar100)),
    "npz": Reader("a.npz", npz(np.savez), arrays),
    "npz deflated": Reader("a.npz", npz(np.savez_compressed), arrays),
    "npy in npz": Reader("a.npz", npy(X), arrays, pack=archive),
    "npy header in npz": Reader("a.npz", npy(X)[:80], arrays, pack=lambda head: archive(head + npy(X)[80:])),
    "csv": Reader("a.csv", 'a,"b",ç\n1,2.5,3\n-4,"5",6e1\n7,8,\n'.encode(), arrays),
    "safetensors": Reader(
        "model.safetensors",
        save_weights(PARAMS, {}, {"config": "seed: 0"}),
        lambda file: load_weights(file, PARAMS, {}),
        WeightsError,
        tuple,
    ),
    "table of pictures": Reader("pictures.csv", TABLE, lambda file: image_folder(file, size=2)),
    "yaml": Reader("config.yaml", CONFIG.encode(), read, ConfigError, Document),
}


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The content after one to four of: a byte changed, a number put in, bytes lost, added or repeated."""
    place = st.integers(0, len(content))
    number = st.builds(
        lambda value, width, order: (value % 2 ** (8 * width)).to_bytes(width, order),
        st.sampled_from(EXTREME),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from(["little", "big"]),
    )
    new = st.binary(max_size=8) | number | st.sampled_from([b"(", b"{", b'"', b"\n", b"- ", b"\0", b"9" * 30])
    cut = st.tuples(place, st.integers(0, 8) | place, new)
    old = st.builds(lambda i, n: content[i : i + n], place, st.integers(1, 64))
    repeat = st.tuples(place, st.just(0), old)

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        changed = content
        for at, length, put in edits:
            changed = changed[:at] + put + changed[at + length :]
        return changed

    over = st.builds(lambda at, put: (at, len(put), put), place, new)
    return st.lists(over | cut | repeat, min_size=1, max_size=4).map(change)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name, folder):
    reader = READERS[name]
    for other, content in FOLDER.items():
        (folder / other).write_bytes(content)
    file = folder / reader.name
    assert isinstance(read_from(file, reader, reader.content), reader.result), "whole, it is read"

    @settings(
        max_examples=150, deadline=10_000, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(damaged(reader.content))
    @example(b"")
    def check(content):
        try:
            found = read_from(file, reader, content)
        except reader.error as error:
            found = str(error)
        if isinstance(found, str):
            assert str(folder) in found
            assert "\n" not in found
            assert len(found) < 1000
        else:
            assert isinstance(found, reader.result)

    check()


def read_from(file: Path, reader: Reader, content: bytes) -> object:
    file.write_bytes(reader.pack(content))
    return reader.read(file)
