"""Tones: each transform against Pillow's ImageOps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from fnn.data.augment.tone import autocontrast, equalize, posterize, solarize

RNG = np.random.default_rng(0)
PICTURES = np.stack(
    [
        RNG.integers(0, 256, (40, 30, 3)),
        RNG.integers(60, 140, (40, 30, 3)),
        np.clip(RNG.normal([30, 120, 250], 20, (40, 30, 3)), 0, 255),
        np.broadcast_to([7, 0, 255], (40, 30, 3)),
        np.repeat(np.arange(1200).reshape(40, 30, 1) % 3 * 50, 3, 2),
    ]
).astype(np.uint8)
IMAGES = jnp.asarray(PICTURES, jnp.float32)


def by_pillow(operation, channels=3):
    pictures = PICTURES if channels == 3 else PICTURES[..., 0]
    done = [np.asarray(operation(Image.fromarray(picture))) for picture in pictures]
    return np.stack(done).reshape(IMAGES[..., :channels].shape).astype(np.float32)


CASES = {
    "autocontrast": (autocontrast, ImageOps.autocontrast, 1.001),  # Pillow cuts off what is behind the point
    "equalize": (equalize, ImageOps.equalize, 0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_contrast_is_stretched_as_by_pillow(name, channels):
    ours, theirs, off = CASES[name]
    got = jax.jit(lambda images: ours(images, 255))(IMAGES[..., :channels])
    np.testing.assert_allclose(got, by_pillow(theirs, channels), atol=off)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (15, 17)])
def test_small_images_are_equalised_as_by_pillow(size):
    picture = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    got = equalize(jnp.asarray(picture[None], jnp.float32), 255)[0]
    np.testing.assert_array_equal(got, np.asarray(ImageOps.equalize(Image.fromarray(picture))))


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_bits_are_dropped_as_by_pillow(bits):
    got = posterize(IMAGES, jnp.full(5, bits), 255)
    np.testing.assert_array_equal(got, by_pillow(lambda picture: ImageOps.posterize(picture, bits)))


@pytest.mark.parametrize("threshold", [0, 100, 178.5, 255, 256])
def test_the_negative_is_pillows(threshold):
    got = solarize(IMAGES, jnp.full(5, threshold), 255)
    np.testing.assert_array_equal(got, by_pillow(lambda picture: ImageOps.solarize(picture, threshold)))


@pytest.mark.slow
def test_each_image_has_its_own_argument():
    bits, thresholds = jnp.array([1, 2, 3, 4, 8]), jnp.array([0.0, 50.0, 100.0, 200.0, 256.0])
    for i in range(5):
        alone = posterize(IMAGES[i : i + 1], bits[i : i + 1], 255)[0]
        np.testing.assert_array_equal(posterize(IMAGES, bits, 255)[i], alone)
        alone = solarize(IMAGES[i : i + 1], thresholds[i : i + 1], 255)[0]
        np.testing.assert_array_equal(solarize(IMAGES, thresholds, 255)[i], alone)


@pytest.mark.slow
@pytest.mark.parametrize("white", [1.0, 16.0])
def test_white_is_only_a_scale(white):
    scale = white / 255
    for tone in (autocontrast, equalize):
        np.testing.assert_allclose(tone(IMAGES * scale, white), tone(IMAGES, 255) * scale, atol=1e-4)
    bits, thresholds = jnp.full(5, 3), jnp.full(5, 99.5)
    got = posterize(IMAGES * scale, bits, white), solarize(IMAGES * scale, thresholds * scale, white)
    wanted = posterize(IMAGES, bits, 255), solarize(IMAGES, thresholds, 255)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other * scale, atol=1e-4)
