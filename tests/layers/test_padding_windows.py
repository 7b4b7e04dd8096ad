"""Padding and windows against their definitions, position by position."""

from __future__ import annotations

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.kernels.windows import window_slices
from fnn.layers.padding import check_padding, pairs

SIZES = list(itertools.product(range(1, 9), (1, 2, 3, 5), (1, 2, 3)))


def test_same_gives_ceil_of_input_over_stride_with_the_odd_cell_behind():
    for n, reach, stride in SIZES:
        ((before, after),) = pairs((n,), (reach,), (stride,), "SAME")
        assert (n + before + after - reach) // stride + 1 == math.ceil(n / stride)
        assert after - before in (0, 1)
        if before + after:  # not a cell more than the last window needs
            assert (math.ceil(n / stride) - 1) * stride + reach == n + before + after


def test_other_paddings_are_taken_as_they_are():
    assert pairs((5, 6), (3, 3), (1, 2), "VALID") == ((0, 0), (0, 0))
    assert pairs((5, 6), (3, 3), (1, 2), 2) == ((2, 2), (2, 2))
    assert pairs((5, 6), (3, 3), (1, 2), [(0, 1), [2, 3]]) == ((0, 1), (2, 3))


def test_a_window_that_just_fits_and_one_that_does_not():
    assert pairs((3, 3), (5, 3), (1, 1), [(1, 1), (0, 0)]) == ((1, 1), (0, 0))
    with pytest.raises(fnn.LayerError) as error:
        pairs((3, 3), (6, 3), (1, 1), [(1, 1), (0, 0)])
    assert str(error.value) == (
        "expected space for a window of (6, 3), got (3, 3) with padding [(1, 1), (0, 0)]"
    )


def test_as_many_pairs_as_axes():
    with pytest.raises(fnn.LayerError) as error:
        pairs((5, 6), (3, 3), (1, 1), [(1, 1)])
    assert str(error.value) == "expected 2 pairs of padding, one a spatial axis, got 1"


@pytest.mark.parametrize(
    "padding", ["same", "CIRCULAR", -1, [(1, 2, 3)], [(1,), (1,)], (1, 1), 1.5, None, [(1.5, 0), (0, 0)]]
)
def test_what_is_no_padding_is_refused_when_the_layer_is_made(padding):
    message = f"padding must be 'SAME', 'VALID', a number or pairs, got {padding!r}"
    for kind, make in {
        "conv": lambda: fnn.conv(1, 1, padding=padding),
        "depthwise_conv": lambda: fnn.depthwise_conv(1, padding=padding),
        "conv_transpose": lambda: fnn.conv_transpose(1, 1, padding=padding),
        "local_conv": lambda: fnn.local_conv(1, 1, padding=padding),
        "max_pool": lambda: fnn.max_pool(1, padding=padding),
        "avg_pool": lambda: fnn.avg_pool(1, padding=padding),
    }.items():
        with pytest.raises(ValueError) as error:
            make()
        assert str(error.value) == f"{kind}: {message}"


def test_what_is_padding_is_not_refused():
    for padding in ("SAME", "VALID", 0, 3, [(0, 1)], ((1, 1), [2, 0])):
        check_padding("conv", padding)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("sides", [((0, 0), (0, 0)), ((1, 0), (2, 1))])
def test_slices_hold_each_cell_of_each_window(stride, sides):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    window = (3, 2)
    padded = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=7.0)
    out = [(padded.shape[i + 1] - window[i]) // stride[i] + 1 for i in (0, 1)]
    slices = window_slices(jnp.asarray(x), window, stride, sides, fill=7.0)
    assert len(slices) == 6
    for (row, column), got in zip(np.ndindex(*window), slices, strict=True):
        assert got.shape == (2, *out, 3)
        for i, j in np.ndindex(*out):
            np.testing.assert_array_equal(
                got[:, i, j], padded[:, i * stride[0] + row, j * stride[1] + column]
            )
