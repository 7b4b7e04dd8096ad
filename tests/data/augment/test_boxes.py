"""Boxes: which pixels are in them by NumPy's slices, their distribution beside torchvision's algorithm."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.data.augment.boxes import draw_boxes, inside
from fnn.kernels import quick_key

KEY = quick_key(jax.random.key(0))  # as training gives it
_inside = jax.jit(lambda boxes: inside(boxes, (5, 7)))


@pytest.mark.parametrize(
    "box", [(0, 0, 5, 7), (1, 2, 3, 4), (-2, 5, 4, 9), (4, 6, 0, 3), (9, 9, 2, 2), (3, 3, 1, 1)]
)
def test_inside_agrees_with_slices(box):
    top, left, height, width = box
    wanted = np.zeros((5, 7, 1), bool)
    wanted[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    np.testing.assert_array_equal(_inside(jnp.array([box]))[0], wanted)


def by_torchvision(rng, size, scale, ratio):
    """``RandomResizedCrop.get_params`` of torchvision 0.28, with NumPy's randomness; None: nothing fits."""
    height, width = size
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    return None


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        pytest.param((20, 60), (0.5, 1.0), (0.5, 2.0), marks=pytest.mark.slow),
        pytest.param((32, 24), (0.02, 0.33), (0.3, 3.3), marks=pytest.mark.slow),
    ],
)
def test_boxes_are_drawn_as_by_torchvision(size, scale, ratio):
    boxes, fits = (np.asarray(x) for x in jax.jit(lambda key: draw_boxes(key, 4000, size, scale, ratio))(KEY))
    rng = np.random.default_rng(0)
    wanted = [by_torchvision(rng, size, scale, ratio) for _ in range(4000)]
    missing = wanted.count(None)
    assert abs((~fits).sum() - missing) <= 5 * math.sqrt(2 * max(missing, 1))
    assert (missing > 100) == (size == (20, 60))
    columns = zip(boxes[fits].T, np.array([box for box in wanted if box is not None]).T, strict=True)
    for got, expected in columns:  # top, left, height, width
        assert stats.ks_2samp(got, expected).pvalue > 1e-3
    top, left, height, width = boxes[fits].T
    assert (boxes[fits] >= [0, 0, 1, 1]).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()
    assert (top + height == size[0]).any() and (top == 0).any()  # both ends are reached


@pytest.mark.slow
def test_where_no_size_fits_it_is_said():
    boxes, fits = draw_boxes(KEY, 50, (8, 8), (0.9, 1.0), (1e20, 1e38))
    assert not np.asarray(fits).any()
    assert boxes.shape == (50, 4)
