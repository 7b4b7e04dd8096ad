"""fnn.commands.enlarging: what a model makes of grey, of colours and of alpha, against formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import fnn
from fnn.commands.enlarging import BICUBIC_REACH, enlarger
from fnn.commands.tiles import in_tiles, windows
from fnn.experiment.saved import read_saved
from fnn.training.weights import WeightsError
from tests.commands.tiny_enlarger import COLOUR, NETWORK, SCALE, save

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("quick_compiler")
MATLAB = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def enlarge(file, pixels):
    return np.asarray(enlarger(read_saved(file), file).enlarge(pixels)).astype(int)


def drawn(channels, height=9, width=14):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def bicubic(values):
    """By Pillow, each channel in float32."""
    size = (SCALE * values.shape[1], SCALE * values.shape[0])
    planes = [Image.fromarray(values[..., i].astype(np.float32)) for i in range(values.shape[-1])]
    return np.dstack([np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes])


def in_bytes(values):
    return np.clip(np.rint(values), 0, 255)


def close(found, expected):
    """But for what lies in the middle between two bytes."""
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


# ---------------------------------------------------------------- values


def test_of_a_colour_picture_the_network_makes_the_luma_and_the_chroma_is_interpolated(file):
    network = save(file)
    pixels = drawn(3)
    ycbcr = pixels @ MATLAB.T + [16, 128, 128]
    larger = np.dstack([network(ycbcr[..., :1]), bicubic(ycbcr[..., 1:])])
    close(enlarge(file, pixels), in_bytes((larger - [16, 128, 128]) @ np.linalg.inv(MATLAB).T))


def test_a_grey_picture_is_luma_from_16_to_235(file):
    network = save(file)
    pixels = drawn(1)
    larger = network(16 + 219 / 255 * pixels.astype(np.float64))
    close(enlarge(file, pixels), in_bytes((larger - 16) * 255 / 219))


def test_a_grey_picture_is_the_colour_picture_of_equal_channels(file):
    save(file)
    pixels = drawn(1)
    close(enlarge(file, pixels.repeat(3, -1)), enlarge(file, pixels).repeat(3, -1))


def test_a_model_of_colour_sees_the_colours(file):
    network = save(file, COLOUR, channels=3)
    pixels = drawn(3)
    close(enlarge(file, pixels), in_bytes(network(pixels)))


def test_a_model_of_colour_makes_grey_of_grey(file):
    network = save(file, COLOUR, channels=3)
    pixels = drawn(1)
    larger = network(pixels.repeat(3, -1))
    close(enlarge(file, pixels), in_bytes(larger @ [[0.299], [0.587], [0.114]]))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_interpolated_and_changes_no_colour(file, channels):
    save(file)
    pixels = drawn(channels)
    pixels[..., -1] = np.where(pixels[..., -1] < 128, 0, 255)  # so that interpolation overshoots
    larger = enlarge(file, pixels)
    np.testing.assert_array_equal(larger[..., :-1], enlarge(file, pixels[..., :-1]))
    close(larger[..., -1:], in_bytes(bicubic(pixels[..., -1:])))


def test_what_is_out_of_range_is_cut_off_and_does_not_wrap(file):
    save(file, [{"upsample": SCALE}], normalize='{"mean": [0.0], "std": [60.0]}')
    assert (enlarge(file, np.full((3, 3, 1), 255, np.uint8)) == 255).all()
    assert (enlarge(file, np.full((3, 3, 3), 255, np.uint8)) == 255).all()


def test_the_normalisation_is_the_models_own(file):
    save(file, [{"upsample": SCALE}], normalize='{"mean": [20.0], "std": [255.0]}')
    expected = in_bytes((16 + 219 / 255 * 100 - 20 - 16) * 255 / 219)
    assert (enlarge(file, np.full((3, 3, 1), 100, np.uint8)) == expected).all()
    save(file, [{"upsample": SCALE}], normalize=None)
    assert (enlarge(file, np.full((3, 3, 1), 100, np.uint8)) == 255).all(), (
        "it gives bytes, and they count 255 times"
    )


def test_activations_are_of_the_precision_that_it_was_trained_in(file):
    network = save(file, COLOUR, channels=3, precision="bfloat16")
    pixels = drawn(3)
    difference = np.abs(enlarge(file, pixels) - in_bytes(network(pixels)))
    assert 1 < difference.max() < 20


# ---------------------------------------------------------------- how far it looks


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"upsample": SCALE}], BICUBIC_REACH),  # of the chroma
        (NETWORK, 3),
    ],
)
def test_the_reach_is_that_of_the_network_and_of_the_interpolation(file, layers, expected):
    save(file, layers)
    assert enlarger(read_saved(file), file).reach == expected


def test_a_model_that_looks_at_the_whole_picture_has_no_reach(file):
    @fnn.register
    def centred():
        return fnn.fn(lambda x: x - x.mean((1, 2), keepdims=True))

    save(file, [{"upsample": SCALE}, "centred"])
    assert enlarger(read_saved(file), file).reach is None


BICUBIC = {"upsample": {"scale": SCALE, "method": "bicubic"}}
TRANSPOSED = {"conv_transpose": {"features": 1, "kernel": 9, "stride": SCALE}}


@pytest.mark.parametrize(
    "layers",
    [
        NETWORK,
        [BICUBIC, {"conv": {"features": 8, "kernel": 9}}, "relu", {"conv": {"features": 1, "kernel": 5}}],
        [{"conv": {"features": 8, "kernel": 5}}, "relu", TRANSPOSED],
    ],
    ids=["espcn", "srcnn", "fsrcnn"],
)
def test_in_tiles_as_in_one(file, layers):
    save(file, layers)
    way = enlarger(read_saved(file), file)
    picture = Image.fromarray(drawn(4, 75, 140))
    assert len(windows(75, SCALE, way.reach)) > 1
    tiled, again, whole, short = (
        np.asarray(in_tiles(picture, SCALE, way.enlarge, reach)).astype(int)
        for reach in (way.reach, way.reach, None, 1)
    )
    close(tiled, whole)
    np.testing.assert_array_equal(tiled, again)
    assert np.abs(short - whole).max() > 3, "the tiles do matter"


# ---------------------------------------------------------------- what is no such model


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (
            NETWORK,
            {"scale": None},
            "expected a super-resolution model, with 'scale' in its metadata, found none",
        ),
        (NETWORK, {"channels": 2}, r"model of luma \(1 channel\) or colour \(3\), found one of \(8, 8, 2\)"),
        (NETWORK, {"scale": "3"}, r"makes \(1, 21, 30, 1\) of \(1, 7, 10, 1\), found \(1, 14, 20, 1\)"),
        (COLOUR, {}, r"makes \(1, 14, 20, 1\) of \(1, 7, 10, 1\), found \(1, 14, 20, 3\)"),
        (
            [{"conv": {"features": 1, "kernel": 3, "stride": 2}}, {"upsample": 4}],
            {},
            r"of \(1, 7, 10, 1\), found \(1, 16, 20, 1\)",
        ),
        (["flatten", {"dense": 256}, {"reshape": [16, 16, 1]}], {}, r"dense1: expected"),
    ],
)
def test_a_model_that_enlarges_no_pictures_is_one_clear_line(file, layers, options, message):
    save(file, layers, **options)
    with pytest.raises(WeightsError, match=message) as caught:
        enlarger(read_saved(file), file)
    assert str(caught.value).startswith(f"{file}: ")
