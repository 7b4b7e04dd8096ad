"""What moves pixels: each transform against NumPy and SciPy, each draw against its distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fnn.data import crop, cutout, flip, rotate, shift
from fnn.data.augment.geometry import draw_angles, draw_offsets, mirror, translate, turn, warp

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(6, 7, 9, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.mark.parametrize(("augment", "pixels"), [(shift(2), 2), (crop(3), 3)])
def test_shift_agrees_with_scipy(augment, pixels):
    offsets = np.asarray(draw_offsets(KEY, len(IMAGES), pixels))
    wanted = [
        ndimage.shift(im, (*o, 0), order=0, mode="constant") for im, o in zip(IMAGES, offsets, strict=True)
    ]
    np.testing.assert_array_equal(augment(KEY, IMAGES), wanted)


def test_crop_is_a_window_of_the_padded_image():
    offsets = np.asarray(draw_offsets(KEY, len(IMAGES), 3))
    for image, (row, column), got in zip(IMAGES, offsets, np.asarray(crop(3)(KEY, IMAGES)), strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)))
        np.testing.assert_array_equal(got, padded[3 - row :, 3 - column :][:7, :9])


def test_a_shift_of_the_whole_image_leaves_nothing():
    offsets = jnp.array([[7, 0], [0, -9], [-8, 0], [0, 0], [6, 8], [-6, -8]])
    moved = np.asarray(translate(jnp.asarray(IMAGES), offsets, 9))
    assert not moved[:3].any()
    np.testing.assert_array_equal(moved[3], IMAGES[3])
    np.testing.assert_array_equal(moved[4, 6, 8], IMAGES[4, 0, 0])
    np.testing.assert_array_equal(moved[5, 0, 0], IMAGES[5, 6, 8])


@pytest.mark.parametrize(("axis", "number"), [("horizontal", 2), ("vertical", 1)])
def test_flip_agrees_with_numpy(axis, number):
    mirrored = np.flip(IMAGES, number)
    np.testing.assert_array_equal(flip(1.0, axis)(KEY, IMAGES), mirrored)
    np.testing.assert_array_equal(flip(0.0, axis)(KEY, IMAGES), IMAGES)
    chosen = np.array([True, False, False, True, True, False])
    wanted = np.where(chosen[:, None, None, None], mirrored, IMAGES)
    np.testing.assert_array_equal(mirror(jnp.asarray(IMAGES), jnp.asarray(chosen), axis), wanted)


def test_flip_keeps_its_probability():
    images = jnp.tile(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (4000, 1, 1, 1))
    flipped = int(flip(0.3)(KEY, images)[:, 0, 0, 0].sum())
    assert abs(flipped - 1200) < 5 * np.sqrt(4000 * 0.3 * 0.7)


def test_rotate_agrees_with_scipy():
    degrees = np.asarray(draw_angles(KEY, len(IMAGES), 30))
    pairs = zip(IMAGES, degrees, strict=True)
    wanted = [ndimage.rotate(im, d, reshape=False, order=1, mode="grid-constant") for im, d in pairs]
    np.testing.assert_allclose(jax.jit(rotate(30))(KEY, IMAGES), wanted, atol=1e-5)


def test_warp_agrees_with_scipy():
    """Any affine map, also one that leaves the image far behind."""
    matrices = np.random.default_rng(1).normal(size=(6, 2, 3)).astype(np.float32) * [[1, 1, 3]]
    matrices[5, :, 2] = 1e9
    for image, matrix, got in zip(IMAGES, matrices, jax.jit(warp)(IMAGES, matrices), strict=True):
        middle = np.array([3.0, 4.0])
        offset = matrix[:, 2] + middle - matrix[:, :2] @ middle
        channels = [
            ndimage.affine_transform(image[..., i], matrix[:, :2], offset, order=1, mode="grid-constant")
            for i in range(2)
        ]
        np.testing.assert_allclose(got, np.stack(channels, -1), atol=1e-4)


def test_rotate_by_quarters_agrees_with_numpy():
    square = jnp.asarray(IMAGES[:5, :, :7])
    turned = jax.jit(turn)(square, jnp.array([0.0, 90.0, 180.0, -90.0, 270.0]))
    wanted = [np.rot90(image, quarters) for image, quarters in zip(square, (0, 1, 2, 3, 3), strict=True)]
    np.testing.assert_allclose(turned, wanted, atol=1e-5)


def test_offsets_are_uniform_and_rows_independent_of_columns():
    offsets = np.asarray(draw_offsets(KEY, 9000, 1))
    pairs = 3 * (offsets[:, 0] + 1) + offsets[:, 1] + 1
    counts = np.bincount(pairs, minlength=9)  # binomial (9000, 1/9): standard deviation 29.8
    assert len(counts) == 9
    assert np.abs(counts - 1000).max() < 5 * 29.8


def test_angles_cover_their_range():
    angles = np.asarray(draw_angles(KEY, 4000, 10.0))
    counts, _ = np.histogram(angles, bins=8, range=(-10, 10))
    assert counts.sum() == 4000
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shift(-1), "shift: expected pixels to be a whole number of at least 0, got -1"),
        (lambda: shift(1.5), "shift: expected pixels to be a whole number of at least 0, got 1.5"),
        (lambda: crop("4"), "crop: expected padding to be a whole number of at least 0, got '4'"),
        (lambda: cutout(-8), "cutout: expected size to be a whole number of at least 0, got -8"),
        (lambda: cutout(2**31), r"cutout: expected size to be below 2\*\*31, got 2147483648"),
        (
            lambda: shift(9)(KEY, np.zeros((1, 8, 4, 1), np.float32)),
            r"shift: expected at most the size of images \(1, 8, 4, 1\), got 9 pixels",
        ),
        (lambda: flip(1.1), "flip: expected a probability from 0 to 1, got 1.1"),
        (lambda: flip(float("nan")), "flip: expected a probability from 0 to 1, got nan"),
        (lambda: flip(0.5, "diagonal"), "flip: expected the axis horizontal or vertical, got 'diagonal'"),
        (lambda: rotate(-1), "rotate: expected degrees from 0 to 180, got -1"),
        (lambda: rotate(181), "rotate: expected degrees from 0 to 180, got 181"),
        (lambda: rotate()(KEY, np.zeros((1, 4, 4, 1), np.uint8)), "rotate: .* a floating dtype, got uint8"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
