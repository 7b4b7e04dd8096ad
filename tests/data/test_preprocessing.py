"""Pictures on their way into a model, beside torchvision's and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fnn.data import Preprocessing


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def test_a_picture_of_the_right_size_stays_as_it_is():
    bytes_ = picture(5, 7)
    np.testing.assert_array_equal(Preprocessing((5, 7)).prepare(bytes_), bytes_)


@pytest.mark.parametrize("height, width", [(50, 80), (81, 50), (33, 33), (20, 64)])
def test_the_short_side_is_scaled_and_the_centre_cut_out(height, width):
    bytes_ = picture(height, width)
    found = Preprocessing((24, 28), short_side=32).prepare(bytes_)
    # the rule of torchvision's Resize and CenterCrop, in its own words
    short, long = sorted((height, width))
    sides = {short: 32, long: int(32 * long / short)}
    image = Image.fromarray(bytes_).resize((sides[width], sides[height]), Image.Resampling.BILINEAR)
    top, left = round((sides[height] - 24) / 2.0), round((sides[width] - 28) / 2.0)
    wanted = np.asarray(image)[top : top + 24, left : left + 28]
    np.testing.assert_array_equal(found, wanted)


def test_caffe_has_blue_first():
    bytes_ = picture(4, 4)
    np.testing.assert_array_equal(Preprocessing((4, 4), bgr=True).prepare(bytes_), bytes_[..., ::-1])


def test_grey_keeps_its_axis():
    assert Preprocessing((3, 3), channels=1).prepare(picture(9, 6, 1)).shape == (3, 3, 1)


def test_the_normaliser_knows_what_white_is():
    bytes_ = picture(6, 6)
    normalize = Preprocessing((6, 6), white=16.0, mean=(1.0, 2.0, 3.0), std=(4.0,)).normalizer()
    wanted = (bytes_ / 255 * 16 - np.array([1.0, 2.0, 3.0])) / 4
    np.testing.assert_allclose(normalize(bytes_), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"channels": 4}, "expected 1 or 3 channels, got 4"),
        ({"short_side": 9}, "a short side that it can be cut from, got (10, 10) and 9"),
        ({"mean": (1.0, 2.0)}, "expected mean for 1 or 3 channels, got 2"),
        ({"std": (0.0,)}, "expected white and std above 0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        Preprocessing((10, 10), **arguments)
    assert message in str(error.value)
