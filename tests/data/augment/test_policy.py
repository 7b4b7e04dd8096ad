"""RandAugment: each operation against Pillow, as it is used in the paper; the draw by its distribution."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from fnn.data import randaugment
from fnn.data.augment.policy import OPERATIONS, draw_operations, operate
from fnn.kernels import quick_key

KEY = quick_key(jax.random.key(0))  # as training gives it
SIZE = 24, 32
PICTURE = np.random.default_rng(0).integers(9, 240, (*SIZE, 3)).astype(np.uint8)
LEVEL = 9 / 30


def affine(*coefficients):
    return lambda picture: picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )


def enhance(kind, sign):
    return lambda picture: kind(picture).enhance(1 + sign * 0.9 * LEVEL)


def by_pillow(sign):
    """Each operation at magnitude 9 of 30, with torchvision's strengths; geometry in Pillow's conventions."""
    shear, right, down = 0.3 * LEVEL * sign, int(150 / 331 * 32 * LEVEL), int(150 / 331 * 24 * LEVEL)
    return {
        "identity": lambda picture: picture,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "rotate": lambda picture: picture.rotate(sign * 30 * LEVEL, Image.Resampling.BILINEAR),
        "solarize": lambda picture: ImageOps.solarize(picture, 255 * (1 - LEVEL)),
        "color": enhance(ImageEnhance.Color, sign),
        "posterize": lambda picture: ImageOps.posterize(picture, 7),
        "contrast": enhance(ImageEnhance.Contrast, sign),
        "brightness": enhance(ImageEnhance.Brightness, sign),
        "sharpness": enhance(ImageEnhance.Sharpness, sign),
        "shear-x": affine(1, shear, 0, 0, 1, 0),
        "shear-y": affine(1, 0, 0, shear, 1, 0),
        "translate-x": affine(1, 0, sign * right, 0, 1, 0),
        "translate-y": affine(1, 0, 0, 0, 1, sign * down),
    }


@functools.cache
def done(sign):
    """Every operation on the one picture, in one call."""
    n = len(OPERATIONS)
    images = jnp.tile(PICTURE.astype(np.float32)[None], (n, 1, 1, 1))
    compiled = jax.jit(operate, static_argnums=(3, 4))
    return np.asarray(compiled(images, jnp.arange(n), jnp.full(n, sign), LEVEL, 255.0))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [-1.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_an_operation_agrees_with_pillow_but_for_rounding(name, sign):
    got = done(sign)[list(OPERATIONS).index(name)]
    picture = Image.fromarray(PICTURE)
    wanted = np.asarray(by_pillow(sign)[name](picture), np.float32)
    whole = np.ones(SIZE, bool)
    if name in ("rotate", "shear-x", "shear-y"):
        # at the picture's edge Pillow goes from a pixel to black at once, and here bilinearly: compared is
        # where all four neighbours are in the picture
        inner = np.zeros(SIZE, np.uint8)
        inner[2:-2, 2:-2] = 255
        whole = np.asarray(by_pillow(sign)[name](Image.fromarray(inner))) == 255
        assert whole.mean() > 0.5
    np.testing.assert_allclose(got[whole], wanted[whole], atol=1.5)
    assert name == "identity" or np.any(got != PICTURE)


@pytest.mark.slow
def test_on_other_devices_all_at_once_is_the_same(monkeypatch):
    n = 28
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (n, 9, 11, 3)), jnp.float32)
    chosen, signs = jnp.arange(n) % 14, jnp.where(jnp.arange(n) < 14, 1.0, -1.0)
    one_by_one = operate(images, chosen, signs, 0.5, 255.0)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, cpu, default: default(*given))
    at_once = operate(images, chosen, signs, 0.5, 255.0)
    np.testing.assert_allclose(at_once, one_by_one, atol=1e-2)


def test_operations_and_signs_are_as_likely_and_apart():
    chosen, signs = draw_operations(KEY, 5600)
    counts = np.bincount(2 * np.asarray(chosen) + (np.asarray(signs) > 0), minlength=28)
    assert len(counts) == 28
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)
    assert set(np.asarray(signs)) == {-1.0, 1.0}


@pytest.mark.slow
def test_randaugment_is_so_many_operations_as_drawn():
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (6, 9, 11, 3)), jnp.float32)
    wanted = images
    for i in range(3):
        wanted = operate(wanted, *draw_operations(jax.random.fold_in(KEY, i), 6), 0.5, 255.0)
    np.testing.assert_allclose(randaugment(3, 15)(KEY, images), wanted, atol=1e-2)
    np.testing.assert_array_equal(randaugment(0)(KEY, images), images)


@pytest.mark.slow
def test_without_magnitude_nothing_is_moved_or_enhanced():
    n = len(OPERATIONS)
    images = jnp.tile(PICTURE.astype(np.float32)[None], (n, 1, 1, 1))
    got = operate(images, jnp.arange(n), jnp.ones(n), 0.0, 255.0)
    for name, image in zip(OPERATIONS, got, strict=True):
        if name not in ("autocontrast", "equalize", "solarize"):
            np.testing.assert_allclose(image, PICTURE, atol=1e-3, err_msg=name)
