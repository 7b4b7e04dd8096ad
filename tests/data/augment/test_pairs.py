"""Pairs of pictures: both are cut, turned and shrunk alike, against NumPy and Pillow."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn.data import Paired, compose, flip, patch, rescale, rot90
from fnn.data.augment.pairs import SUPPORT, _shrunk
from fnn.data.super_resolution import shrink
from fnn.kernels import quick_key

pytestmark = pytest.mark.usefixtures("quick_compiler")
KEY = quick_key(jax.random.key(0))  # as training gives it
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def enlarged(images: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel becomes a square of them."""
    return images.repeat(scale, 1).repeat(scale, 2)


def pair_of(n: int, height: int, width: int, channels: int = 1, scale: int = 3) -> Paired:
    """Noise, and the same enlarged: so that each pixel says where it is from."""
    images = RNG.integers(0, 256, (n, height, width, channels)).astype(np.float32)
    return Paired(images, enlarged(images, scale))


def numbered(n: int, height: int, width: int) -> np.ndarray:
    """Pictures each pixel of which is its index."""
    return np.tile(np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1), (n, 1, 1, 1))


def counted(found: np.ndarray, many: int) -> np.ndarray:
    """How often each index was drawn, which must be as if each were as likely."""
    counts = np.bincount(found.astype(int).ravel(), minlength=many)
    expected = found.size / many
    assert len(counts) == many
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected * (1 - 1 / many))
    return counts


# ---------------------------------------------------------------- both alike


@pytest.mark.parametrize(
    ("augment", "size", "scale"),
    [
        (patch(3), 3, 2),
        (flip(), 6, 2),
        (flip(0.5, "vertical"), 6, 3),
        (rot90(), 6, 3),
        (compose([patch(5), flip(), rot90(), flip(0.5, "vertical"), patch(2)]), 2, 1),
    ],
    ids=["patch", "flip", "flip vertical", "rot90", "all"],
)
def test_what_was_the_same_place_stays_it(augment, size, scale):
    pair = pair_of(40, 6, 6, 2, scale)
    inputs, targets = jax.jit(augment)(KEY, pair)
    assert inputs.shape == (40, size, size, 2)
    np.testing.assert_array_equal(targets, enlarged(np.asarray(inputs), scale))
    assert np.any(np.asarray(inputs) != pair.inputs[:, :size, :size])


def test_targets_may_have_other_channels():
    images = pair_of(5, 6, 6, 1, 2)
    pair = Paired(images.inputs, np.tile(images.targets, (1, 1, 1, 3)))
    for augment in (patch(4), flip(), rot90(), rescale(1.0)):
        assert jax.eval_shape(augment, KEY, pair).targets.shape[-1] == 3


# ---------------------------------------------------------------- patch


def test_each_place_of_a_patch_is_as_likely():
    small = numbered(4800, 5, 6)
    found = np.asarray(jax.jit(patch(3))(KEY, Paired(small, enlarged(small, 2))).inputs)
    corners = found[:, 0, 0, 0]
    rows, columns = corners // 6, corners % 6
    counted(rows * 4 + columns, 3 * 4)  # every place where it fits, and no other
    within = found[..., 0] - corners.reshape(-1, 1, 1)
    np.testing.assert_array_equal(within, np.tile(small[:1, :3, :3, 0], (4800, 1, 1)))


def test_a_patch_of_the_whole_is_the_whole():
    pair = pair_of(3, 4, 4)
    for one, other in zip(jax.jit(patch(4))(KEY, pair), pair, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- rot90


def test_each_quarter_turn_is_as_likely_and_numpys():
    pair = pair_of(2000, 3, 3, 2, 2)
    found = jax.jit(rot90())(KEY, pair)
    turns = np.full(2000, -1)
    for k in range(4):
        turned = [np.rot90(images, k, (1, 2)) for images in pair]
        same = [np.all(np.asarray(x) == y, axis=(1, 2, 3)) for x, y in zip(found, turned, strict=True)]
        np.testing.assert_array_equal(*same)
        turns[same[0]] = k
    counted(turns, 4)


# ---------------------------------------------------------------- rescale


@pytest.mark.parametrize("factor", [1.0, 0.93, 0.71, 0.123])
def test_a_part_is_shrunk_as_pillow_does_it(factor):
    image = RNG.integers(0, 256, (48, 48, 3)).astype(np.float32)
    size = int(48 * factor * 0.8)
    room = int(48 * factor - size)
    shrunk = jax.jit(functools.partial(_shrunk, size))
    for corner in ((0, 0), (room, 0), (room // 2, room)):
        top, left = (at / factor for at in corner)
        box = (left, top, left + size / factor, top + size / factor)
        planes = [Image.fromarray(image[..., c]) for c in range(3)]
        theirs = np.stack([p.resize((size, size), Image.Resampling.BICUBIC, box) for p in planes], -1)
        ours = shrunk(jnp.asarray(image), jnp.float32(factor), jnp.array(corner, jnp.float32))
        assert np.abs(ours - np.clip(theirs, 0, 255)).max() < 0.5 + 2e-3
        assert np.all(np.asarray(ours) == np.rint(ours))


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def cut(request):
    """Many cuts of one picture, whose factor is 1, and where each was cut."""
    scale, n = request.param, 2000
    large = RNG.integers(0, 256, (1, 10 * scale, 10 * scale, 1)).astype(np.float32)
    pair = Paired(np.zeros((n, 10, 10, 1), np.float32), np.tile(large, (n, 1, 1, 1)))
    small, targets = (np.asarray(x) for x in jax.jit(rescale(0.7, share=0.0))(KEY, pair))
    assert (small.shape, targets.shape) == ((n, 3, 3, 1), (n, 3 * scale, 3 * scale, 1))
    edge, room = SUPPORT * scale, 3 * scale  # of the 7 that are cut out 2 are lost to each side
    places = {}
    for top, left in np.ndindex(room + 1, room + 1):
        inner = large[0, top + edge : top + edge + 3 * scale, left + edge : left + edge + 3 * scale]
        places[inner.tobytes()] = top, left
    return scale, large[0], small, np.array([places[target.tobytes()] for target in targets])


def test_with_the_factor_1_each_place_of_the_target_is_as_likely(cut):
    scale, _, _, places = cut
    many = 3 * scale + 1
    counted(places[:, 0] * many + places[:, 1], many**2)


def test_with_the_factor_1_pictures_are_the_targets_shrunk(cut):
    """The part that was cut out, and where they lie on its grid the whole picture, all the same."""
    scale, large, small, places = cut
    whole, wrong, on_grid = shrink(large, scale), 0, 0
    for picture, (top, left) in zip(small[:300], places[:300], strict=True):
        part = large[top : top + 7 * scale, left : left + 7 * scale]
        wanted = shrink(part, scale)[SUPPORT:-SUPPORT, SUPPORT:-SUPPORT]
        assert np.abs(picture - wanted).max() <= 1
        wrong += np.any(picture != wanted)
        if top % scale == left % scale == 0:
            on_grid += 1
            row, column = top // scale + SUPPORT, left // scale + SUPPORT
            assert np.abs(picture - whole[row : row + 3, column : column + 3]).max() <= 1
    assert on_grid > 10
    assert wrong < 10  # halves, which are rounded either way


def test_nothing_is_lost_but_the_kernels_support():
    pair = pair_of(2, 9, 9, 1, 2)
    inputs, targets = jax.jit(rescale(1.0))(KEY, pair)
    np.testing.assert_array_equal(targets, pair.targets[:, 4:-4, 4:-4])
    wanted = [shrink(target, 2)[2:-2, 2:-2] for target in pair.targets]
    assert np.abs(inputs - np.array(wanted, np.float32)).max() <= 1


@pytest.mark.slow
def test_factors_are_uniform_and_the_same_for_both_axes_and_both_pictures():
    """Of ramps a shrunk one is steeper: one channel goes from left to right, one from top to bottom."""
    n, slope = 2000, 3
    ramp = slope * np.arange(80, dtype=np.float32).reshape(1, -1)
    ramps = np.stack([np.tile(ramp, (80, 1)), np.tile(ramp.T, (1, 80))], -1)
    pair = Paired(np.zeros((n, 40, 40, 2), np.float32), np.tile(ramps, (n, 1, 1, 1)))
    inputs, targets = (np.asarray(x) for x in jax.jit(rescale(0.6, share=0.5))(KEY, pair))
    assert (inputs.shape, targets.shape) == ((n, 20, 20, 2), (n, 40, 40, 2))
    rise = np.stack([targets[:, 0, -1, 0] - targets[:, 0, 0, 0], targets[:, -1, 0, 1] - targets[:, 0, 0, 1]])
    across, down = slope * 39 / rise  # to one in a hundred, as values are rounded
    np.testing.assert_allclose(across, down, rtol=0.02)
    assert 0.59 < across.min() < 0.61
    assert across.max() == 1
    assert abs(np.mean(across > 0.99) - 0.5) < 0.01 + 5 * np.sqrt(0.25 / n)
    counted((across[across < 0.92] - 0.6).clip(0) // 0.08, 4)
    places = np.abs(inputs - targets.reshape(n, 20, 2, 20, 2, 2).mean((2, 4)))
    assert places.max() <= 1  # each small pixel shows the middle of its large ones
    for small, large in zip(inputs[:20], targets, strict=False):
        again = shrink(large, 2)[SUPPORT:-SUPPORT, SUPPORT:-SUPPORT]
        assert np.abs(small[SUPPORT:-SUPPORT, SUPPORT:-SUPPORT] - again).max() <= 1


@pytest.mark.slow
def test_both_are_bytes_from_0_to_255():
    pair = pair_of(50, 12, 12)
    extreme = Paired(pair.inputs, 255 * (pair.targets > 128).astype(np.float32))
    for found in jax.jit(rescale(0.5, share=1.0))(KEY, extreme):
        np.testing.assert_array_equal(found, np.rint(found))
        assert (found.min(), found.max()) == (0, 255)


# ---------------------------------------------------------------- what is refused


def zeros(small: tuple[int, ...], large: tuple[int, ...]) -> Paired:
    return Paired(jnp.zeros((2, *small, 1)), jnp.zeros((2, *large, 1)))


@pytest.mark.parametrize("augment", [patch(4), rescale()], ids=["patch", "rescale"])
@pytest.mark.parametrize("large", [(30, 30), (9, 9), (40, 20), (41, 41)])
def test_targets_of_no_whole_scale_are_refused(augment, large):
    message = r"^\w+: expected targets a whole number of times as large as pictures \(2, 20, 20, 1\), got "
    with pytest.raises(ValueError, match=message):
        augment(KEY, zeros((20, 20), large))


def test_what_is_too_small_or_not_square_is_refused():
    with pytest.raises(ValueError, match=r"^patch: expected a size of at most the 6 x 9 of .*, got 7$"):
        patch(7)(KEY, zeros((6, 9), (12, 18)))
    for small, text in (((6, 6), r"\(2, 6, 6, 1\) by 0.6"), ((20, 40), r"\(2, 20, 40, 1\) by 0.6")):
        message = rf"^rescale: expected square pictures of at least 5 pixels when shrunk, got {text}$"
        with pytest.raises(ValueError, match=message):
            rescale(0.6)(KEY, zeros(small, tuple(2 * side for side in small)))
    with pytest.raises(ValueError, match=r"^rot90: expected square images, got the shape \(2, 6, 9, 1\)$"):
        rot90()(KEY, zeros((6, 9), (12, 18)))
