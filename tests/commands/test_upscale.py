"""fnn.commands.upscale: every kind of picture, folders of them, and that nothing is written over."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from scipy.ndimage import gaussian_filter

import fnn
from fnn import pretrained
from fnn.choices import ConfigError
from fnn.commands import upscale as command
from fnn.commands.enlarging import enlarger
from fnn.commands.output import OutputError
from fnn.commands.upscale import Job, jobs_of, model_of, upscale
from fnn.data import DataError
from fnn.data.super_resolution import shrink
from fnn.experiment.saved import read_saved
from fnn.luma import luma
from fnn.training import RunFolder
from tests.commands.tiny_enlarger import COLOUR, NETWORK, SCALE, save

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 14, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (9, 14), np.uint16)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a model that repeats each pixel, and with one that has drawn weights."""
    monkeypatch.chdir(tmp_path)
    save(Path("repeat.safetensors"), [{"upsample": SCALE}], channels=3)
    save(Path("network.safetensors"), COLOUR, channels=3)
    return tmp_path


def write(name, picture=PIXELS, **options):
    """A picture file; None: one that is none."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    if picture is None:
        Path(name).write_bytes(b"no picture")
    else:
        picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        picture.save(name, **options)
    return Path(name)


def run(source, target, model="repeat.safetensors", overwrite=False, **options):
    jobs = jobs_of(Path(source), Path(target), overwrite)
    return list(upscale(Path(model), jobs, **options))


def written(name):
    with Image.open(name) as picture:
        picture.load()
        return picture


def twice(pixels):
    return pixels.repeat(SCALE, 0).repeat(SCALE, 1)


def names(folder):
    return sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*") if file.is_file())


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_what_the_model_makes_of_it(channels):
    save(Path("model.safetensors"), NETWORK if channels == 1 else COLOUR, channels)
    write("in.png")
    (result,) = run("in.png", "out.png", "model.safetensors")
    way = enlarger(read_saved("model.safetensors"), Path("model.safetensors"))
    np.testing.assert_array_equal(np.asarray(written("out.png")), np.asarray(way.enlarge(PIXELS)))
    assert str(result) == "in.png (14 × 9) -> out.png (28 × 18)"


@pytest.mark.parametrize(
    ("picture", "mode", "name", "options"),
    [
        (Image.fromarray(PIXELS), "RGB", "a.png", {}),
        (Image.fromarray(PIXELS[..., 0]), "L", "a.png", {}),
        (Image.fromarray(PIXELS[..., 0] > 127), "L", "a.png", {}),
        (Image.fromarray(PIXELS).quantize(16), "RGB", "a.gif", {}),
        (Image.fromarray(PIXELS).convert("CMYK"), "RGB", "a.jpg", {"quality": 95}),
        (Image.fromarray(PIXELS).convert("CMYK"), "RGB", "a.tif", {}),
        (Image.fromarray(PIXELS[:1, :1]), "RGB", "a.png", {}),
        (Image.fromarray(PIXELS[:1]), "RGB", "a.png", {}),
    ],
)
def test_of_every_mode_the_pixels_are_seen(picture, mode, name, options):
    write(name, picture, **options)
    (result,) = run(name, "out.png")
    assert result.error is None
    found = written("out.png")
    assert found.mode == mode
    np.testing.assert_array_equal(np.asarray(found), twice(np.asarray(written(name).convert(mode))))


def test_of_16_bits_the_upper_8_are_seen_and_of_floating_point_numbers_their_share_of_white():
    write("a.png", DEEP)
    run("a.png", "out.png")
    np.testing.assert_array_equal(np.asarray(written("out.png")), twice(DEEP >> 8))
    write("a.tif", PIXELS[..., 0].astype(np.float32) / 255)
    run("a.tif", "two.png")
    np.testing.assert_array_equal(np.asarray(written("two.png")), twice(PIXELS[..., 0]))


@pytest.mark.parametrize(("mode", "kind"), [("LA", "LA"), ("RGBA", "RGBA"), ("P", "RGBA")])
def test_alpha_is_kept_with_the_colours_under_it(mode, kind):
    alpha = np.where(np.arange(14) < 7, 0, 255).astype(np.uint8) * np.ones((9, 1), np.uint8)
    if mode == "P":
        picture = Image.fromarray(alpha // 255).convert("P")
        picture.putpalette([10, 20, 30, 40, 50, 60])
        write("a.png", picture, transparency=0)
    else:
        write("a.png", Image.fromarray(np.dstack([PIXELS, alpha])).convert(mode))
    run("a.png", "out.png")
    found = written("out.png")
    assert found.mode == kind
    *colours, clear = np.moveaxis(np.asarray(found), -1, 0)
    expected = np.asarray(written("a.png").convert(kind))[..., :-1]
    np.testing.assert_array_equal(np.dstack(colours), twice(expected))
    smooth = Image.fromarray(alpha.astype(np.float32)).resize((28, 18), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(clear, np.clip(np.rint(np.asarray(smooth)), 0, 255))


def test_where_the_format_has_no_alpha_it_lies_on_white_and_that_is_told():
    clear = np.dstack([PIXELS, np.zeros((9, 14), np.uint8)])
    write("a.png", clear)
    (result,) = run("a.png", "out.bmp")
    assert (np.asarray(written("out.bmp")) == 255).all()
    assert str(result).endswith("-> out.bmp (28 × 18); on white, as BMP has no transparency")
    clear[..., 3] = 255
    write("b.png", clear)
    (result,) = run("b.png", "two.bmp")
    np.testing.assert_array_equal(np.asarray(written("two.bmp")), twice(PIXELS))
    assert str(result).endswith("-> two.bmp (28 × 18)"), "nothing was lost"


@pytest.mark.parametrize("name", ["moving.gif", "pages.tif"])
def test_of_several_pictures_in_a_file_the_first_is_taken_and_that_is_told(name):
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    write(name, first, save_all=True, append_images=[second])
    (result,) = run(name, "out.png")
    np.testing.assert_array_equal(
        np.asarray(written("out.png")), twice(np.asarray(written(name).convert("RGB")))
    )
    assert str(result) == f"{name} (14 × 9) -> out.png (28 × 18); the first of its 2 pictures"


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_a_picture_is_turned_upright_and_says_no_more_that_it_is_not(ending):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(PIXELS))  # what is turned by 90° clockwise
    write("a.png", stored, exif=exif)
    run("a.png", f"out.{ending}")
    found = written(f"out.{ending}")
    assert found.size == (28, 18)
    assert 0x0112 not in found.getexif()
    if ending in ("png", "tif"):
        np.testing.assert_array_equal(np.asarray(found), twice(PIXELS))


def test_what_a_camera_says_is_kept_but_for_size_and_preview():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", 3
    exif[0x8769] = {0x9003: "2026:01:02 03:04:05", 0xA002: 14, 0xA003: 9, 0x927C: b"its own notes"}
    exif[0x8825] = {1: "N", 2: (51.0, 28.0, 40.0)}
    write("a.jpg", exif=exif)
    run("a.jpg", "out.jpg")
    found = written("out.jpg").getexif()
    assert dict(found).keys() == {0x010F, 0x8769, 0x8825}
    assert found[0x010F] == "a camera"
    assert found.get_ifd(0x8769) == {0x9003: "2026:01:02 03:04:05"}
    assert found.get_ifd(0x8825) == {1: "N", 2: (51.0, 28.0, 40.0)}


def test_a_colour_profile_is_kept_where_it_is_still_true():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write("a.png", icc_profile=profile)
    run("a.png", "out.jpg")
    assert written("out.jpg").info["icc_profile"] == profile
    ink = bytearray(profile)
    ink[16:20] = b"CMYK"
    for picture, other, name in (
        (Image.fromarray(PIXELS).convert("CMYK"), bytes(ink), "b.tif"),
        (Image.fromarray(PIXELS[..., 0]), profile, "c.png"),
    ):
        write(name, picture, icc_profile=other)
        run(name, "two.png", overwrite=True)
        assert "icc_profile" not in written("two.png").info


def test_a_large_picture_is_enlarged_in_tiles_without_seams():
    large = RNG.integers(0, 256, (150, 260, 3), np.uint8)
    write("a.png", large)
    run("a.png", "out.png", "network.safetensors")
    way = enlarger(read_saved("network.safetensors"), Path("network.safetensors"))
    difference = np.abs(np.asarray(written("out.png")).astype(int) - np.asarray(way.enlarge(large)))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


# ---------------------------------------------------------------- folders


def test_a_folder_is_searched_and_gets_the_same_names():
    for name in ("in/b.jpg", "in/a.PNG", "in/sub/deep/c.webp", "in/d.gif", "in/.hidden.png", "in/.sub/e.png"):
        write(name)
    Path("in/notes.txt").touch()
    done = []
    results = run("in", "out/large", on_progress=done.append)
    assert names("out/large") == ["a.PNG", "b.jpg", "d.png", "sub/deep/c.webp"]
    assert [str(result.job.target) for result in results] == [
        f"out/large/{name}" for name in ("a.PNG", "b.jpg", "d.png", "sub/deep/c.webp")
    ]
    assert done == [1, 2, 3, 4]
    assert all(written(f"out/large/{name}").size == (28, 18) for name in names("out/large"))


def test_a_broken_picture_has_an_error_in_its_place_and_the_others_go_on():
    write("in/a.png", None)
    write("in/b.png")
    write("in/c.webp", Image.new("L", (8192, 1)))
    write("in/d.jpg", RNG.integers(0, 256, (64, 64, 3), np.uint8))
    Path("in/d.jpg").write_bytes(Path("in/d.jpg").read_bytes()[:1500])
    write("in/e.png")
    results = run("in", "out")
    errors = [result.error for result in results]
    assert errors[0].startswith("in/a.png: expected a picture")
    assert errors[2] == "out/c.webp: expected at most 16,383 pixels a side in WEBP, got 16384 × 2"
    assert errors[3].startswith("in/d.jpg: expected a whole picture, cannot read it: ")
    assert errors[1] is errors[4] is None
    assert names("out") == ["b.png", "e.png"]


def test_a_target_in_the_folder_that_is_read_is_not_read():
    write("in/a.png")
    write("in/large/a.png", Image.new("RGB", (3, 3)))
    with pytest.raises(OutputError, match=r"in/large/a.png exists: choose another folder or --overwrite"):
        run("in", "in/large")
    run("in", "in/large", overwrite=True)
    assert names("in/large") == ["a.png"]
    assert written("in/large/a.png").size == (28, 18)
    Path("in/a.png").unlink()
    with pytest.raises(DataError, match=r"in: expected pictures, found none but those in in/large$"):
        run("in", "in/large", overwrite=True)


def test_a_picture_may_go_into_a_folder():
    write("a.png")
    write("b.gif")
    write("in/a.png")
    Path("out").mkdir()
    for name in ("a.png", "b.gif"):
        assert [result.error for result in run(name, "out")] == [None]
    assert names("out") == ["a.png", "b.png"]
    with pytest.raises(OutputError, match=r"in/a.png: expected another place"):
        run("in/a.png", "in")


# ---------------------------------------------------------------- nothing is written over


def test_files_that_are_there_stay_unless_asked_for():
    write("in/a.png")
    write("in/b.png")
    write("out/a.png", Image.new("RGB", (3, 3)))
    with pytest.raises(OutputError, match=r"out/a.png exists: choose another folder or --overwrite"):
        jobs_of(Path("in"), Path("out"))
    write("out/b.png", Image.new("RGB", (3, 3)))
    with pytest.raises(OutputError, match=r"out/a.png and 1 more exist: choose"):
        jobs_of(Path("in"), Path("out"))
    with pytest.raises(OutputError, match=r"out/a.png exists: choose another name or --overwrite"):
        jobs_of(Path("in/a.png"), Path("out/a.png"))
    run("in", "out", overwrite=True)
    assert {written(f"out/{name}").size for name in names("out")} == {(28, 18)}


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_written_over(overwrite):
    write("in/a.png")
    write("in/in/a.png")
    os.symlink("in", "link")
    for source, target in (("in", "in"), ("in/a.png", "in/../in/a.png"), ("in", "link")):
        with pytest.raises(OutputError, match="expected another place than where the pictures are read from"):
            jobs_of(Path(source), Path(target), overwrite)
    with pytest.raises(OutputError, match=r"^in/a.png: expected another folder: in/in/a.png would be"):
        jobs_of(Path("in"), Path("."), overwrite)


def test_two_pictures_of_one_name_are_told():
    write("in/a.png")
    write("in/a.gif")
    with pytest.raises(OutputError, match=r"out/a.png: both in/a.gif and in/a.png would be written to it"):
        jobs_of(Path("in"), Path("out"), overwrite=True)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a.png", "out", "out: expected a name that ends in .png, .*, got no ending"),
        ("a.png", "none/b.png", "none/b.png: cannot be written: none is no folder"),
        ("in", "a.png", "a.png: expected a folder to write into, as a folder is read; a.png is a file"),
        ("in", "a.png/b", "a.png/b: expected a folder .*; .*/a.png is a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(source, target, message):
    write("a.png")
    write("in/a.png")
    with pytest.raises(OutputError, match=message):
        jobs_of(Path(source), Path(target))


def test_a_place_that_may_not_be_written_is_told(monkeypatch):
    write("in/a.png")
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(OutputError, match=r"out/deep: cannot be written: .* may not be written to"):
        jobs_of(Path("in"), Path("out/deep"))


def test_nothing_to_read_is_told(tmp_path):
    Path("empty").mkdir()
    with pytest.raises(DataError, match=r"empty: expected pictures \(.*\), found none"):
        jobs_of(Path("empty"), Path("out"))
    with pytest.raises(DataError, match=r"none.png: expected a picture or a folder of them, found none"):
        jobs_of(Path("none.png"), Path("out.png"))


def test_whoever_interrupts_finds_whole_pictures_and_nothing_else(monkeypatch):
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        write(name)
    replace = os.replace

    def interrupted(temporary, file):
        if Path(file).name == "b.png":
            raise KeyboardInterrupt
        replace(temporary, file)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("in", "out")
    assert names("out") == ["a.png"]


def test_a_folder_that_cannot_be_made_is_the_pictures_error(monkeypatch):
    write("in/a.png")
    write("in/sub/b.png")
    jobs = jobs_of(Path("in"), Path("out"))
    Path("out").mkdir()
    Path("out/sub").touch()
    first, second = upscale(Path("repeat.safetensors"), jobs)
    assert first.error is None
    assert second.error == "out/sub: cannot be made: File exists"


# ---------------------------------------------------------------- models


def test_a_scale_that_is_not_the_models_is_told():
    write("a.png")
    jobs = [Job(Path("a.png"), Path("out.png"))]
    with pytest.raises(ConfigError, match=r"--scale 3: repeat.safetensors is a model of scale 2"):
        next(upscale(Path("repeat.safetensors"), jobs, scale=3))
    assert next(upscale(Path("repeat.safetensors"), jobs, scale=2)).error is None


def test_the_model_is_the_runs_or_that_which_comes_with_fnn(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    Path("espcn_x2.safetensors").touch()
    Path("espcn_x3.safetensors").touch()
    assert model_of(None, None) == tmp_path / "espcn_x2.safetensors"
    assert model_of(None, 3) == tmp_path / "espcn_x3.safetensors"
    assert model_of(Path("runs/mine"), 4) == Path("runs/mine")
    with pytest.raises(ConfigError, match="got 4; --run takes"):
        model_of(None, 4)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_enlarges_as_well_as_it_was_measured_to(channels):
    noise = RNG.normal(120, 200, (4, 96, 128, 3))
    for name, values in zip(("train/1", "train/2", "train/3", "test/4"), noise, strict=True):
        blurred = gaussian_filter(values, (1, 1, 0))
        write(f"{name}.png", np.clip(blurred, 0, 255).astype(np.uint8))
    source = {"path": "train", "test": "test", "scale": SCALE, "channels": channels, "tile": 32}
    experiment = fnn.Experiment(
        data={"source": {"super_resolution": source}},
        model={"espcn": {"scale": SCALE, "channels": channels, "skip": True}},
        loss="charbonnier",
        optimizer={"adam": 1e-3},
        train={"epochs": 2, "batch_size": 8},
    )
    measured = fnn.train(experiment, folder=lambda: RunFolder.create("run", "sr")).summary["test"]["psnr"]
    large = np.asarray(written("test/4.png"))
    write("small.png", shrink(large, SCALE))
    (result,) = run("small.png", "out.png", "run")
    assert str(result) == "small.png (64 × 48) -> out.png (128 × 96)"
    ours, theirs = (luma(pixels.astype(np.float64)) for pixels in (np.asarray(written("out.png")), large))
    inner = (ours - theirs)[SCALE:-SCALE, SCALE:-SCALE]
    found = 10 * np.log10(255**2 / np.square(inner).mean())
    assert 20 < measured < 35
    assert found == pytest.approx(measured, abs=1e-3 if channels == 3 else 0.1)  # luma is rounded there


def test_one_program_is_compiled_for_pictures_of_many_sizes(monkeypatch):
    for i in range(5):
        write(f"in/{i}.png", RNG.integers(0, 256, (70 + 7 * i, 120 - 11 * i, 3), np.uint8))
    seen = set()
    in_tiles = command.in_tiles

    def noted(picture, scale, enlarge, reach):
        return in_tiles(picture, scale, lambda part: seen.add(part.shape) or enlarge(part), reach)

    monkeypatch.setattr(command, "in_tiles", noted)
    assert all(result.error is None for result in run("in", "out"))
    assert seen == {(64, 64, 3)}
