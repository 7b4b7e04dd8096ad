"""fnn.commands.picture_output: what is read back, and that a file is there whole or not at all."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from fnn.commands.output import OutputError
from fnn.commands.picture_output import FORMATS, check_size, format_of, write_picture

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (16, 24, 4), np.uint8)
ROWS, COLUMNS = np.mgrid[:64, :96]
SMOOTH = np.dstack([4 * ROWS, 2 * COLUMNS, 255 - 2 * ROWS - COLUMNS]).astype(np.uint8)
LOSSLESS = [ending for ending in FORMATS if ending not in (".jpg", ".jpeg", ".webp")]


def of_mode(mode):
    return Image.fromarray(PIXELS).convert(mode)


@pytest.mark.parametrize("ending", LOSSLESS)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_byte_is_read_back(tmp_path, ending, mode):
    file = tmp_path / f"a{ending.upper()}"
    if mode.endswith("A") and not format_of(file).alpha:
        pytest.skip("it has no alpha")
    write_picture(file, of_mode(mode))
    with Image.open(file) as found:
        assert found.format == format_of(file).name
        assert found.mode == mode
        assert found.tobytes() == of_mode(mode).tobytes()


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_what_is_lost_is_little(tmp_path, ending):
    file = tmp_path / f"a{ending}"
    write_picture(file, Image.fromarray(SMOOTH))
    with Image.open(file) as found:
        difference = np.abs(np.asarray(found).astype(int) - SMOOTH)
        assert difference.mean() < 1
        if found.format == "JPEG":
            assert [component[1:3] for component in found.layer] == [(1, 1)] * 3, "4:4:4"


def test_webp_keeps_the_colours_of_what_is_transparent(tmp_path):
    clear = np.dstack([SMOOTH, np.zeros(SMOOTH.shape[:2], np.uint8)])
    write_picture(tmp_path / "a.webp", Image.fromarray(clear))
    with Image.open(tmp_path / "a.webp") as found:
        pixels = np.asarray(found).astype(int)
    assert (pixels[..., 3] == 0).all()
    assert np.abs(pixels[..., :3] - SMOOTH).mean() < 1


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_profile_and_exif_are_in_the_file(tmp_path, ending):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271] = "a camera"
    write_picture(tmp_path / f"a{ending}", of_mode("RGB"), exif=exif.tobytes(), icc_profile=profile)
    with Image.open(tmp_path / f"a{ending}") as found:
        assert found.info["icc_profile"] == profile
        assert found.getexif()[271] == "a camera"


def test_exif_that_a_jpeg_cannot_hold_is_left_out(tmp_path):
    exif = Image.Exif()
    exif[270] = 70_000 * "x"
    for ending in (".jpg", ".png"):
        write_picture(tmp_path / f"a{ending}", of_mode("RGB"), exif=exif.tobytes())
    with Image.open(tmp_path / "a.jpg") as jpeg, Image.open(tmp_path / "a.png") as png:
        assert (len(jpeg.getexif()), len(png.getexif())) == (0, 1)


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt"])
def test_an_ending_that_is_not_written_is_told_with_those_that_are(tmp_path, name):
    with pytest.raises(OutputError, match=r"expected a name that ends in \.png, \.jpg, .*, got (no|\.)"):
        format_of(tmp_path / name)


@pytest.mark.parametrize(("name", "most"), [("a.jpg", 65_500), ("a.webp", 16_383)])
def test_what_is_too_large_for_its_format_is_told_and_what_is_not_is_written(tmp_path, name, most):
    check_size(tmp_path / name, most, 1)
    write_picture(tmp_path / name, Image.new("L", (most, 1)))
    with Image.open(tmp_path / name) as found:
        assert found.size == (most, 1)
    with pytest.raises(OutputError, match=f"at most {most:,} pixels a side in .*, got 1 × {most + 1}"):
        check_size(tmp_path / name, 1, most + 1)
    with pytest.raises(OutputError, match="cannot be written: "):
        write_picture(tmp_path / name, Image.new("L", (most + 100, 1)))


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch, there, trouble, told):
    def fail(*arguments):
        raise trouble

    file = tmp_path / "a.png"
    if there:
        file.write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(told) as caught:
        write_picture(file, of_mode("RGB"))
    if told is OutputError:
        assert str(caught.value) == f"{file}: cannot be written: No space left on device"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"before")] * there
