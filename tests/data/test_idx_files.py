"""IDX files: whole, gzipped, and damaged in every way that has a message."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fnn.data import DataError, idx, mnist
from fnn.data.idx_files import FILES, read_idx

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 4, 5), np.uint8)
LABELS = np.array([3, 0, 1, 2, 2, 1, 0], np.uint8)


def packed(array: np.ndarray, dtype: int = 0x08) -> bytes:
    """An array of bytes as the format's specification lays it out."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, dtype, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, array in zip(FILES, (IMAGES, LABELS, IMAGES[:3], LABELS[:3]), strict=True):
        (tmp_path / name).write_bytes(packed(array))
    return tmp_path


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_is_read_to_the_byte(folder, zipped):
    if zipped:
        for name in FILES:
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    data = idx(folder)
    np.testing.assert_array_equal(data.train.inputs[..., 0], IMAGES)
    np.testing.assert_array_equal(data.train.targets, LABELS)
    np.testing.assert_array_equal(data.test.inputs, IMAGES[:3, :, :, None])
    np.testing.assert_array_equal(data.test.targets, LABELS[:3])
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.uint8, np.int32)
    assert data.classes == ("0", "1", "2", "3")


def test_gzip_is_told_by_the_content_not_by_the_name(folder):
    file = folder / FILES[0]
    file.write_bytes(gzip.compress(file.read_bytes()))
    np.testing.assert_array_equal(idx(folder).train.inputs[..., 0], IMAGES)


def test_a_path_may_be_text_or_begin_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    np.testing.assert_array_equal(idx(str(folder)).train.targets, LABELS)
    np.testing.assert_array_equal(idx(f"~/{folder.name}").train.targets, LABELS)


HEADER = packed(IMAGES)[:16]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an IDX file, which starts with 00 00 08 03, found an empty file"),
        (b"\0\0", "found bytes 00 00"),
        (b"\x89PNG\r\n", "found bytes 89 50 4e 47"),
        (packed(IMAGES, 0x0D), r"expected unsigned bytes \(dtype 0x08\), found float32 \(0x0d\)"),
        (packed(IMAGES, 0x07), r"found an unknown dtype \(0x07\)"),
        (packed(LABELS), "expected 3 dimensions, found 1"),
        (HEADER[:10], "expected an IDX header of 16 bytes, found 10"),
        (HEADER, r"expected 140 bytes for \(7, 4, 5\), found a file of 16 bytes"),
        (packed(IMAGES)[:-1], r"expected 140 bytes for \(7, 4, 5\), found a file of 155 bytes"),
        (packed(IMAGES) + b"\0", r"expected 140 bytes for \(7, 4, 5\), found more"),
        (packed(IMAGES[:0]), r"at least one value in every dimension, found the shape \(0, 4, 5\)"),
        (packed(IMAGES[:, :, :0]), r"at least one value in every dimension, found the shape \(7, 4, 0\)"),
        (gzip.compress(packed(IMAGES), mtime=0)[:-20], "cannot read it: Compressed file ended"),
        (gzip.compress(packed(IMAGES), mtime=0)[:3], "cannot read it: Compressed file ended"),
        (gzip.compress(packed(IMAGES), mtime=0)[:-8] + bytes(8), "cannot read it: CRC check failed"),
        (gzip.compress(packed(IMAGES), mtime=0)[:10] + b"\xff" * 40, "cannot read it: .*invalid block type"),
        (gzip.compress(packed(IMAGES)[:-1], mtime=0), r"expected 140 bytes for \(7, 4, 5\), found 139"),
        (gzip.compress(packed(IMAGES) + b"\0", mtime=0), r"expected 140 bytes for \(7, 4, 5\), found more"),
    ],
)
def test_damage_is_named(folder, content, message):
    file = folder / FILES[0]
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        idx(folder)
    assert str(caught.value).startswith(f"{file}: expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_promises_too_much_allocates_nothing(tmp_path, pack):
    file, size = tmp_path / "vast", 2**32 - 1
    file.write_bytes(pack(bytes([0, 0, 8, 3]) + struct.pack(">3I", size, size, size)))
    with pytest.raises(DataError, match=rf"expected {size**3} bytes .*, found a (gzipped )?file of \d+"):
        read_idx(file, 3)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path, monkeypatch):
    file = tmp_path / "bomb"
    file.write_bytes(gzip.compress(packed(np.zeros((50, 1000, 1000), np.uint8))))
    assert file.stat().st_size < 100_000
    monkeypatch.setattr("fnn.data.files.memory", lambda: 1 << 20)  # of a small machine
    with pytest.raises(DataError, match=r"expected at most the 1048576 bytes of .* memory, found 50000000"):
        read_idx(file, 3)


def test_a_bomb_is_unpacked_no_further_than_its_header(tmp_path):
    file = tmp_path / "bomb"
    file.write_bytes(gzip.compress(packed(IMAGES) + bytes(100_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"expected 140 bytes for \(7, 4, 5\), found more"):
            read_idx(file, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read it: .*Is a directory"):
        read_idx(tmp_path, 3)
    with pytest.raises(DataError, match=r"cannot read it: .*No such file"):
        read_idx(tmp_path / "none", 3)


def test_images_and_labels_must_agree(folder):
    (folder / FILES[1]).write_bytes(packed(LABELS[:-1]))
    with pytest.raises(DataError, match=f"{FILES[1]}: expected 7 labels, one for each image.*, found 6"):
        idx(folder)


def test_both_parts_must_have_images_of_one_size(folder):
    (folder / FILES[2]).write_bytes(packed(IMAGES[:3, :3]))
    with pytest.raises(DataError, match=rf"{FILES[2]}: expected \(4, 5\) pixels .*, found \(3, 5\)"):
        idx(folder)


def test_mnist_has_ten_classes(folder):
    assert mnist(folder).classes == tuple("0123456789")
    (folder / FILES[3]).write_bytes(packed(np.array([0, 9, 10], np.uint8)))
    with pytest.raises(DataError, match=f"{FILES[3]}: row 2: expected a label below 10, found 10"):
        mnist(folder)


def test_a_missing_file_is_named_with_its_folder(folder):
    (folder / FILES[3]).unlink()
    with pytest.raises(DataError) as caught:
        idx(folder)
    assert f"{folder} lacks {FILES[3]}; set data.path" in str(caught.value)
    with pytest.raises(DataError, match="nowhere is no folder"):
        idx(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty has none of them"):
        idx(folder / "empty")


def test_mnist_is_sought_in_each_root_in_turn(folder, tmp_path, monkeypatch):
    roots = [tmp_path / "named", tmp_path / "work" / "data", tmp_path / "cache" / "fnn"]
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FNN_DATA", str(roots[0]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        mnist()
    places = [str(caught.value).index(f"{root / 'mnist'} is no folder") for root in roots]
    assert places == sorted(places)
    assert "the MNIST database of handwritten digits" in str(caught.value)
    for size, root in enumerate(reversed(roots), start=2):
        (root / "mnist").mkdir(parents=True)
        for name, array in zip(FILES, (IMAGES[:size], LABELS[:size]) * 2, strict=True):
            (root / "mnist" / name).write_bytes(packed(array))
        assert len(mnist().train) == size, "the first root that has it"


@pytest.mark.data
@pytest.mark.skipif("FNN_DATA" not in os.environ, reason="needs MNIST under $FNN_DATA")
def test_mnist_itself():
    data = mnist()
    assert data.train.inputs.shape == (60000, 28, 28, 1)
    assert data.test.inputs.shape == (10000, 28, 28, 1)
    assert data.train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(data.train.targets), counts)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(data.test.targets), counts)
    assert data.train.inputs.mean() / 255 == pytest.approx(0.1307, abs=5e-5), "the usual constants"
    assert data.train.inputs.std() / 255 == pytest.approx(0.3081, abs=5e-5), "the usual constants"
