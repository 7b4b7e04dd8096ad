"""Pictures from files, as arrays of bytes: whatever the format, the mode, the depth and the orientation."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn.data.dataset import DataError, brief
from fnn.data.files import FilePath

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),  # from here on Pillow imports what it needs for it
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "TGA": (".tga",),
}
"""What is read, by Pillow's names, with the endings of such files. EPS, which is a program, is not."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""The endings, in lower case, of files that are taken for pictures in a folder."""
MOST_PIXELS = 89_478_485
"""A picture of more is refused before it is decoded: a quarter of a GiB, Pillow's own bound for a warning."""
_GAP = 4  # scaled down from four times the size needed, a value is off by 2 of 255 at most; from twice, by 27
_GREY, _COLOUR = 1, 3
_DESCRIBED = (270, 271, 272, 305, 306, 315, 33432)
"""EXIF's tags of a picture's title, camera, software, time, author and copyright."""
_OF_THE_FILE = (37500, 40962, 40963, 40965)
"""EXIF's tags of a camera's own notes, of width and height, and of what lies elsewhere in the file."""
_opening = threading.Lock()


def read_picture(path: FilePath, channels: int, *, least: int | None = None) -> np.ndarray:
    """A picture file's pixels ``(height, width, channels)``, bytes from 0 to 255.

    The file's content says what it is, not its ending. A picture is turned upright as its EXIF orientation
    says; of an animation it is the first frame; what is transparent lies on white. Grey is the luma of
    ITU-R 601-2, ``(299 r + 587 g + 114 b) / 1000``. Of 16 bits the upper 8 are taken, in grey as in colour.
    Floating-point numbers go from 0 to 1, or else from 0 to 255. The numbers are those in the file: an ICC
    profile is not applied, as it is not where the usual networks were trained.

    Args:
        path: The file.
        channels: 1 for grey, 3 for red, green and blue.
        least: Pixels that each side is needed with, at least. A JPEG of eight times as many is decoded
            at 1/2, 1/4 or 1/8 of its size, four times as many, which takes half of the time.

    Raises:
        ValueError: There is no such number of channels.
        DataError: The file is missing, damaged, cut short, too large, or no picture that is read.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("RGBA", (4, 2), (255, 0, 0, 128)).save(file)
        ...     read_picture(file.name, 3)[0, 0].tolist()
        [255, 127, 127]
    """
    if channels not in (_GREY, _COLOUR):
        raise ValueError(f"read_picture: expected 1 or 3 channels, got {channels}")
    with _decoded(path, least) as (_, picture):
        return _pixels(picture, channels)


def load_picture(path: FilePath) -> Picture:
    """A picture file as a picture of Pillow's, in one of four modes: L, LA, RGB and RGBA.

    It is what `read_picture` reads, but grey stays grey, colour colour, and what is transparent transparent,
    with its colours as they are stored. Its ``info`` holds what may be saved with a picture that is made of
    it, ``icc_profile``, if that is one of grey or of red, green and blue as the picture is, and ``exif``,
    without orientation, size and preview; and ``frames``, how many pictures the file holds, if several.

    Raises:
        DataError: As `read_picture`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("RGBA", (4, 2), (255, 0, 0, 128)).save(file)
        ...     load_picture(file.name).getpixel((0, 0))
        (255, 0, 0, 128)
    """
    with _decoded(path) as (stored, picture):
        grey = picture.mode in ("1", "L", "LA", "La")
        mode = ("L" if grey else "RGB") + ("A" if picture.has_transparency_data else "")
        plain = picture if picture.mode == mode else picture.convert(mode)
        exif, profile = _exif(stored), stored.info.get("icc_profile")
        plain.info = {"exif": exif} if exif else {}
        if profile and profile[16:20] == (b"GRAY" if grey else b"RGB "):  # where it says what it is of
            plain.info["icc_profile"] = profile
        frames = getattr(stored, "n_frames", 1)
        if frames > 1 and stored.format != "MPO":  # a JPEG with a preview of itself
            plain.info["frames"] = frames
        return plain


def on_white(picture: Picture) -> Picture:
    """A picture with an alpha channel, as it looks on white paper: in RGB, or grey if it is.

    Example:
        >>> from PIL import Image
        >>> on_white(Image.new("LA", (1, 1), (0, 128))).getpixel((0, 0))
        127
    """
    from PIL import Image

    layer = picture.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return flat.convert("L" if picture.mode == "LA" else "RGB")


@contextmanager
def _decoded(path: FilePath, least: int | None = None) -> Iterator[tuple[Picture, Picture]]:
    """A whole picture, as it is stored, and upright and of 8 bits. Errors are told with the file's name."""
    file = Path(path)
    if not os.path.isfile(file):  # to open a pipe is to wait for whoever writes to it
        raise DataError(f"{file}: expected a picture, found {'no file' if file.exists() else 'none'}")
    try:
        with _opened(file) as picture:
            if least is not None:  # of no effect on anything but a JPEG
                picture.draft(None, (_GAP * least, _GAP * least))
            picture.load()
            upright = _upright(picture)
            deep = upright.mode == "F" or upright.mode.startswith("I")
            yield picture, _eight_bits(upright) if deep else upright
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except Exception as error:  # a damaged picture raises errors of a dozen kinds in Pillow
        reason = brief(error) or type(error).__name__
        raise DataError(f"{file}: expected a whole picture, cannot read it: {reason}") from error


def _opened(file: Path) -> Picture:
    """The file's header, read; its size has been checked."""
    from PIL import Image, UnidentifiedImageError

    with _opening:  # Pillow's own bound is one for the whole process, and at first no more than a warning
        pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=tuple(FORMATS))
        except UnidentifiedImageError:
            raise DataError(f"expected a picture ({', '.join(FORMATS)}), found {_content(file)}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = pillows
    if (found := picture.width * picture.height) > MOST_PIXELS:
        size = f"{picture.width} × {picture.height} = {found:,}"
        picture.close()
        raise DataError(f"expected a picture of at most {MOST_PIXELS:,} pixels, found {size}")
    return picture


def _content(file: Path) -> str:
    """What a file holds that is no picture, by its first bytes."""
    with open(file, "rb") as stream:
        start = stream.read(8)
    return f"bytes {start.hex(' ')}" if start else "an empty file"


def _upright(picture: Picture) -> Picture:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # EXIF that is damaged, in as many ways: the picture is whole all the same
        return picture


def _exif(picture: Picture) -> bytes:
    """What EXIF says that stays true of a picture turned and scaled; nothing, where it is damaged."""
    from PIL import ExifTags, Image

    try:
        found, kept = picture.getexif(), Image.Exif()
        for tag in _DESCRIBED:
            if tag in found:
                kept[tag] = found[tag]
        for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            inner = {key: value for key, value in found.get_ifd(tag).items() if key not in _OF_THE_FILE}
            if inner:
                kept[tag] = inner
        return kept.tobytes() if len(kept) else b""
    except Exception:
        return b""


def _pixels(picture: Picture, channels: int) -> np.ndarray:
    if picture.has_transparency_data:
        picture = on_white(picture)
    wanted = "L" if channels == _GREY else "RGB"
    pixels = np.asarray(picture if picture.mode == wanted else picture.convert(wanted))
    return pixels.reshape(*pixels.shape[:2], channels)


def _eight_bits(picture: Picture) -> Picture:
    """A grey picture of whole numbers from 0 to 65535, or of floating-point numbers, in bytes."""
    from PIL import Image

    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # nor NaN
            raise DataError(f"expected numbers from 0 to 1 or from 0 to 255, found {low:g} to {high:g}")
        return Image.fromarray(np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8))
    if low < 0 or high > 65535:
        raise DataError(f"expected whole numbers from 0 to 65535, found {low} to {high}")
    grey = (values >> 8).astype(np.uint8)
    clear: Any = picture.info.get("transparency")  # the one value that is
    if clear is None:
        return Image.fromarray(grey)
    return Image.fromarray(np.dstack([grey, np.where(values == clear, np.uint8(0), np.uint8(255))]))
