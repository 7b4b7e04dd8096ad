"""MNIST and every other set in its format, IDX: http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from fnn.data.dataset import DataError, Dataset, Split
from fnn.data.files import DEFLATE_RATIO, FilePath, candidates, check_memory, expand, how_to_get, locate
from fnn.registry import register

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DTYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
CHUNK = 1 << 20


@register(group="source")
def mnist(path: FilePath | None = None) -> Dataset:
    """The MNIST database of handwritten digits: 60,000 images to train on, 10,000 to test.

    Args:
        path: The folder of its four IDX files, gzipped or not; by default ``mnist`` in
            ``$FNN_DATA``, ``./data`` or the user's cache folder.

    Returns:
        Images ``(n, 28, 28, 1)`` of bytes, classes ``"0"`` to ``"9"``.

    Raises:
        DataError: A file is missing, damaged, or holds something else.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", Proc. IEEE 86 (1998).
    """
    get = how_to_get("the MNIST database of handwritten digits", "mnist", "fnn data get mnist")
    files = locate("mnist", FILES, candidates(path, ["mnist"]), get, ("", ".gz"))
    return _dataset(files, tuple("0123456789"))


@register(group="source")
def idx(path: FilePath) -> Dataset:
    """Any folder of IDX files under MNIST's four names: Fashion-MNIST, Kuzushiji-MNIST, your own.

    Args:
        path: The folder that holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
            ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, gzipped or not.

    Returns:
        Images ``(n, h, w, 1)`` of bytes; the classes are named by their index.

    Raises:
        DataError: A file is missing, damaged, or holds something else.
    """
    get = "set data.path to the folder that holds them, of Fashion-MNIST or Kuzushiji-MNIST for example"
    return _dataset(locate("idx", FILES, [expand(path)], get, ("", ".gz")), None)


def _dataset(files: list[Path], classes: tuple[str, ...] | None) -> Dataset:
    train_images, train_labels, test_images, test_labels = files
    train, test = _split(train_images, train_labels, classes), _split(test_images, test_labels, classes)
    if test.inputs.shape[1:] != train.inputs.shape[1:]:
        wanted, found = train.inputs.shape[1:3], test.inputs.shape[1:3]
        raise DataError(f"{test_images}: expected {wanted} pixels as in {train_images.name}, found {found}")
    if classes is None:
        highest = max(int(part.targets.max()) for part in (train, test) if part.targets is not None)
        classes = tuple(str(index) for index in range(highest + 1))
    return Dataset(train, test, classes=classes)


def _split(image_file: Path, label_file: Path, classes: tuple[str, ...] | None) -> Split:
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(labels) != len(images):
        wanted = f"{len(images)} labels, one for each image of {image_file.name}"
        raise DataError(f"{label_file}: expected {wanted}, found {len(labels)}")
    if classes is not None and labels.max() >= len(classes):
        row = int(np.argmax(labels >= len(classes)))
        raise DataError(
            f"{label_file}: row {row}: expected a label below {len(classes)}, found {labels[row]}"
        )
    return Split(images[..., None], labels.astype(np.int32))


def read_idx(file: Path, rank: int) -> np.ndarray:
    """The array of bytes in one IDX file, gzipped or not, which its first bytes tell.

    No more is read than the header promises, and nothing where the file cannot hold that.

    Args:
        file: The file.
        rank: How many dimensions the array must have.

    Raises:
        DataError: The file is not IDX, of another dtype or rank, empty, cut short or too long.
    """
    try:
        with file.open("rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            stream: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if zipped else raw
            header = stream.read(4 + 4 * rank)
            shape = _shape(file, header, rank)
            promised = math.prod(shape)
            if len(header) + promised > size * (DEFLATE_RATIO if zipped else 1):
                kind = "gzipped file" if zipped else "file"
                raise DataError(
                    f"{file}: expected {promised} bytes for {shape}, found a {kind} of {size} bytes"
                )
            check_memory(file, promised)
            values = _read(stream, promised + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: expected a whole IDX file, cannot read it: {error}") from error
    if len(values) != promised:
        found = "more" if len(values) > promised else str(len(values))
        raise DataError(f"{file}: expected {promised} bytes for {shape}, found {found}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _shape(file: Path, header: bytes, rank: int) -> tuple[int, ...]:
    if len(header) < 4 or header[:2] != b"\0\0":
        start = f"bytes {header[:4].hex(' ')}" if header else "an empty file"
        raise DataError(f"{file}: expected an IDX file, which starts with 00 00 08 {rank:02x}, found {start}")
    if header[2] != 0x08:
        found = DTYPES.get(header[2], "an unknown dtype")
        raise DataError(f"{file}: expected unsigned bytes (dtype 0x08), found {found} (0x{header[2]:02x})")
    if header[3] != rank:
        raise DataError(f"{file}: expected {rank} dimension{'s' * (rank > 1)}, found {header[3]}")
    if len(header) < 4 + 4 * rank:
        raise DataError(f"{file}: expected an IDX header of {4 + 4 * rank} bytes, found {len(header)}")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    if 0 in shape:
        raise DataError(f"{file}: expected at least one value in every dimension, found the shape {shape}")
    return shape


def _read(stream: IO[bytes], most: int) -> bytearray:
    values = bytearray()
    while len(values) < most and (chunk := stream.read(min(CHUNK, most - len(values)))):
        values += chunk
    return values
