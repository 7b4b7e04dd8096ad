"""CIFAR's binary files, as its page lays them out, whole and damaged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fnn.data import DataError, cifar10, cifar100
from fnn.data.cifar_files import _read

RNG = np.random.default_rng(0)
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def record(labels: tuple[int, ...], image: np.ndarray) -> bytes:
    """Labels, then 1,024 red, 1,024 green and 1,024 blue bytes, each row by row."""
    return bytes(labels) + b"".join(image[:, :, colour].tobytes() for colour in range(3))


def pictures(n: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, 32, 32, 3), np.uint8)


TRAIN, TEST = pictures(10), pictures(3)
FINE, COARSE = [99, 0, 7, 50, 42, 13, 13, 98, 1, 2], [19, 0, 3, 5, 4, 1, 1, 18, 0, 2]


@pytest.fixture
def ten(tmp_path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for batch in range(5):
        rows = [record((i,), TRAIN[i]) for i in (2 * batch, 2 * batch + 1)]
        (folder / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(rows))
    test = [record((9 - i,), image) for i, image in enumerate(TEST)]
    (folder / "test_batch.bin").write_bytes(b"".join(test))
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    return folder


@pytest.fixture
def hundred(tmp_path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    both = zip(COARSE, FINE, TRAIN, strict=True)
    (folder / "train.bin").write_bytes(b"".join(record((c, f), image) for c, f, image in both))
    (folder / "test.bin").write_bytes(record((4, 30), TEST[0]))
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))
    (folder / "coarse_label_names.txt").write_text("\n".join(f"coarse{i}" for i in range(20)))
    return folder


def test_cifar10_is_read_to_the_byte(ten):
    data = cifar10(ten)
    np.testing.assert_array_equal(data.train.inputs, TRAIN)
    np.testing.assert_array_equal(data.test.inputs, TEST)
    assert data.train.targets.tolist() == list(range(10))
    assert data.test.targets.tolist() == [9, 8, 7]
    assert data.classes == tuple(TEN)
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize(("labels", "wanted", "test"), [("fine", FINE, 30), ("coarse", COARSE, 4)])
def test_cifar100_is_read_to_the_byte(hundred, labels, wanted, test):
    data = cifar100(hundred, labels)
    np.testing.assert_array_equal(data.train.inputs, TRAIN)
    np.testing.assert_array_equal(data.test.inputs, TEST[:1])
    assert data.train.targets.tolist() == wanted
    assert data.test.targets.tolist() == [test]
    assert data.classes == tuple(f"{labels}{i}" for i in range({"fine": 100, "coarse": 20}[labels]))


@pytest.mark.parametrize(("name", "read"), [("ten", cifar10), ("hundred", cifar100)])
def test_both_are_found_under_either_name(name, read, request, monkeypatch):
    folder = request.getfixturevalue(name)
    monkeypatch.setenv("FNN_DATA", str(folder.parent))
    np.testing.assert_array_equal(read().train.inputs, TRAIN)
    folder.rename(folder.parent / read.__name__)
    np.testing.assert_array_equal(read().train.inputs, TRAIN)


def folders(root: Path, classes: list[str], labels: list[int], images: np.ndarray) -> None:
    for name in classes:
        (root / name).mkdir(parents=True)
    for i, (label, image) in enumerate(zip(labels, images, strict=True)):
        Image.fromarray(image).save(root / classes[label] / f"{i:04}.png")


def filled(labels: list[int], count: int) -> tuple[list[int], np.ndarray]:
    """Labels and pictures with at least one of each class, in order of the class."""
    labels = sorted([*labels, *(set(range(count)) - set(labels))])
    return labels, pictures(len(labels))


@pytest.mark.parametrize("count", [10, 100])
def test_class_folders_are_read_to_the_byte(tmp_path, monkeypatch, count):
    root, source = tmp_path / f"cifar{count}", {10: cifar10, 100: cifar100}[count]
    classes = TEN if count == 10 else [f"fine{i:02}" for i in range(100)]
    parts = {name: filled(labels, count) for name, labels in (("train", [3, 3, 9]), ("test", [0]))}
    for name, (labels, images) in parts.items():
        folders(root / name, classes, labels, images)
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    for data in (source(), source(root)):
        for name, (labels, images) in parts.items():
            np.testing.assert_array_equal(getattr(data, name).inputs, images)
            assert getattr(data, name).targets.tolist() == labels
        assert data.classes == tuple(classes)
    if count == 100:
        with pytest.raises(
            DataError, match=r"cifar100: expected train\.bin, .*: class folders have no coarse"
        ):
            cifar100(labels="coarse")


def test_the_binary_form_is_taken_where_both_are(ten):
    folders(ten / "train", TEN, *filled([], 10))
    folders(ten / "test", TEN, *filled([], 10))
    np.testing.assert_array_equal(cifar10(ten).train.inputs, TRAIN)
    (ten / "test_batch.bin").unlink()
    assert len(cifar10(ten).test) == 10


def test_class_folders_of_something_else_are_refused(tmp_path):
    for part in ("train", "test"):
        folders(tmp_path / part, TEN[:9], *filled([], 9))
    with pytest.raises(DataError, match="train: expected 10 folders, one a class, found 9"):
        cifar10(tmp_path)
    for part in ("train", "test"):
        folders(tmp_path / part, TEN[9:], [0], pictures(1))
    Image.new("RGB", (32, 30)).save(tmp_path / "test/dog/new.png")
    with pytest.raises(DataError, match=r"new\.png: expected a picture of 32 × 32 pixels, found 32 × 30"):
        cifar10(tmp_path)


def test_a_missing_set_says_what_and_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "root"))
    with pytest.raises(DataError) as caught:
        cifar10()
    message = str(caught.value)
    for part in (
        "data_batch_3.bin",
        "root/cifar10 is no",
        "root/cifar-10-batches-bin is no",
        "get CIFAR-10",
        "train/CLASS/*.png",
    ):
        assert part in message


WHOLE = record((3,), TRAIN[0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_2.bin", b"", "expected a whole number of records of 3073 bytes, found 0 bytes"),
        (
            "data_batch_2.bin",
            WHOLE[:-1],
            "expected a whole number of records of 3073 bytes, found 3072 bytes",
        ),
        ("test_batch.bin", WHOLE + b"\0", "records of 3073 bytes, found 3074 bytes"),
        ("data_batch_5.bin", WHOLE + b"\n" + WHOLE[1:], "record 1: expected a label below 10, found 10"),
        ("batches.meta.txt", "\n".join(TEN[:9]).encode(), "expected 10 names, one a line, found 9"),
        ("batches.meta.txt", b"\xff\xfe", "expected 10 names, one a line, cannot read it"),
    ],
)
def test_damage_to_cifar10_is_named(ten, name, content, message):
    (ten / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        cifar10(ten)
    assert str(caught.value).startswith(f"{ten / name}: ")


def test_a_file_that_cannot_be_read_or_held_is_named(ten, monkeypatch):
    with pytest.raises(DataError, match=r"none: expected records of 3073 bytes, cannot read it: .*No such"):
        _read(ten / "none", (10,), 0)
    monkeypatch.setattr("fnn.data.files.memory", lambda: 5000)  # of a small machine
    with pytest.raises(DataError, match=r"batch_1\.bin: expected at most the 5000 bytes of .* found 6146"):
        cifar10(ten)


@pytest.mark.parametrize(
    ("labels", "message"),
    [((20, 0), "record 0: expected a label below 20, found 20"), ((0, 100), "label below 100, found 100")],
)
def test_both_labels_of_cifar100_are_checked(hundred, labels, message):
    (hundred / "test.bin").write_bytes(record(labels, TEST[0]))
    with pytest.raises(DataError, match=message):
        cifar100(hundred)


def test_cifar10_given_as_cifar100_is_refused(hundred):
    (hundred / "train.bin").write_bytes(WHOLE)
    with pytest.raises(DataError, match="records of 3074 bytes, found 3073 bytes"):
        cifar100(hundred)


def test_other_labels_are_refused(hundred):
    with pytest.raises(ValueError, match="cifar100: expected labels fine or coarse, got 'finest'"):
        cifar100(hundred, labels="finest")
