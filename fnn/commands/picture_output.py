"""Pictures that a command writes: in the format of the file's ending, whole or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fnn.commands.output import OutputError, write_output

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


class Format(NamedTuple):
    """A format that is written.

    Attributes:
        name: Pillow's.
        alpha: Whether it holds transparency.
        most: Pixels of a side.
        options: Pillow's for saving.
    """

    name: str
    alpha: bool
    most: int
    options: dict[str, Any] = {}  # noqa: RUF012


_JPEG = Format("JPEG", False, 65_500, {"quality": 95, "subsampling": "4:4:4"})
_TIFF = Format("TIFF", True, 2**31 - 1, {"compression": "tiff_adobe_deflate"})
FORMATS = {
    ".png": Format(
        "PNG", True, 2**31 - 1, {"compress_level": 3}
    ),  # 8 % more bytes than 6, a third of its time
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WEBP", True, 16_383, {"quality": 95, "exact": True}),  # colours under alpha 0 stay
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Format("BMP", False, 2**31 - 1),
    ".ppm": Format("PPM", False, 2**31 - 1),
}
"""By the ending of a file's name, in lower case."""
_MOST_EXIF = 65_533
"""Bytes of EXIF that a JPEG holds."""


def format_of(file: Path) -> Format:
    """The format of a file that is to be written.

    Raises:
        OutputError: Its ending is of none.

    Example:
        >>> format_of(Path("a.JPG")).name
        'JPEG'
    """
    if file.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise OutputError(f"{file}: expected a name that ends in {known}, got {file.suffix or 'no ending'}")
    return FORMATS[file.suffix.lower()]


def check_size(file: Path, width: int, height: int) -> None:
    """Refuse a picture that its format cannot hold, before there is one.

    Raises:
        OutputError: It cannot.
    """
    form = format_of(file)
    if max(width, height) > form.most:
        most = f"at most {form.most:,} pixels a side in {form.name}"
        raise OutputError(f"{file}: expected {most}, got {width} × {height}")


def write_picture(file: Path, picture: Picture, **facts: bytes) -> None:
    """Write a picture, in the format of the file's ending.

    Args:
        file: Whose name has an ending that is known.
        picture: In the mode L, LA, RGB or RGBA; without alpha where the format has none.
        facts: ``exif`` and ``icc_profile``, as `fnn.data.pictures.load_picture` leaves them.

    Raises:
        OutputError: It cannot be written: the disk is full, or the file may not be.
    """
    form = format_of(file)
    if form.name == "JPEG" and len(facts.get("exif", b"")) > _MOST_EXIF:
        del facts["exif"]
    stream = BytesIO()  # an encoder that meets a full disk says less, or nothing
    try:
        picture.save(stream, form.name, **form.options, **facts)
    except (ValueError, OSError) as error:
        raise OutputError(f"{file}: cannot be written: {error}") from None
    write_output({file: stream.getvalue()})
