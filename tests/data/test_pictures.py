"""Pictures from files: every mode, depth and orientation against arrays, and whatever is no whole picture."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from fnn.data import DataError, Preprocessing
from fnn.data.pictures import FORMATS, MOST_PIXELS, SUFFIXES, load_picture, read_picture

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), np.uint16)
ROWS, COLUMNS = np.mgrid[:240, :320]
SMOOTH = np.stack([(ROWS + COLUMNS) * 255 // 558, COLUMNS * 255 // 319, 0 * ROWS + 90], -1).astype(np.uint8)


@pytest.fixture
def saved(tmp_path):
    """Save an array or a picture, and return the file."""

    def save(picture, name="picture.png", **options):
        picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def luma(colour):
    """ITU-R 601-2, as its definition says, rounded."""
    return (colour @ np.array([299, 587, 114])) / 1000


def on_white(colour, alpha):
    """The definition of `over`, on a background of 255."""
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def png(values, colour_type, *chunks):
    """A PNG of 16 bits, as its specification lays it out: Pillow writes none in colour."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.tga", "A.PNG"])
def test_colour_is_read_to_the_byte(saved, name):
    pixels = read_picture(saved(COLOUR, name), 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, COLOUR)


@pytest.mark.parametrize("name", ["a.webp", "a.jp2"])
def test_lossless_colour_is_read_to_the_byte(saved, name):
    lossless = {"lossless": True} if name == "a.webp" else {"irreversible": False}
    np.testing.assert_array_equal(read_picture(saved(SMOOTH, name, **lossless), 3), SMOOTH)


@pytest.mark.parametrize("name", ["a.jpg", "a.avif", "a.webp"])
def test_lossy_colour_is_near(saved, name):
    pixels = read_picture(saved(SMOOTH, name, quality=95), 3)
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 2


def test_grey_becomes_three_equal_channels_and_colour_its_luma(saved):
    np.testing.assert_array_equal(read_picture(saved(GREY), 3), np.repeat(GREY[..., None], 3, -1))
    np.testing.assert_array_equal(read_picture(saved(GREY), 1), GREY[..., None])
    pixels = read_picture(saved(COLOUR), 1)
    assert pixels.shape == (5, 7, 1)
    assert np.abs(pixels[..., 0] - luma(COLOUR)).max() <= 0.51


def test_black_and_white_is_0_and_255(saved):
    pixels = read_picture(saved(Image.fromarray(GREY > 127)), 1)[..., 0]
    np.testing.assert_array_equal(pixels, np.where(GREY > 127, 255, 0))


def test_what_is_transparent_lies_on_white(saved):
    rgba = np.dstack([COLOUR, GREY])
    assert np.abs(read_picture(saved(rgba), 3) - on_white(COLOUR, GREY)).max() <= 1
    la = np.dstack([GREY, GREY[::-1]])
    expected = on_white(GREY[..., None], GREY[::-1])
    assert np.abs(read_picture(saved(la), 1) - expected).max() <= 1
    clear = np.dstack([np.zeros_like(COLOUR), np.zeros_like(GREY)])
    assert (read_picture(saved(clear, "clear.webp", lossless=True, exact=True), 3) == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_palette_is_looked_up_and_its_transparent_entry_is_white(saved, name):
    palette = Image.fromarray(GREY % 4).convert("P")
    colours = RNG.integers(0, 250, (256, 3), np.uint8)
    palette.putpalette(colours.tobytes())
    np.testing.assert_array_equal(read_picture(saved(palette, name), 3), colours[GREY % 4])
    pixels = read_picture(saved(palette, name, transparency=2), 3)
    np.testing.assert_array_equal(pixels, np.where((GREY % 4 == 2)[..., None], 255, colours[GREY % 4]))


def test_a_palette_with_an_alpha_for_each_entry(saved):
    palette = Image.fromarray(GREY % 4).convert("P")
    colours = RNG.integers(0, 250, (256, 3), np.uint8)
    palette.putpalette(colours.tobytes())
    alphas = np.array([0, 100, 200, 255], np.uint8)
    pixels = read_picture(saved(palette, transparency=alphas.tobytes()), 3)
    assert np.abs(pixels - on_white(colours[GREY % 4], alphas[GREY % 4])).max() <= 1


def test_one_colour_may_stand_for_transparent(saved):
    file = saved(COLOUR, transparency=tuple(map(int, COLOUR[0, 0])))
    expected = np.where((COLOUR[0, 0] == COLOUR).all(-1, keepdims=True), 255, COLOUR)
    np.testing.assert_array_equal(read_picture(file, 3), expected)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_of_16_bits_in_grey_the_upper_8_are_taken(saved, name):
    picture = Image.fromarray(DEEP.astype(np.int32)) if name == "a.pgm" else DEEP
    np.testing.assert_array_equal(read_picture(saved(picture, name), 1)[..., 0], DEEP >> 8)


def test_of_16_bits_in_colour_the_upper_8_are_taken(tmp_path):
    deep = RNG.integers(0, 65536, (5, 7, 4))
    (tmp_path / "a.png").write_bytes(png(deep[..., :3], 2))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", 3), deep[..., :3] >> 8)
    (tmp_path / "b.png").write_bytes(png(deep, 6))
    expected = on_white(deep[..., :3] >> 8, deep[..., 3] >> 8)
    assert np.abs(read_picture(tmp_path / "b.png", 3) - expected).max() <= 1


def test_one_grey_of_16_bits_may_stand_for_transparent(tmp_path):
    clear = int(DEEP[0, 0])
    (tmp_path / "a.png").write_bytes(png(DEEP, 0, (b"tRNS", struct.pack(">H", clear))))
    pixels = read_picture(tmp_path / "a.png", 1)[..., 0]
    np.testing.assert_array_equal(pixels, np.where(clear == DEEP, 255, DEEP >> 8))


def test_floating_point_numbers_go_from_0_to_1_or_to_255(saved):
    share = RNG.random((5, 7)).astype(np.float32)
    np.testing.assert_array_equal(
        read_picture(saved(share, "a.tif"), 1)[..., 0], np.rint(share.astype(np.float64) * 255)
    )
    whole = GREY.astype(np.float32)
    np.testing.assert_array_equal(read_picture(saved(whole, "a.tif"), 3)[..., 2], GREY)


def test_cmyk_is_ink_also_where_adobe_stores_it_inverted(saved):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0], ink[..., 3] = 200, 30
    colour = np.broadcast_to(np.rint([55 * 225 / 255, 225, 225]), (16, 16, 3))
    for name in ("a.tif", "a.jpg"):
        picture = Image.frombytes("CMYK", (16, 16), ink.tobytes())
        file = saved(picture, name, **({"quality": 100} if name == "a.jpg" else {}))
        assert np.abs(read_picture(file, 3) - colour).max() <= 3
    assert b"Adobe" in file.read_bytes()[:1000]
    with Image.open(file) as picture:
        assert picture.mode == "CMYK"


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: a.transpose(1, 0, 2)[::-1]),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: a.transpose(1, 0, 2)[:, ::-1]),
    ],
)
def test_a_picture_is_turned_upright(saved, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(np.ascontiguousarray(stored(COLOUR)), exif=exif)
    np.testing.assert_array_equal(read_picture(file, 3), COLOUR)


def test_a_picture_with_damaged_exif_is_whole_all_the_same(saved):
    file = saved(COLOUR, exif=b"Exif\0\0" + b"no TIFF header, and not even one of the right length")
    np.testing.assert_array_equal(read_picture(file, 3), COLOUR)


@pytest.mark.parametrize("name", ["a.gif", "a.apng", "a.webp", "a.tif"])
def test_of_an_animation_it_is_the_first_frame(saved, name):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    options = {"format": "PNG"} if name == "a.apng" else {"lossless": True} if name == "a.webp" else {}
    file = saved(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert (read_picture(file, 3) == [255, 0, 0]).all()


def test_an_icc_profile_is_not_applied(saved):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    file = saved(COLOUR, icc_profile=profile)
    with Image.open(file) as picture:
        assert picture.info["icc_profile"] == profile
    np.testing.assert_array_equal(read_picture(file, 3), COLOUR)


# ---------------------------------------------------------------- large JPEGs


def test_a_large_jpeg_is_decoded_at_a_fraction_that_is_large_enough(saved):
    large = np.asarray(Image.fromarray(SMOOTH).resize((2560, 1920), Image.Resampling.BICUBIC))
    file = saved(large, "a.jpg", quality=95)
    assert read_picture(file, 3).shape == (1920, 2560, 3)
    sizes = {least: read_picture(file, 3, least=least).shape[:2] for least in (1920, 250, 240, 120, 60, 1)}
    half, quarter, eighth = ((1920 // n, 2560 // n) for n in (2, 4, 8))
    assert sizes == {1920: (1920, 2560), 250: (1920, 2560), 240: half, 120: quarter, 60: eighth, 1: eighth}
    preprocessing = Preprocessing((240, 240), short_side=240)
    whole, part = (preprocessing.prepare(read_picture(file, 3, least=least)) for least in (None, 240))
    assert np.abs(whole.astype(int) - part).max() <= 2


def test_a_fraction_is_turned_upright_too(saved):
    exif = Image.Exif()
    exif[0x0112] = 6
    large = np.asarray(Image.fromarray(SMOOTH).resize((640, 480)))
    assert read_picture(saved(large, "a.jpg", exif=exif), 3, least=60).shape == (320, 240, 3)


def test_only_a_jpeg_is_decoded_at_a_fraction(saved):
    np.testing.assert_array_equal(read_picture(saved(COLOUR), 3, least=1), COLOUR)


# ---------------------------------------------------------------- what is no whole picture


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm", "tga", "avif", "jp2"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_refused(saved, suffix, share):
    file = saved(RNG.integers(0, 256, (64, 64, 3), np.uint8), f"a.{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError) as caught:
        read_picture(file, 3)
    message = str(caught.value)
    assert message.startswith(f"{file}: expected a ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found an empty file"),
        (b"no picture at all", "found bytes 6e 6f 20 70 69 63 74 75"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "found bytes 25 21 50 53"),
        (b"GIF89a" + bytes(50), "found bytes 47 49 46"),
    ],
)
def test_what_is_no_picture_is_told_by_its_content(tmp_path, content, found):
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    with pytest.raises(DataError, match=found) as caught:
        read_picture(file, 3)
    assert str(caught.value).startswith(f"{file}: expected a ")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: expected a picture, found none"):
        read_picture(tmp_path / "none.png", 3)
    with pytest.raises(DataError, match=r"expected a picture, found no file"):
        read_picture(tmp_path, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"expected a picture, found no file"):
        read_picture(tmp_path / "a.png", 3)


def test_a_bomb_is_refused_before_it_goes_off_and_without_a_warning(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    content = bytearray(png(DEEP, 0))
    content[16:29] = header
    content[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "a.png").write_bytes(content)
    bound = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as told, pytest.raises(DataError) as caught:
        warnings.simplefilter("always")
        read_picture(tmp_path / "a.png", 3)
    assert str(caught.value).endswith(
        f"expected a picture of at most {MOST_PIXELS:,} pixels, found 60000 × 60000 = 3,600,000,000"
    )
    assert told == []
    assert bound == Image.MAX_IMAGE_PIXELS, "the bound of others is as it was"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2), -1, np.float32), "from 0 to 1 or from 0 to 255, found -1 to -1"),
        (np.array([[0, 256]], np.float32), "from 0 to 1 or from 0 to 255, found 0 to 256"),
        (np.array([[0, np.nan]], np.float32), "from 0 to 1 or from 0 to 255, found nan to nan"),
        (np.array([[0, 70000]], np.int32), "whole numbers from 0 to 65535, found 0 to 70000"),
    ],
)
def test_numbers_of_no_known_range_are_refused_and_not_clipped(saved, values, message):
    with pytest.raises(DataError, match=message):
        read_picture(saved(values, "a.tif"), 1)


def test_the_number_of_channels_is_1_or_3(saved):
    with pytest.raises(ValueError, match="expected 1 or 3 channels, got 4"):
        read_picture(saved(COLOUR), 4)


# ---------------------------------------------------------------- as a picture of Pillow's


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("P", "RGB"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("CMYK", "RGB"),
        ("I;16", "L"),
    ],
)
def test_a_loaded_picture_is_grey_or_colour_with_or_without_alpha(saved, mode, expected):
    rgba = Image.fromarray(np.dstack([COLOUR, GREY]))
    source = rgba if mode.endswith("A") else Image.fromarray(COLOUR)
    picture = Image.fromarray(DEEP) if mode == "I;16" else source.convert(mode)
    file = saved(picture, "a.tif" if mode == "CMYK" else "a.png")
    loaded = load_picture(file)
    assert loaded.mode == expected
    assert loaded.info == {}
    plain = np.asarray(loaded.convert("RGB"))
    if not expected.endswith("A"):
        np.testing.assert_array_equal(plain, read_picture(file, 3))
    else:
        np.testing.assert_array_equal(np.asarray(loaded), np.asarray(picture.convert(expected)))


def test_one_grey_of_16_bits_may_stand_for_transparent_in_a_loaded_picture(tmp_path):
    clear = int(DEEP[0, 0])
    (tmp_path / "a.png").write_bytes(png(DEEP, 0, (b"tRNS", struct.pack(">H", clear))))
    expected = np.dstack([DEEP >> 8, np.where(clear == DEEP, 0, 255)])
    np.testing.assert_array_equal(np.asarray(load_picture(tmp_path / "a.png")), expected)


def test_a_loaded_picture_says_what_stays_true_of_it(saved):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    for name in ("a.jpg", "a.png", "a.tif", "a.webp"):
        loaded = load_picture(saved(COLOUR, name, exif=exif, icc_profile=profile, dpi=(72, 72)))
        assert loaded.size == (5, 7), "it is turned"
        assert set(loaded.info) == {"exif", "icc_profile"}
        assert loaded.info["icc_profile"] == profile
        kept = Image.Exif()
        kept.load(loaded.info["exif"])
        assert dict(kept) == {0x010F: "a camera"}
    assert "icc_profile" not in load_picture(saved(GREY, icc_profile=profile)).info, "grey has no red"


def test_a_loaded_picture_with_damaged_exif_has_none(saved):
    file = saved(COLOUR, exif=b"Exif\0\0" + b"no TIFF header, and not even one of the right length")
    loaded = load_picture(file)
    np.testing.assert_array_equal(np.asarray(loaded), COLOUR)
    assert loaded.info == {}


def test_what_cannot_be_loaded_is_told_as_of_what_cannot_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"a\.png: expected a picture .*found bytes"):
        load_picture(tmp_path / "a.png")


# ---------------------------------------------------------------- all together


def test_pictures_are_read_in_threads(saved, tmp_path):
    files = [saved(np.roll(SMOOTH, i, 1), f"{i}.png") for i in range(8)]
    (tmp_path / "broken.png").write_bytes(b"broken")
    with ThreadPoolExecutor(4) as pool:
        for i, pixels in enumerate(pool.map(lambda file: read_picture(file, 3), files)):
            np.testing.assert_array_equal(pixels, np.roll(SMOOTH, i, 1))


def test_every_format_is_one_of_pillow_and_every_ending_stands_for_it():
    Image.init()
    known = Image.registered_extensions()
    assert set(FORMATS) <= set(Image.OPEN)
    for name, suffixes in FORMATS.items():
        for suffix in suffixes:
            assert {"MPO": "JPEG", "DIB": "BMP"}.get(known[suffix], known[suffix]) == name
    assert {".jpg", ".jpeg", ".png", ".webp"} <= SUFFIXES
