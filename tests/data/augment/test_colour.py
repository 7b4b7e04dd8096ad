"""Colour: each transform against Pillow or the standard library, each draw against its distribution."""

from __future__ import annotations

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fnn.data import color_jitter
from fnn.data.augment import colour

KEY = jax.random.key(0)
PICTURES = np.random.default_rng(0).integers(0, 256, (4, 11, 13, 3)).astype(np.uint8)
IMAGES = jnp.asarray(PICTURES, jnp.float32)
FACTORS = [0.0, 0.4, 1.0, 1.7]
ADJUST = {
    "brightness": (colour.adjust_brightness, ImageEnhance.Brightness),
    "contrast": (colour.adjust_contrast, ImageEnhance.Contrast),
    "saturation": (colour.adjust_saturation, ImageEnhance.Color),
    "sharpness": (colour.adjust_sharpness, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("name", ADJUST)
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_adjusting_agrees_with_pillow_but_for_rounding(name, channels):
    ours, theirs = ADJUST[name]
    pictures = PICTURES if channels == 3 else PICTURES[..., 0]
    pairs = zip(pictures, FACTORS, strict=True)
    wanted = np.stack([theirs(Image.fromarray(p)).enhance(f) for p, f in pairs])
    adjust = jax.jit(lambda images, factors: ours(images, factors, 255))
    got = np.asarray(adjust(IMAGES[..., :channels], jnp.array(FACTORS)))
    np.testing.assert_allclose(got, wanted.reshape(got.shape).astype(np.float32), atol=1.5)
    np.testing.assert_allclose(got[2], PICTURES[2, ..., :channels], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADJUST)
def test_white_is_only_a_scale(name):
    adjust, _ = ADJUST[name]
    small = adjust(IMAGES / 255, jnp.array(FACTORS), 1.0)
    np.testing.assert_allclose(small * 255, adjust(IMAGES, jnp.array(FACTORS), 255.0), atol=1e-3)


def test_the_hue_is_turned_as_by_colorsys():
    turns = [-0.5, -0.1, 0.0, 0.3]
    images = IMAGES.at[0, 0, :4].set(jnp.array([[0, 0, 0], [255, 255, 255], [9, 9, 9], [255, 0, 0]]))
    wanted = np.zeros(images.shape)
    for i, turn in enumerate(turns):
        for place in np.ndindex(11, 13):
            h, s, v = colorsys.rgb_to_hsv(*np.asarray(images[i][place], np.float64) / 255)
            wanted[i][place] = colorsys.hsv_to_rgb((h + turn) % 1, s, v)
    got = jax.jit(lambda images, turns: colour.adjust_hue(images, turns, 255))(images, jnp.array(turns))
    np.testing.assert_allclose(got / 255, wanted, atol=1e-4)


@pytest.mark.slow
def test_grey_images_have_no_hue_and_no_saturation():
    one = IMAGES[..., :1]
    jitter = color_jitter(saturation=0.9, hue=0.5)
    np.testing.assert_allclose(jitter(KEY, one), one, atol=1e-4)
    np.testing.assert_allclose(jitter(KEY, jnp.tile(one, 3)), np.tile(one, 3), atol=1e-3)


def test_an_image_too_small_to_smooth_is_as_sharp_as_it_gets():
    np.testing.assert_array_equal(
        colour.adjust_sharpness(IMAGES[:, :2], jnp.array(FACTORS), 255), IMAGES[:, :2]
    )


@pytest.mark.slow
def test_the_jitter_is_its_adjustments_in_order_by_what_was_drawn():
    images = IMAGES
    for i, strength in enumerate([0.5, 0.4, 0.3]):
        factors = colour.draw_factors(jax.random.fold_in(KEY, i), 4, strength)
        images = list(ADJUST.values())[i][0](images, factors, 255)
    images = colour.adjust_hue(images, colour.draw_turns(jax.random.fold_in(KEY, 3), 4, 0.2), 255)
    np.testing.assert_allclose(color_jitter(0.5, 0.4, 0.3, 0.2)(KEY, IMAGES), images, atol=1e-3)
    np.testing.assert_array_equal(color_jitter()(KEY, IMAGES), IMAGES)


@pytest.mark.parametrize(("strength", "low", "high"), [(0.4, 0.6, 1.4), (3.0, 0.0, 4.0)])
def test_factors_cover_their_range(strength, low, high):
    factors = np.asarray(colour.draw_factors(KEY, 4000, strength))
    counts, _ = np.histogram(factors, bins=8, range=(low, high))
    assert counts.sum() == 4000
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


def test_turns_cover_their_range():
    counts, _ = np.histogram(np.asarray(colour.draw_turns(KEY, 4000, 0.1)), bins=8, range=(-0.1, 0.1))
    assert counts.sum() == 4000
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)
