"""fnn.analysis.receptive_field: against what the windows of the layers add up to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.analysis.receptive_field import reach


def reach_of(layer, channels=1, **options):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 16, 16, channels)))
    params, state = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape, np.float32), shapes)
    return reach(lambda x: layer.apply(params, state, x)[0], channels, **options)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (fnn.conv(3, 1), 0),
        (fnn.upsample(3), 0),
        (fnn.conv(3, 3), 1),
        (fnn.conv(3, (1, 9)), 4),
        (fnn.conv(3, (9, 1)), 4),
        (fnn.conv(3, 4), 2),  # one cell before, two after
        (fnn.conv(3, 3, dilation=5), 5),
        (fnn.upsample(2, "bicubic"), 2),
        (fnn.conv_transpose(1, 9, stride=2), 2),
        (fnn.serial(fnn.upsample(2), fnn.conv(8, 9), fnn.relu, fnn.conv(4, 1), fnn.relu, fnn.conv(1, 5)), 3),
        (fnn.serial(fnn.conv(64, 5), fnn.tanh, fnn.conv(4, 3), fnn.pixel_shuffle(2)), 3),
        (fnn.serial(fnn.upsample(4), fnn.conv(4, 3, stride=2)), 1),
        (fnn.serial(fnn.conv(4, 3), fnn.sigmoid, fnn.conv(4, 3), fnn.hard_tanh, fnn.conv(1, 3)), 3),
    ],
)
def test_windows_add_up(layer, expected):
    assert reach_of(layer) == expected


def test_through_many_layers_it_is_seen_still():
    layers = [layer for _ in range(20) for layer in (fnn.conv(8, 3), fnn.relu)]
    assert reach_of(fnn.serial(*layers)) == 20


def test_channels_are_those_of_the_input():
    assert reach_of(fnn.serial(fnn.conv(12, 5), fnn.pixel_shuffle(2)), channels=3) == 2


def test_a_larger_picture_is_tried_where_one_is_too_small():
    layer = fnn.conv(1, (1, 41))
    assert reach_of(layer, sides=(64,)) == 20
    assert reach_of(layer, sides=(40,)) is None, "it comes as far as the border, and may go on"
    assert reach_of(layer, sides=(40, 42)) == 20


def test_what_looks_at_the_whole_picture_has_no_end():
    def centred(x):
        return x - x.mean((1, 2), keepdims=True)

    assert reach(centred, 1, sides=(16, 32)) is None


def test_what_looks_at_nothing_reaches_nowhere():
    assert reach(jnp.zeros_like, 1) == 0
