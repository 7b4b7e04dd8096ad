"""Mixing: each transform against NumPy, each draw against its distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.data import cutmix, mixup
from fnn.data.augment.mixing import beta_quantiles, blend, draw_partners, draw_patches, draw_shares, paste
from fnn.kernels import quick_key

KEY = quick_key(jax.random.key(0))  # as training gives it
_draw_shares = jax.jit(draw_shares, static_argnums=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 7, 9, 3)).astype(np.float32)
PARTNER = np.array([2, 3, 1, 0, 4, 5], np.int32)
SHARE = np.array([0, 0.25, 0.5, 0.9, 1, 0.3], np.float32)


@pytest.mark.parametrize(
    "inputs", [IMAGES, *(pytest.param(IMAGES[:, 0, 0, :end], marks=pytest.mark.slow) for end in (1, 3))]
)
def test_mixup_is_the_papers_formula_for_any_shape(inputs):
    mixed = jax.jit(blend)(jnp.asarray(inputs), jnp.asarray(PARTNER), jnp.asarray(SHARE))
    share = SHARE.reshape(6, *[1] * (inputs.ndim - 1))
    np.testing.assert_allclose(mixed.inputs, share * inputs + (1 - share) * inputs[PARTNER], rtol=1e-6)
    np.testing.assert_array_equal(mixed.partner, PARTNER)
    np.testing.assert_array_equal(mixed.share, SHARE)


def test_cutmix_pastes_a_box_and_counts_the_pixels_that_stay():
    boxes = np.array([[0, 0, 7, 9], [1, 2, 3, 4], [-2, 7, 4, 9], [3, 3, 0, 5], [1, 1, 2, 2], [6, 8, 2, 2]])
    wanted, share = IMAGES.copy(), []
    for i, (top, left, height, width) in enumerate(boxes):
        rows, columns = slice(max(top, 0), top + height), slice(left, left + width)
        wanted[i, rows, columns] = IMAGES[PARTNER[i], rows, columns]
        share.append(1 - IMAGES[i, rows, columns, 0].size / 63)
    mixed = jax.jit(paste)(jnp.asarray(IMAGES), jnp.asarray(PARTNER), jnp.asarray(boxes))
    np.testing.assert_array_equal(mixed.inputs, wanted)
    np.testing.assert_allclose(mixed.share, share, atol=1e-6)
    np.testing.assert_array_equal(mixed.partner, PARTNER)


def by_its_authors(rng, size, share):
    """``rand_bbox`` of the authors' code, with NumPy's randomness, before it is cut off at the edges."""
    height, width = size
    cut = np.sqrt(1 - share)
    rows, columns = int(height * cut) // 2, int(width * cut) // 2
    y, x = rng.integers(height), rng.integers(width)
    return y - rows, x - columns, 2 * rows, 2 * columns


@pytest.mark.parametrize(
    "share", [0.3, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.0, 0.99, 1.0))]
)
def test_patches_are_drawn_as_by_the_authors(share):
    draw = jax.jit(lambda shares: draw_patches(KEY, (16, 20), shares))
    boxes = np.asarray(draw(jnp.full(3000, share, jnp.float32)))
    rng = np.random.default_rng(0)
    wanted = np.array([by_its_authors(rng, (16, 20), np.float32(share)) for _ in range(3000)])
    np.testing.assert_array_equal(boxes[:, 2:], wanted[:, 2:])
    for got, expected in zip(boxes.T[:2], wanted.T[:2], strict=True):
        assert got.min() == expected.min() and got.max() == expected.max()
        assert stats.ks_2samp(got, expected).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_beta_distributed(alpha):
    shares = _draw_shares(KEY, 4000, beta_quantiles(alpha), 1.0)
    assert stats.kstest(np.asarray(shares, np.float64), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [1e-30, 1e-3, 1e10, 1e30])
def test_shares_of_an_extreme_alpha_are_numbers(alpha):
    quantiles = beta_quantiles(alpha)
    assert (quantiles >= 0).all() and (quantiles <= 1).all()
    assert abs(quantiles.mean() - 0.5) < 1e-3


def test_an_example_is_mixed_with_its_probability():
    shares = np.asarray(_draw_shares(KEY, 4000, beta_quantiles(1.0), 0.3))
    assert abs((shares < 1).sum() - 1200) < 5 * np.sqrt(4000 * 0.3 * 0.7)
    assert (np.asarray(_draw_shares(KEY, 100, beta_quantiles(1.0), 0.0)) == 1).all()


def test_partners_are_a_permutation_and_any_is_as_likely():
    partners = np.asarray(jax.vmap(lambda key: draw_partners(key, 5))(jax.random.split(KEY, 2000)))
    np.testing.assert_array_equal(np.sort(partners, 1), np.tile(np.arange(5), (2000, 1)))
    counts = np.stack([np.bincount(column, minlength=5) for column in partners.T])
    assert np.abs(counts - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("make", [mixup, cutmix])
def test_shares_are_of_each_example_and_apart_from_the_partners(make):
    """In images of one value each, share and partner can be read off."""
    images = jnp.broadcast_to(jnp.arange(64.0).reshape(-1, 1, 1, 1), (64, 8, 8, 1))
    mixed = jax.jit(make(1.0))(KEY, images)
    means = np.asarray(mixed.inputs).mean((1, 2, 3))
    share, partner = np.asarray(mixed.share), np.asarray(mixed.partner)
    np.testing.assert_allclose(means, share * np.arange(64) + (1 - share) * partner, rtol=1e-5, atol=1e-4)
    assert len(np.unique(share)) > 10
    assert abs(np.corrcoef(share, partner)[0, 1]) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("make", [mixup, cutmix])
def test_without_probability_nothing_changes(make):
    mixed = make(probability=0.0)(KEY, IMAGES)
    np.testing.assert_array_equal(mixed.inputs, IMAGES)
    np.testing.assert_array_equal(mixed.share, np.ones(6))
