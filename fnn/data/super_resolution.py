"""Pairs of pictures: small ones, and the large ones that they were made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from fnn.data.dataset import DataError, Dataset, Split
from fnn.data.files import FilePath, candidates, check_memory, data_roots, expand
from fnn.data.picture_files import pictures_in
from fnn.data.pictures import read_picture
from fnn.luma import luma
from fnn.registry import register

SCALES = range(2, 9)
TRAIN, TEST = "sr/t91", "sr/set5"
PUBLIC = {TRAIN: "T91", TEST: "Set5"}
"""What the public calls them."""
TILE = 120
"""Pixels of a tile's side where none are asked for, or a few less, so that the scale divides them."""


@register(group="source")
def super_resolution(
    path: FilePath | None = None,
    test: FilePath | None = None,
    scale: int = 3,
    channels: Literal[1, 3] = 1,
    tile: int | None = None,
    stride: int | None = None,
    validation: float = 0.1,
) -> Dataset:
    """Pictures shrunk, to learn how to enlarge them: inputs are small, targets are the pictures themselves.

    Each picture is cropped to a multiple of the scale and shrunk by the antialiased bicubic kernel, and both
    are rounded to bytes. The training part are square tiles of the pictures, which overlap; pictures smaller
    than a tile are left out. The other parts are whole pictures, one example each.

    Args:
        path: The folder of pictures to train on; by default the 91 of Yang et al., ``sr/t91``.
        test: The folder of pictures to test on; by default Set5, ``sr/set5``, where ``path`` is not given.
        scale: How many times larger the targets are, from 2 to 8.
        channels: 1 for luma, as papers measure it: Y of BT.601, 16 to 235. 3 for red, green and blue.
        tile: Height and width of a training target, in its pixels, a multiple of the scale; by default 120,
            or the multiple below it.
        stride: Pixels from one tile to the next, a multiple of the scale; by default about a quarter of a
            tile.
        validation: The share of the training pictures that validate, whole; which ones is always the same.

    Returns:
        Inputs ``(n, tile / scale, tile / scale, channels)`` and targets ``(n, tile, tile, channels)`` of
        bytes.

    Raises:
        ValueError: An argument is outside its range.
        DataError: A folder is not there, a picture cannot be read, none is as large as a tile, or the tiles
            take more memory than there is.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from fnn.data import super_resolution
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (160, 120)).save(Path(folder) / "1.png")
        ...     data = super_resolution(folder, scale=2, validation=0)
        >>> data.train.inputs.shape, data.train.targets.shape
        ((3, 60, 60, 1), (3, 120, 120, 1))

    Source: Yang, Wright, Huang and Ma, "Image super-resolution via sparse representation" (2010), and
    Bevilacqua et al., "Low-complexity single-image super-resolution" (2012), whose pictures they are.
    """
    _check(scale, channels, validation)
    tile, stride = _cut(scale, tile, stride)
    folder, tested = _folder("path", path, TRAIN), path is None or test is not None
    pictures = _read(folder, channels, scale)
    held = _held(list(pictures), validation)
    tiles = [
        pair
        for name, picture in pictures.items()
        if name not in held
        for pair in _tiles(picture, shrink(picture, scale), scale, tile, stride)
    ]
    if not tiles:
        raise DataError(f"{folder}: expected a picture of {tile} x {tile} pixels or more (tile), found none")
    check_memory(folder, len(tiles) * sum(side.nbytes for side in tiles[0]))  # they overlap
    small, large = (np.stack(side) for side in zip(*tiles, strict=True))
    return Dataset(
        Split(small, large),
        _whole(_read(_folder("test", test, TEST), channels, scale), scale) if tested else None,
        _whole({name: pictures[name] for name in held}, scale) if held else None,
        scale=scale,
    )


def shrink(picture: np.ndarray, scale: int) -> np.ndarray:
    """A picture ``(h, w, c)`` of bytes made smaller by the antialiased bicubic kernel, as bytes.

    With it the bicubic enlargement of Set5 has the PSNR that papers print: 33.66, 30.39 and 28.42 dB for the
    scales 2, 3 and 4.

    Args:
        picture: Its sides are multiples of the scale.
        scale: How many times smaller it becomes.

    Example:
        >>> import numpy as np
        >>> from fnn.data.super_resolution import shrink
        >>> shrink(np.full((6, 9, 1), 7, np.uint8), 3).shape
        (2, 3, 1)
    """
    size = (picture.shape[1] // scale, picture.shape[0] // scale)
    planes = [_resized(picture[..., c], size) for c in range(picture.shape[2])]
    small: np.ndarray = np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)
    return small


def _resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A plane at another width and height, in float32; Pillow's kernel is antialiased where it shrinks."""
    from PIL import Image

    image = Image.fromarray(plane.astype(np.float32))
    resized: np.ndarray = np.array(image.resize(size, Image.Resampling.BICUBIC))
    return resized


def _check(scale: int, channels: int, validation: float) -> None:
    if scale not in SCALES:
        raise ValueError(f"super_resolution: expected a scale from 2 to 8, got {scale}")
    if channels not in (1, 3):
        raise ValueError(f"super_resolution: expected 1 or 3 channels, got {channels}")
    if not 0 <= validation < 1:
        raise ValueError(f"super_resolution: expected validation from 0 to below 1, got {validation}")


def _cut(scale: int, tile: int | None, stride: int | None) -> tuple[int, int]:
    """Tile and stride, where they are given or not."""
    tile = TILE // scale * scale if tile is None else tile
    stride = max(scale, tile // 4 // scale * scale) if stride is None else stride
    for name, value in (("tile", tile), ("stride", stride)):
        if value < scale or value % scale:
            raise ValueError(
                f"super_resolution: expected a {name} that is a multiple of {scale}, got {value}"
            )
    return tile, stride


def _folder(argument: str, path: FilePath | None, name: str) -> Path:
    """A folder that is named, as it is or in a data root."""
    places = candidates(None, [name]) if path is None else [expand(path), *(r / path for r in data_roots())]
    for place in places:
        if os.path.isdir(place):
            return place
    looked = "; ".join(f"{place.absolute()} is no folder" for place in dict.fromkeys(places))
    get = f"set {argument} to one"
    if path is None:
        get = f"get {PUBLIC[name]}, then set FNN_DATA to the folder of sr/, or {argument} to its own"
    purpose = "train" if argument == "path" else "test"
    raise DataError(f"super_resolution: expected a folder of pictures to {purpose} on; {looked}; {get}")


def _read(folder: Path, channels: int, scale: int) -> dict[str, np.ndarray]:
    """The pictures of a folder as bytes, each cropped to a multiple of the scale, by their names in it."""
    files = pictures_in(folder)
    if not files:
        raise DataError(f"{folder}: expected pictures (.png, .bmp, .jpg, ...), found none")
    pictures: dict[str, np.ndarray] = {}
    taken = 0
    for file in files:
        picture = read_picture(file, 3)
        height, width = (side - side % scale for side in picture.shape[:2])
        if not (height and width):
            found = "{} x {}".format(*picture.shape[:2])
            raise DataError(f"{file}: expected {scale} x {scale} pixels or more, found {found}")
        picture = picture[:height, :width]
        if channels == 1:
            picture = np.rint(luma(picture.astype(np.float64))).astype(np.uint8)
        taken += picture.nbytes
        check_memory(folder, taken)
        pictures[os.path.relpath(file, folder)] = picture
    return pictures


def _held(names: list[str], share: float) -> list[str]:
    """Which pictures validate: at least one, if a share is to, and the same ones each time."""
    count = min(len(names) - 1, max(1, round(share * len(names)))) if share else 0
    return [names[i] for i in sorted(np.random.default_rng(0).permutation(len(names))[:count])]


def _tiles(
    large: np.ndarray, small: np.ndarray, scale: int, tile: int, stride: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Squares of a pair at equal distances, and those at its right and its lower border."""
    for top in _starts(large.shape[0], tile, stride):
        for left in _starts(large.shape[1], tile, stride):
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            of_small = (slice(s.start // scale, s.stop // scale) for s in (rows, columns))
            yield small[tuple(of_small)], large[rows, columns]


def _starts(length: int, tile: int, stride: int) -> list[int]:
    return sorted({*range(0, length - tile + 1, stride), length - tile}) if length >= tile else []


def _whole(pictures: dict[str, np.ndarray], scale: int) -> tuple[Split, ...]:
    return tuple(
        Split(shrink(picture, scale)[None], picture[None], (name,)) for name, picture in pictures.items()
    )
