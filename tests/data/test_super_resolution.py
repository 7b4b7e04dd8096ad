"""Pairs of pictures: shrunk as others do it, tiles of both at the same places, whole pictures to test on."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import fnn
from fnn.data import DataError, Dataset, Split, super_resolution
from fnn.data.super_resolution import shrink
from fnn.losses import squared_error
from fnn.luma import luma
from fnn.metrics import psnr, ssim
from fnn.training import Recipe, evaluate

NAMES = ("a.png", "b.BMP", "d.tiff", "deeper/c.png", "e.webp")
SIZES = dict(zip(NAMES, [(25, 31), (12, 12), (14, 20), (11, 40), (30, 13)], strict=True))
"""Heights and widths; c is lower than a tile of 12."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures with smooth and with fine structure, in colour, written without loss."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i, (name, size) in enumerate(SIZES.items()):
        y, x = np.mgrid[: size[0], : size[1]]
        waves = np.stack([np.sin(x / (2 + c) + y / (3 + i)) for c in range(3)], -1)
        pixels = np.clip(128 + 110 * waves + rng.normal(scale=20, size=(*size, 3)), 0, 255).astype(np.uint8)
        (root / name).parent.mkdir(exist_ok=True)
        options = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(pixels).save(root / name, **options)
    (root / "readme.txt").write_text("no picture")
    return root


def read(folder: Path, name: str, channels: int, scale: int) -> np.ndarray:
    """A picture of the folder as bytes, cut to a multiple of the scale."""
    pixels = np.asarray(Image.open(folder / name).convert("RGB"))
    height, width = (side // scale * scale for side in pixels.shape[:2])
    pixels = pixels[:height, :width]
    return pixels if channels == 3 else np.rint(luma(np.float64(pixels))).astype(np.uint8)


def whole(part: tuple[Split, ...]) -> dict[str, Split]:
    """The pictures of a part by their names."""
    assert all(len(split) == len(split.names) == 1 for split in part)
    return {split.names[0]: split for split in part}


# ---------------------------------------------------------------- shrinking


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_picture_is_shrunk_as_jax_does_it_and_rounded(folder, scale):
    picture = read(folder, "a.png", 3, scale)
    height, width = picture.shape[:2]
    shape = (height // scale, width // scale, 3)
    wanted = jax.image.resize(picture.astype(np.float32), shape, "cubic", antialias=True)
    small = shrink(picture, scale)
    assert small.dtype == np.uint8
    assert np.abs(small - np.clip(wanted, 0, 255)).max() < 0.5 + 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_picture_is_shrunk_as_pillow_shrinks_bytes(folder, scale):
    """Which rounds and clips between rows and columns, too: so they are grey enough not to be clipped."""
    picture = 64 + read(folder, "a.png", 3, scale) // 2
    size = picture.shape[1] // scale, picture.shape[0] // scale
    theirs = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    assert np.abs(shrink(picture, scale).astype(int) - theirs).max() <= 1


@pytest.mark.oracle
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_picture_is_shrunk_as_torch_does_it_and_rounded(folder, scale):
    torch = pytest.importorskip("torch")
    picture = read(folder, "a.png", 3, scale)
    planes = torch.from_numpy(np.moveaxis(picture.astype(np.float64), -1, 0).copy())[None]
    size = picture.shape[0] // scale, picture.shape[1] // scale
    theirs = torch.nn.functional.interpolate(planes, size=size, mode="bicubic", antialias=True)
    wanted = np.clip(np.moveaxis(theirs[0].numpy(), 0, -1), 0, 255)
    assert np.abs(shrink(picture, scale) - wanted).max() < 0.5 + 1e-3


def test_edges_overshoot_to_black_and_white_and_no_further():
    picture = np.zeros((24, 24, 1), np.uint8)
    picture[:, 12:] = 255
    row = shrink(picture, 3)[3, :, 0].tolist()
    assert row == [0, 0, 0, 19, 236, 255, 255, 255]  # -3.1, 18.9, 236.1, 258.1 in the middle
    assert shrink(np.full((4, 6, 3), 77, np.uint8), 2).tolist() == [[[77] * 3] * 3] * 2


# ---------------------------------------------------------------- tiles


def starts(length: int, tile: int, stride: int) -> list[int]:
    """From the upper or left end in steps, and one that ends at the other end."""
    found = list(range(0, length - tile + 1, stride))
    return found if found[-1] == length - tile else [*found, length - tile]


@pytest.mark.parametrize(("scale", "channels"), [(2, 1), (3, 1), (3, 3), (4, 1)])
def test_tiles_are_the_same_places_of_the_shrunk_and_of_the_whole_picture(folder, scale, channels):
    tile, stride = 12, 2 * scale
    data = super_resolution(folder, scale=scale, channels=channels, tile=tile, stride=stride, validation=0)
    small, large = [], []
    for name in NAMES:
        picture = read(folder, name, channels, scale)
        height, width = picture.shape[:2]
        if min(height, width) < tile:
            assert name == "deeper/c.png"
            continue
        shrunk = shrink(picture, scale)
        for top in starts(height, tile, stride):
            for left in starts(width, tile, stride):
                large.append(picture[top : top + tile, left : left + tile])
                rows, columns = (slice(at // scale, (at + tile) // scale) for at in (top, left))
                small.append(shrunk[rows, columns])
    np.testing.assert_array_equal(data.train.inputs, small)
    np.testing.assert_array_equal(data.train.targets, large)
    assert data.train.inputs.dtype == data.train.targets.dtype == np.uint8
    assert data.train.inputs.shape[1:] == (tile // scale, tile // scale, channels)
    assert (data.validation, data.test, data.scale, data.classes) == (None, None, scale, None)


@pytest.mark.parametrize("scale", range(2, 9))
def test_there_is_a_stride_and_a_tile_for_every_scale(tmp_path, scale):
    Image.new("RGB", (150, 125), "red").save(tmp_path / "1.png")
    data = super_resolution(tmp_path, scale=scale, validation=0)
    tile = data.train.targets.shape[1]
    assert 120 - scale < tile <= 120
    assert data.train.inputs.shape[1:] == (tile // scale, tile // scale, 1)
    assert len(data.train) >= 2


def test_a_tile_as_large_as_a_picture_is_the_picture(folder, tmp_path):
    (tmp_path / "b.bmp").write_bytes((folder / "b.BMP").read_bytes())
    data = super_resolution(tmp_path, scale=4, tile=12, validation=0)
    assert data.train.targets.shape == (1, 12, 12, 1)
    np.testing.assert_array_equal(data.train.targets[0], read(tmp_path, "b.bmp", 1, 4))


# ---------------------------------------------------------------- whole pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_the_test_part_is_whole_pictures_cut_to_a_multiple_and_shrunk(folder, channels):
    data = super_resolution(folder, folder, scale=3, channels=channels, tile=12, validation=0)
    found = whole(data.test)
    assert list(found) == list(NAMES)
    for name, split in found.items():
        picture = read(folder, name, channels, 3)
        np.testing.assert_array_equal(split.targets[0], picture)
        np.testing.assert_array_equal(split.inputs[0], shrink(picture, 3))
        assert split.targets.shape[1:3] == tuple(side // 3 * 3 for side in SIZES[name])


def test_pictures_that_validate_are_whole_the_same_each_time_and_not_trained_on(folder):
    first, again = (super_resolution(folder, scale=2, tile=8, validation=0.4) for _ in range(2))
    everything = super_resolution(folder, scale=2, tile=8, validation=0)
    held = whole(first.validation)
    assert len(held) == 2
    assert list(held) == sorted(held)
    for one, other in zip(first.validation, again.validation, strict=True):
        np.testing.assert_array_equal(one.inputs, other.inputs)
    of_them = 0
    for name, split in held.items():
        picture = read(folder, name, 1, 2)
        np.testing.assert_array_equal(split.targets[0], picture)
        of_them += len(starts(picture.shape[0], 8, 2)) * len(starts(picture.shape[1], 8, 2))
    trained = {tile.tobytes() for tile in first.train.targets}
    assert len(first.train) == len(everything.train) - of_them
    assert trained < {tile.tobytes() for tile in everything.train.targets}


@pytest.mark.parametrize(("share", "many"), [(0, 0), (0.01, 1), (0.5, 2), (0.99, 4)])
def test_the_share_that_validates_leaves_some_to_train_on(folder, share, many):
    data = super_resolution(folder, scale=2, tile=8, validation=share)
    assert len(data.validation or ()) == many
    assert len(data.train) > 0


# ---------------------------------------------------------------- where they lie


def test_folders_are_looked_for_in_the_data_roots_and_as_they_are(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    for name in ("sr/t91", "sr/set5", "mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(folder)
    own = super_resolution(tile=12)
    assert list(whole(own.test)) == sorted(
        SIZES
    )  # with the training pictures of the papers their test pictures
    assert super_resolution("mine", tile=12).test is None
    assert len(super_resolution("mine", "sr/set5", tile=12).test) == len(SIZES)
    monkeypatch.chdir(folder.parent)
    assert len(super_resolution(folder.name, tile=12).train) == len(own.train)


def test_what_is_not_there_is_one_line_that_says_where_it_was_looked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def says(*arguments):
        with pytest.raises(DataError) as caught:
            super_resolution(*arguments, tile=12)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    roots = [tmp_path / "sets", tmp_path / "data", tmp_path / "cache/fnn"]
    looked = [f"{root}/sr/t91 is no folder" for root in roots]
    get = "get T91, then set FNN_DATA to the folder of sr/, or path to its own"
    wanted = "super_resolution: expected a folder of pictures to train on"
    assert says() == "; ".join([wanted, *looked, get])
    looked = [f"{root / 'mine'} is no folder" for root in (tmp_path, *roots)]
    assert says("mine") == "; ".join([wanted, *looked, "set path to one"])
    wanted = "super_resolution: expected a folder of pictures to test on"
    assert says(folder, tmp_path / "x") == f"{wanted}; {tmp_path / 'x'} is no folder; set test to one"
    (tmp_path / "sets/sr").mkdir(parents=True)
    (tmp_path / "sets/sr/t91").symlink_to(folder)
    looked = [f"{root}/sr/set5 is no folder" for root in roots]
    get = "get Set5, then set FNN_DATA to the folder of sr/, or test to its own"
    assert says() == "; ".join([wanted, *looked, get])


def test_what_is_no_picture_is_named(folder, tmp_path):
    with pytest.raises(
        DataError, match=rf"^{tmp_path}: expected pictures \(.png, .bmp, .jpg, .*\), found none$"
    ):
        super_resolution(tmp_path)
    (tmp_path / "1.png").write_bytes((folder / "a.png").read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"^{tmp_path}/1.png: expected a whole picture, cannot read it"):
        super_resolution(tmp_path, tile=12)
    Image.new("RGB", (40, 2)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=rf"^{tmp_path}/1.png: expected 3 x 3 pixels or more, found 2 x 40$"):
        super_resolution(tmp_path, tile=12)
    Image.new("RGB", (40, 11)).save(tmp_path / "1.png")
    message = rf"^{tmp_path}: expected a picture of 12 x 12 pixels or more \(tile\), found none$"
    with pytest.raises(DataError, match=message):
        super_resolution(tmp_path, tile=12)


def test_more_than_the_memory_holds_is_refused_before_it_is_cut(folder, monkeypatch):
    pictures = sum(h // 3 * 3 * (w // 3 * 3) for h, w in SIZES.values())
    tiles = len(super_resolution(folder, tile=12, stride=3, validation=0).train) * (12 * 12 + 4 * 4)
    assert tiles > 2 * pictures
    for most in (pictures - 1, tiles - 1):
        monkeypatch.setattr("fnn.data.files.memory", lambda most=most: most)
        message = rf"^{folder}: expected at most the {most} bytes of this machine's memory, found {most + 1}$"
        with pytest.raises(DataError, match=message):
            super_resolution(folder, tile=12, stride=3, validation=0)
    monkeypatch.setattr("fnn.data.files.memory", lambda: tiles)
    assert super_resolution(folder, tile=12, stride=3, validation=0).scale == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 1}, "expected a scale from 2 to 8, got 1"),
        ({"scale": 9}, "expected a scale from 2 to 8, got 9"),
        ({"channels": 2}, "expected 1 or 3 channels, got 2"),
        ({"tile": 100}, "expected a tile that is a multiple of 3, got 100"),
        ({"tile": 0}, "expected a tile that is a multiple of 3, got 0"),
        ({"tile": -3}, "expected a tile that is a multiple of 3, got -3"),
        ({"stride": 2}, "expected a stride that is a multiple of 3, got 2"),
        ({"stride": 0}, "expected a stride that is a multiple of 3, got 0"),
        ({"validation": 1}, "expected validation from 0 to below 1, got 1"),
        ({"validation": -0.1}, "expected validation from 0 to below 1, got -0.1"),
        ({"validation": float("nan")}, "expected validation from 0 to below 1, got nan"),
    ],
)
def test_arguments_outside_their_range_are_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=f"^super_resolution: {message}$"):
        super_resolution(folder, **arguments)


# ---------------------------------------------------------------- the pictures of the papers


def bicubic(data: Dataset) -> dict[str, float]:
    """What the enlargement by the bicubic kernel alone is measured to be."""
    metric = {"psnr": psnr(data.scale), "ssim": ssim(data.scale)}
    recipe = Recipe(
        model=fnn.upsample(data.scale, "bicubic"),
        optimizer=optax.with_extra_args_support(optax.sgd(0.1)),
        loss=lambda outputs, targets: squared_error(outputs, targets.astype(jnp.float32) / 255),
        penalty=lambda params: jnp.zeros(()),
        metrics={
            name: m._replace(measure=lambda y, t, mask, m=m: m.measure(y, t.astype(jnp.float32) / 255, mask))
            for name, m in metric.items()
        },
        normalize=lambda x: x / 255,
    )
    return evaluate(recipe, {}, {}, data.test)


@pytest.mark.data
@pytest.mark.parametrize(
    ("scale", "decibels", "similarity"), [(2, 33.66, 0.9299), (3, 30.40, 0.8682), (4, 28.42, 0.8104)]
)
def test_set5_enlarged_by_bicubic_is_as_good_as_papers_say(scale, decibels, similarity):
    """Table 2 of Kim et al. 2015, arXiv:1511.04587, and many others."""
    pictures = Path(os.environ["FNN_DATA"]) / "sr/set5"
    data = super_resolution("sr/set5", "sr/set5", scale=scale, validation=0)
    assert len(data.test) == len(list(pictures.iterdir())) == 5
    figures = bicubic(data)
    assert figures["psnr"] == pytest.approx(decibels, abs=0.02)
    assert figures["ssim"] == pytest.approx(similarity, abs=0.002)


@pytest.mark.data
def test_the_pictures_of_the_papers_are_all_read():
    data = super_resolution(scale=3, tile=60, stride=60, validation=0.1)
    assert (len(data.validation), len(data.test)) == (9, 5)
    assert len(set(whole(data.validation))) == 9
    every = super_resolution("sr/t91", "sr/t91", scale=3, tile=60, stride=60, validation=0)
    assert len(every.test) == 91
    assert len(every.train) > len(data.train) > 300
