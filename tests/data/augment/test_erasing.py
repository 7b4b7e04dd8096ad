"""Erasing: each transform against NumPy, each draw against its distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.data import cutout, random_erasing
from fnn.data.augment.erasing import draw_centres, draw_noise, erase, squares
from fnn.kernels import quick_key

KEY = quick_key(jax.random.key(0))  # as training gives it
IMAGES = np.random.default_rng(0).normal(size=(6, 7, 9, 2)).astype(np.float32)


@pytest.mark.parametrize("size", [4, *(pytest.param(size, marks=pytest.mark.slow) for size in (0, 1, 3, 40))])
def test_cutout_agrees_with_its_paper(size):
    centres = np.asarray(draw_centres(KEY, 6, 7, 9))
    wanted = IMAGES.copy()
    for image, (row, column) in zip(wanted, centres, strict=True):
        top, left = row - size // 2, column - size // 2
        image[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    np.testing.assert_array_equal(cutout(size)(KEY, IMAGES), wanted)


def test_cutout_erases_a_whole_square_within_the_image():
    erased = np.asarray(erase(jnp.ones((1, 8, 8, 1)), squares(jnp.array([[4, 3]]), 3)))[0, :, :, 0]
    wanted = np.ones((8, 8))
    wanted[3:6, 2:5] = 0
    np.testing.assert_array_equal(erased, wanted)


def test_centres_cover_the_image():
    centres = np.asarray(draw_centres(KEY, 6300, 7, 9))
    counts = np.bincount(centres[:, 0] * 9 + centres[:, 1], minlength=63)
    assert len(counts) == 63
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100)


def test_erase_puts_other_values_into_the_box_alone():
    boxes = jnp.array([[1, 2, 3, 4], [0, 0, 0, 5], [6, 8, 1, 1]])
    values = np.full((3, 7, 9, 2), 7.0, np.float32) + np.arange(2)
    wanted = IMAGES[:3].copy()
    wanted[0, 1:4, 2:6] = [7, 8]
    wanted[2, 6, 8] = [7, 8]
    np.testing.assert_array_equal(jax.jit(erase)(IMAGES[:3], boxes, values), wanted)
    wanted[0, 1:4, 2:6], wanted[2, 6, 8] = -1, -1
    np.testing.assert_array_equal(erase(IMAGES[:3], boxes, -1), wanted)


def erased_boxes(images, value=0):
    """Of images that were all one other value: a box each, or None; what is erased must be a whole box."""
    found = []
    for image in np.asarray(images):
        there = (image == value).all(-1)
        rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
        if not len(rows):
            found.append(None)
            continue
        box = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert there.sum() == box[2] * box[3]
        found.append(box)
    return found


def test_random_erasing_keeps_its_probability_area_and_ratio():
    erasing = random_erasing(0.3, scale=(0.1, 0.2), ratio=(1.5, 3.0))
    boxes = erased_boxes(jax.jit(erasing)(KEY, jnp.ones((2000, 32, 32, 1))))
    some = np.array([box for box in boxes if box is not None])
    assert abs(len(some) - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)
    height, width = some[:, 2], some[:, 3]
    share, ratio = height * width / 1024, height / width
    assert 0.09 < share.min() < 0.11 and 0.19 < share.max() < 0.21  # sides are rounded
    assert 1.3 < ratio.min() < 1.6 and 2.7 < ratio.max() < 3.5
    assert len({tuple(box) for box in some}) > 300


@pytest.mark.slow
@pytest.mark.parametrize("value", [-3.0, 128])
def test_random_erasing_puts_a_value(value):
    images = np.asarray(random_erasing(1.0, value=value)(KEY, jnp.full((20, 16, 16, 3), 5.0)))
    assert set(np.unique(images)) == {5.0, float(value)}
    assert None not in erased_boxes(images, value)


@pytest.mark.slow
def test_noise_is_uniform_over_levels_up_to_white():
    noise = np.asarray(draw_noise(KEY, (40, 40, 16), 16.0))
    levels = np.rint(noise * 255 / 16)
    np.testing.assert_allclose(noise, levels * 16 / 255, atol=1e-5)
    counts = np.bincount(levels.astype(int).ravel(), minlength=256)
    assert len(counts) == 256
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100)


@pytest.mark.slow
def test_noise_differs_from_pixel_to_pixel_and_stays_in_its_box():
    images = np.asarray(random_erasing(1.0, value="noise")(KEY, jnp.full((20, 16, 16, 3), -1.0)))
    erased = images[(images != -1).all(-1)]
    assert (images.min(), erased.min() >= 0, erased.max() <= 255) == (-1, True, True)
    assert len(np.unique(erased)) > 200
    assert np.std(erased, axis=1).min() >= 0 and (np.std(erased, axis=1) > 10).mean() > 0.9


@pytest.mark.slow
def test_what_never_fits_is_not_erased():
    images = random_erasing(1.0, scale=(0.9, 1.0), ratio=(50, 60))(KEY, jnp.ones((9, 8, 8, 1)))
    assert np.asarray(images).all()
