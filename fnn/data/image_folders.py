"""Pictures on disk, a folder for each class or a table of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fnn.data.dataset import Dataset, Split
from fnn.data.files import FilePath, check_memory, expand
from fnn.data.on_disk import OnDisk
from fnn.data.picture_files import Found, PictureFiles, in_folders, in_table
from fnn.data.pictures import MOST_PIXELS, read_picture
from fnn.data.preprocessing import Preprocessing
from fnn.machine import device_memory
from fnn.registry import register

SHARE = 4
"""A set that takes more than one part in so many of the memory stays on disk, unless it is told otherwise."""


@register(group="source")
def image_folder(
    path: FilePath,
    size: int | tuple[int, int] = 224,
    channels: Literal[1, 3] = 3,
    resize: Literal["crop", "stretch"] = "crop",
    stream: bool | None = None,
) -> Dataset:
    """Pictures of your own, a folder for each class, or a table that says the class of each.

    A folder holds ``train/<class>/*.jpg`` and, if there are such parts, ``validation`` (or ``val``) and
    ``test`` of the same form; or ``<class>/*.jpg`` alone, and all are the training part. A table ends in
    ``.csv`` and has the columns ``path`` (relative to the table), ``label`` and, if there are parts,
    ``split`` (``train``, ``validation`` or ``val``, ``test``). The classes are the training part's, in the
    order of their names as text.

    A set of up to a quarter of the memory is decoded once and held as bytes. A larger one stays on disk:
    pictures are decoded on the way, ahead of the step, in the same order, and 1,000 of them, the same ones
    each time, are what its normalisation is measured on.

    Args:
        path: The folder, or the table.
        size: What pictures are scaled to, in pixels: a side, or height and width.
        channels: 3 for red, green and blue, 1 for grey.
        resize: ``crop`` scales the short side to ``size`` (to the longer of the two), and cuts out the
            centre; ``stretch`` scales the whole picture, whatever its shape.
        stream: Whether the set stays on disk; by default where it is larger than a quarter of the memory.

    Returns:
        Images ``(n, h, w, channels)`` of bytes.

    Raises:
        ValueError: An argument is outside its range.
        DataError: There are no pictures, a class is empty or unknown, or a picture cannot be read: at once,
            or where the set stays on disk, when its turn comes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from fnn.data import image_folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         (Path(folder) / name).mkdir()
        ...         Image.new("RGB", (40, 30)).save(Path(folder) / name / "1.png")
        ...     data = image_folder(folder, size=24)
        >>> data.train.inputs.shape, data.classes
        ((2, 24, 24, 3), ('cat', 'dog'))
    """
    height, width = (size, size) if isinstance(size, int) else size
    if resize not in ("crop", "stretch"):
        raise ValueError(f"image_folder: expected resize to be crop or stretch, got {resize!r}")
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"image_folder: expected a size from 1 to {MOST_PIXELS:,} pixels, got {size}")
    longer = max(height, width)
    preparing = Preprocessing((height, width), channels, short_side=longer if resize == "crop" else None)

    def read(file: str) -> np.ndarray:
        return preparing.prepare(read_picture(file, channels, least=longer))

    place = expand(path)
    is_table = place.suffix.lower() == ".csv" and not os.path.isdir(place)
    found = in_table(place) if is_table else in_folders(place)
    return read_dataset(place, found, read, (height, width, channels), stream, preparing)


def read_dataset(
    place: Path,
    found: Found,
    read: Callable[[str], np.ndarray],
    example: tuple[int, ...],
    stream: bool | None = None,
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """A data set from picture files, in memory or on disk.

    Args:
        place: Where they are, for the message.
        found: The classes, and the files of each part.
        read: ``file -> bytes`` of the shape ``example``.
        example: The shape of one.
        stream: Whether the set stays on disk; None: where it is larger than a quarter of the memory.
        preprocessing: What ``read`` does.

    Raises:
        DataError: It is larger than the memory and is not to stay on disk, or a picture cannot be read.
    """
    classes, parts = found
    size = math.prod(example) * sum(len(part.files) for part in parts.values())
    if stream is None:
        stream = size > device_memory() // SHARE
    if not stream:
        check_memory(place, size)
    splits: dict[str, Any] = {name: _split(part, read, example, stream) for name, part in parts.items()}
    return Dataset(**splits, classes=classes, preprocessing=preprocessing)


def _split(
    part: PictureFiles, read: Callable[[str], np.ndarray], example: tuple[int, ...], stream: bool
) -> Split:
    def read_one(i: int) -> np.ndarray:
        return read(part.files[i])

    inputs = OnDisk(read_one, np.arange(len(part.files)), example, np.dtype(np.uint8))
    return Split(inputs if stream else inputs.load(), part.targets)
