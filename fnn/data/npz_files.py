"""Arrays in NumPy's ``.npz`` archive, never unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from fnn.data.dataset import MOST_CLASSES, DataError, Dataset, Split, brief
from fnn.data.files import DEFLATE_RATIO, check_memory
from fnn.trees import near

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(file: Path, target: str, classify: bool | None) -> Dataset:
    """A data set from the arrays ``x`` and ``y``, and ``x_test`` and ``y_test`` if they are there.

    Args:
        file: The archive.
        target: The key in place of ``y``, and with ``_test`` behind it, of ``y_test``.
        classify: Whether the targets are class indices; ``None``: if they are whole numbers.

    Raises:
        DataError: The archive is damaged or an array is not what it should be.
    """
    keys = ["x", target, "x_test", f"{target}_test"]
    try:
        with zipfile.ZipFile(file) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
            tested = any(key in there for key in keys[2:])
            found = {key: _array(file, archive, key, there) for key in (keys if tested else keys[:2])}
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises errors of a dozen kinds in zipfile
        raise DataError(f"{file}: expected an .npz archive, cannot read it: {brief(error)}") from error
    if classify is None:
        classify = found[target].dtype.kind in "iub"
    train = _split(file, found, keys[0], keys[1], classify)
    test = _split(file, found, keys[2], keys[3], classify) if tested else None
    if not classify:
        return Dataset(train, test)
    highest = max(int(part.targets.max()) for part in (train, test) if part and part.targets is not None)
    return Dataset(train, test, classes=tuple(str(i) for i in range(highest + 1)))


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Every array of an archive, by its key.

    Raises:
        DataError: The archive is damaged or larger than the memory, or an entry is no array of numbers.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
            check_memory(file, sum(entry.file_size for entry in archive.infolist()))
            return {key: _array(file, archive, key, there) for key in there}
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(f"{file}: expected an .npz archive, cannot read it: {brief(error)}") from error


def _array(file: Path, archive: zipfile.ZipFile, key: str, there: list[str]) -> np.ndarray:
    """One array, allocated only after its header agrees with the size of its entry."""
    if key not in there:
        nearest = brief(near(key, there))
        raise DataError(f"{file}: expected the array {key!r}, found none; nearest: {nearest}")
    entry = archive.infolist()[there.index(key)]
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{file}: {key}: expected an entry stored or deflated, as np.savez writes it")
    with archive.open(entry) as stream:
        _check_size(file, key, stream, entry.file_size)
    try:
        with archive.open(entry) as stream:
            array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{file}: {key}: expected a whole array, found: {brief(error)}") from error
    return array


def _check_size(file: Path, key: str, stream: IO[bytes], entry_size: int) -> None:
    try:
        read_header = HEADERS[np.lib.format.read_magic(stream)]
        shape, _, dtype = read_header(stream)
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # NumPy parses the header as Python, whose errors are of many kinds
        raise DataError(f"{file}: {key}: expected an array in .npy format, found: {brief(error)}") from error
    if dtype.kind not in "iufb":
        pickled = " objects, which would have to be unpickled" if dtype.hasobject else f" the dtype {dtype}"
        raise DataError(f"{file}: {key}: expected an array of numbers, found{pickled}")
    if 0 in shape:
        found = f"an array of shape {brief(shape)}"
        raise DataError(f"{file}: {key}: expected at least one value, found {found}")
    promised, size = math.prod(shape) * dtype.itemsize, entry_size - stream.tell()
    if min(shape, default=0) < 0 or promised != size or size > file.stat().st_size * DEFLATE_RATIO:
        promise = f"{promised} bytes for {brief(shape)} of {dtype}"
        raise DataError(f"{file}: {key}: expected {promise}, found {size}")
    check_memory(file, size)


def _split(file: Path, found: dict[str, np.ndarray], key: str, target: str, classify: bool) -> Split:
    inputs = _inputs(f"{file}: {key}", found[key])
    targets = (_labels if classify else _values)(f"{file}: {target}", found[target])
    if len(targets) != len(inputs):
        raise DataError(
            f"{file}: {target}: expected {len(inputs)} targets as there are {key}, found {len(targets)}"
        )
    return Split(inputs, targets)


def _inputs(where: str, array: np.ndarray) -> np.ndarray:
    if not 2 <= array.ndim <= 4:
        raise DataError(f"{where}: expected the shape (n, d), (n, h, w) or (n, h, w, c), found {array.shape}")
    images = array[..., None] if array.ndim == 3 else array
    return images if images.dtype == np.uint8 and images.ndim == 4 else _float32(where, images)


def _labels(where: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "iub":
        found = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"{where}: expected whole numbers of shape (n,) as class indices, found {found}")
    wrong = (array < 0) | (array >= MOST_CLASSES)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}: row {row}: expected an index below {MOST_CLASSES}, found {array[row]}")
    return array.astype(np.int32)


def _values(where: str, array: np.ndarray) -> np.ndarray:
    if array.ndim not in (1, 2):
        raise DataError(f"{where}: expected values of shape (n,) or (n, outputs), found {array.shape}")
    return _float32(where, array.reshape(len(array), -1))


def _float32(where: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise DataError(f"{where}: row {place[0]}: expected finite numbers, found {array[place]}")
    return values
