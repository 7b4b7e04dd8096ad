"""Augmentation: each transform against NumPy and SciPy, each draw against its distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fnn.data import compose, crop, cutout, flip, rotate, shift
from fnn.data.augment import draw_angles, draw_centres, draw_offsets, erase, mirror, translate, turn

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(6, 7, 9, 2)).astype(np.float32)
ALL = {
    "shift": shift(2),
    "flip": flip(),
    "flip vertical": flip(0.5, "vertical"),
    "crop": crop(3),
    "rotate": rotate(30),
    "cutout": cutout(4),
    "compose": compose([shift(1), flip(), rotate(5.0), cutout(3)]),
}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_and_dtype_are_kept_and_jit_changes_nothing(augment, dtype):
    images = jnp.asarray(IMAGES, dtype)
    eager, compiled = augment(KEY, images), jax.jit(augment)(KEY, images)
    assert (eager.shape, eager.dtype) == (images.shape, images.dtype)
    as_numbers = [np.asarray(y, np.float32) for y in (eager, compiled)]
    np.testing.assert_allclose(*as_numbers, atol=1e-6 if dtype == jnp.float32 else 0.04)


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
def test_a_key_fixes_the_draw_and_each_image_has_its_own(augment):
    same = jnp.broadcast_to(IMAGES[:1], (64, 7, 9, 2))
    first, again = augment(KEY, same), augment(KEY, same)
    np.testing.assert_array_equal(first, again)
    assert np.any(np.asarray(first) != np.asarray(augment(jax.random.key(1), same)))
    distinct = {image.tobytes() for image in np.asarray(first)}
    assert len(distinct) == 2 if augment in (ALL["flip"], ALL["flip vertical"]) else len(distinct) > 10


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
    np.testing.assert_allclose(rotate(30)(KEY, IMAGES), wanted, atol=1e-5)


def test_rotate_by_quarters_agrees_with_numpy():
    square = jnp.asarray(IMAGES[:5, :, :7])
    turned = turn(square, jnp.array([0.0, 90.0, 180.0, -90.0, 270.0]))
    wanted = [np.rot90(image, quarters) for image, quarters in zip(square, (0, 1, 2, 3, 3), strict=True)]
    np.testing.assert_allclose(turned, wanted, atol=1e-5)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 40])
def test_cutout_agrees_with_its_paper(size):
    centres = np.asarray(draw_centres(KEY, 6, 7, 9))
    wanted = IMAGES.copy()
    for image, (row, column) in zip(wanted, centres, strict=True):
        top, left = row - size // 2, column - size // 2
        image[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    np.testing.assert_array_equal(cutout(size)(KEY, IMAGES), wanted)


def test_cutout_erases_a_whole_square_within_the_image():
    erased = np.asarray(erase(jnp.ones((1, 8, 8, 1)), jnp.array([[4, 3]]), 3))[0, :, :, 0]
    wanted = np.ones((8, 8))
    wanted[3:6, 2:5] = 0
    np.testing.assert_array_equal(erased, wanted)


def test_offsets_are_uniform_and_rows_independent_of_columns():
    offsets = np.asarray(draw_offsets(KEY, 9000, 1))
    pairs = 3 * (offsets[:, 0] + 1) + offsets[:, 1] + 1
    counts = np.bincount(pairs, minlength=9)  # binomial (9000, 1/9): standard deviation 29.8
    assert len(counts) == 9
    assert np.abs(counts - 1000).max() < 5 * 29.8


def test_angles_and_centres_cover_their_range():
    angles = np.asarray(draw_angles(KEY, 4000, 10.0))
    counts, _ = np.histogram(angles, bins=8, range=(-10, 10))
    assert counts.sum() == 4000
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)
    centres = np.asarray(draw_centres(KEY, 6300, 7, 9))
    counts = np.bincount(centres[:, 0] * 9 + centres[:, 1], minlength=63)
    assert len(counts) == 63
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100)


def test_compose_gives_each_its_own_key():
    both = compose([shift(2), shift(2)])
    keys = [jax.random.fold_in(KEY, i) for i in range(2)]
    wanted = shift(2)(keys[1], shift(2)(keys[0], IMAGES))
    np.testing.assert_array_equal(both(KEY, IMAGES), wanted)
    assert compose([])(KEY, IMAGES) is IMAGES


@pytest.mark.parametrize("augment", [shift(2), crop(2), flip(), cutout(3)])
def test_bytes_stay_bytes(augment):
    images = np.random.default_rng(0).integers(1, 256, (5, 6, 6, 1), np.uint8)
    as_bytes, as_floats = augment(KEY, images), augment(KEY, images.astype(np.float32))
    assert as_bytes.dtype == jnp.uint8
    np.testing.assert_array_equal(np.asarray(as_bytes, np.float32), as_floats)


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


@pytest.mark.parametrize("name", ["shift", "crop", "flip", "rotate", "cutout"])
@pytest.mark.parametrize("jitted", [False, True])
def test_images_of_another_rank_are_refused_by_name(name, jitted):
    augment = {"shift": shift, "crop": crop, "flip": flip, "rotate": rotate, "cutout": cutout}[name]()
    augment = jax.jit(augment) if jitted else augment
    with pytest.raises(
        ValueError, match=rf"^{name}: expected images \(batch, .*, got the shape \(8, 28, 28\)"
    ):
        augment(KEY, jnp.zeros((8, 28, 28)))
