"""Crops that are resized: against Pillow, and where nothing fits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn.data import random_resized_crop
from fnn.data.augment.boxes import draw_boxes
from fnn.data.augment.resized import central, enlarge

KEY = jax.random.key(0)
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 12, 17, 3)).astype(np.uint8)


def by_pillow(picture, box):
    """In float, channel by channel, so that nothing is rounded."""
    top, left, height, width = (int(side) for side in box)
    part = picture[top : top + height, left : left + width].astype(np.float32)
    size = picture.shape[1], picture.shape[0]
    scaled = [Image.fromarray(part[..., i]).resize(size, Image.Resampling.BILINEAR) for i in range(3)]
    return np.stack([np.asarray(channel) for channel in scaled], -1)


def test_enlarge_agrees_with_pillow():
    boxes = np.array([[0, 0, 12, 17], [3, 2, 5, 9], [11, 16, 1, 1], [0, 4, 12, 1], [2, 0, 7, 17]])
    enlarged = jax.jit(enlarge)(jnp.asarray(PICTURES, jnp.float32), jnp.asarray(boxes))
    wanted = [by_pillow(*pair) for pair in zip(PICTURES, boxes, strict=True)]
    np.testing.assert_allclose(enlarged, wanted, atol=2e-3)  # Pillow's own weights are rounded
    np.testing.assert_allclose(enlarged[0], PICTURES[0], atol=1e-4)


@pytest.mark.slow
def test_a_crop_is_the_box_that_was_drawn_enlarged():
    images = PICTURES.astype(np.float32)
    boxes, fits = draw_boxes(KEY, 5, (12, 17), (0.08, 1), (3 / 4, 4 / 3))
    assert np.asarray(fits).all()
    wanted = [by_pillow(*pair) for pair in zip(PICTURES, np.asarray(boxes), strict=True)]
    np.testing.assert_allclose(jax.jit(random_resized_crop())(KEY, images), wanted, atol=2e-3)


@pytest.mark.parametrize(
    ("size", "ratio", "box"),
    [
        ((20, 20), (3 / 4, 4 / 3), (0, 0, 20, 20)),
        ((20, 80), (3 / 4, 4 / 3), (0, 26, 20, 27)),
        ((81, 20), (3 / 4, 4 / 3), (27, 0, 27, 20)),
        ((5, 9), (100.0, 200.0), (2, 0, 1, 9)),
        ((9, 5), (1e-9, 1e-8), (0, 2, 9, 1)),
    ],
)
def test_the_central_box_has_the_nearest_ratio(size, ratio, box):
    assert central(size, ratio) == box


@pytest.mark.slow
def test_where_nothing_fits_it_is_the_central_box():
    picture = PICTURES[0].astype(np.float32)
    wanted = by_pillow(picture, central((12, 17), (30.0, 40.0)))
    cropped = random_resized_crop((1.0, 1.0), (30.0, 40.0))(KEY, picture[None])
    np.testing.assert_allclose(cropped[0], wanted, atol=2e-3)
