"""Several augmentations as one: one after the other, or one of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.data import Mixed, compose, cutmix, flip, mixup, one_of, shift
from fnn.data.augment.augmentation import draw_choice

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(6, 7, 9, 2)).astype(np.float32)


def adding(number):
    return lambda key, images: images + number


def mixing(number):
    """Mixes nothing, but says so."""
    return lambda key, images: Mixed(images + number, jnp.arange(6)[::-1], jnp.full(6, 0.25))


def test_compose_gives_each_its_own_key():
    both = compose([shift(2), shift(2)])
    keys = [jax.random.fold_in(KEY, i) for i in range(2)]
    wanted = shift(2)(keys[1], shift(2)(keys[0], IMAGES))
    np.testing.assert_array_equal(both(KEY, IMAGES), wanted)
    assert compose([])(KEY, IMAGES) is IMAGES


def test_what_comes_after_mixing_changes_the_mixed_images():
    mixed = compose([adding(1), mixing(10), adding(100)])(KEY, IMAGES)
    np.testing.assert_allclose(mixed.inputs, IMAGES + 111, rtol=1e-6)
    np.testing.assert_array_equal(mixed.partner, [5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(mixed.share, [0.25] * 6)


def test_examples_are_mixed_once():
    with pytest.raises(ValueError, match=r"one augmentation that mixes .* at index 2; one_of chooses"):
        jax.eval_shape(compose([mixup(), flip(), cutmix()]), KEY, IMAGES)


@pytest.mark.slow
def test_one_of_chooses_as_often_as_the_weights_say_and_for_the_whole_batch():
    augment = one_of([adding(0), adding(1), adding(2)], [1, 0, 3])
    keys = jax.random.split(KEY, 400)
    added = np.asarray(jax.vmap(lambda key: augment(key, IMAGES) - IMAGES)(keys)).round().reshape(400, -1)
    assert (added == added[:, :1]).all()
    counts = np.bincount(added[:, 0].astype(int), minlength=3)
    assert counts[1] == 0
    assert abs(counts[0] - 100) < 5 * np.sqrt(400 * 0.25 * 0.75)


@pytest.mark.slow
def test_by_default_all_are_as_often():
    chosen = jax.vmap(lambda key: draw_choice(key, np.full(4, 0.25)))(jax.random.split(KEY, 4000))
    assert np.abs(np.bincount(chosen, minlength=4) - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_beside_one_that_mixes_the_others_mix_with_nothing():
    augment = one_of([adding(3), mixing(0)], [1, 0])
    mixed = augment(KEY, IMAGES)
    np.testing.assert_allclose(mixed.inputs, IMAGES + 3, rtol=1e-6)
    np.testing.assert_array_equal(mixed.partner, range(6))
    np.testing.assert_array_equal(mixed.share, np.ones(6))
    assert not isinstance(one_of([adding(3)])(KEY, IMAGES), Mixed)


def test_nested_choices_are_traced_once_each():
    traced = []

    def seen(key, images):
        traced.append(images.shape)
        return images

    augment = seen
    for _ in range(8):
        augment = one_of([augment])
    jax.eval_shape(augment, KEY, IMAGES)
    assert len(traced) == 1
