"""CIFAR-10 and CIFAR-100: https://www.cs.toronto.edu/~kriz/cifar.html, in binary form or in class folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from fnn.data.dataset import DataError, Dataset, Split
from fnn.data.files import FilePath, candidates, check_memory, how_to_get, locate
from fnn.data.image_folders import read_dataset
from fnn.data.picture_files import in_folders
from fnn.data.pictures import read_picture
from fnn.registry import register

PICTURE = (32, 32, 3)
PIXELS = 3 * 32 * 32
NAMES_LIMIT = 1 << 16
"""Characters read of a list of names; the longest one has fewer than 2,000."""


@register(group="source")
def cifar10(path: FilePath | None = None) -> Dataset:
    """CIFAR-10: 50,000 small photographs to train on, 10,000 to test, in 10 classes.

    Args:
        path: The folder of its binary version (``data_batch_1.bin`` to ``5``, ``test_batch.bin``,
            ``batches.meta.txt``), or of class folders (``train/<class>/*.png``,
            ``test/<class>/*.png``), whose pictures come class by class; by default ``cifar10`` or
            ``cifar-10-batches-bin`` in ``$FNN_DATA``, ``./data`` or the user's cache folder.

    Returns:
        Images ``(n, 32, 32, 3)`` of bytes, red, green, blue.

    Raises:
        DataError: A file is missing, damaged, or holds something else.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    files = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "batches.meta.txt"]
    found = _locate("cifar10", files, candidates(path, ["cifar10", "cifar-10-batches-bin"]), "CIFAR-10")
    if isinstance(found, Path):
        return _in_class_folders(found, 10)
    *train, test, names = found
    classes = _names(names, 10)
    parts = [_read(file, (10,), 0) for file in train]
    images = np.concatenate([part.inputs for part in parts])
    labels = np.concatenate([part.targets for part in parts if part.targets is not None])
    return Dataset(Split(images, labels), _read(test, (10,), 0), classes=classes)


@register(group="source")
def cifar100(path: FilePath | None = None, labels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """CIFAR-100: 50,000 small photographs to train on, 10,000 to test, in 100 classes.

    Args:
        path: The folder of its binary version (``train.bin``, ``test.bin``,
            ``fine_label_names.txt``, ``coarse_label_names.txt``), or of class folders
            (``train/<class>/*.png``, ``test/<class>/*.png``), whose pictures come class by class;
            by default ``cifar100`` or ``cifar-100-binary`` in ``$FNN_DATA``, ``./data`` or the
            user's cache folder.
        labels: The 100 ``fine`` classes or, in the binary version, the 20 ``coarse`` ones that
            group them.

    Returns:
        Images ``(n, 32, 32, 3)`` of bytes, red, green, blue.

    Raises:
        ValueError: ``labels`` is neither.
        DataError: A file is missing, damaged, or holds something else.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    counts = {"coarse": 20, "fine": 100}  # in the order of the label bytes
    if labels not in counts:
        raise ValueError(f"cifar100: expected labels fine or coarse, got {labels!r}")
    files = ["train.bin", "test.bin", "coarse_label_names.txt", "fine_label_names.txt"]
    found = _locate("cifar100", files, candidates(path, ["cifar100", "cifar-100-binary"]), "CIFAR-100")
    if isinstance(found, Path):
        if labels == "coarse":
            raise DataError(f"{found}: expected {files[0]}, ...: class folders have no coarse labels")
        return _in_class_folders(found, 100)
    train, test, *names = found
    column = list(counts).index(labels)
    limits = tuple(counts.values())
    classes = _names(names[column], counts[labels])
    return Dataset(_read(train, limits, column), _read(test, limits, column), classes=classes)


def _locate(source: str, files: list[str], folders: list[Path], public_name: str) -> list[Path] | Path:
    """The files of the binary version, or else the folder of the class folders.

    Raises:
        DataError: There is neither; the line names both.
    """
    get = how_to_get(f"{public_name}, binary version", source)
    form = "class folders do as well, train/CLASS/*.png and test/CLASS/*.png"
    try:
        return locate(source, files, folders, f"{form}; {get}")
    except DataError:
        for folder in folders:
            if all(os.path.isdir(folder / part) for part in ("train", "test")):
                return folder
        raise


def _in_class_folders(folder: Path, count: int) -> Dataset:
    found = in_folders(folder)
    if len(found[0]) != count:
        raise DataError(f"{folder / 'train'}: expected {count} folders, one a class, found {len(found[0])}")
    return read_dataset(folder, found, _picture, PICTURE, stream=False)


def _picture(file: str) -> np.ndarray:
    picture = read_picture(file, 3)
    if picture.shape != PICTURE:
        height, width, _ = picture.shape
        raise DataError(f"{file}: expected a picture of 32 × 32 pixels, found {width} × {height}")
    return picture


def _read(file: Path, limits: tuple[int, ...], column: int) -> Split:
    """Records of one label byte for each limit and 3,072 pixels, a plane for each colour."""
    record = len(limits) + PIXELS
    records = _bytes(file, record).reshape(-1, record)
    labels = records[:, : len(limits)]
    wrong = np.argwhere(labels >= np.array(limits))
    if len(wrong):
        row, place = wrong[0]
        found = labels[row, place]
        raise DataError(f"{file}: record {row}: expected a label below {limits[place]}, found {found}")
    planes = records[:, len(limits) :].reshape(-1, 3, 32, 32)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels[:, column].astype(np.int32))


def _bytes(file: Path, record: int) -> np.ndarray:
    try:
        size = file.stat().st_size
        if size == 0 or size % record:
            wanted = f"a whole number of records of {record} bytes"
            raise DataError(f"{file}: expected {wanted}, found {size} bytes")
        check_memory(file, size)
        return np.fromfile(file, np.uint8, count=size)
    except OSError as error:
        raise DataError(f"{file}: expected records of {record} bytes, cannot read it: {error}") from error


def _names(file: Path, count: int) -> tuple[str, ...]:
    try:
        with file.open(encoding="utf-8") as stream:
            lines = stream.read(NAMES_LIMIT).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected {count} names, one a line, cannot read it: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != count:
        raise DataError(f"{file}: expected {count} names, one a line, found {len(names)}")
    return names
