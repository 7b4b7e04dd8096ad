"""Convolutions rearranged to make several pixels at once: the same values, and when it is done."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import kernels
from fnn.kernels import Spec, blocks, xla
from fnn.kernels.native import loader

RNG = np.random.default_rng(0)

# space, window, stride, padding, channels in and out
MADE = [
    ((7, 5), (3, 3), ((1, 1), (1, 1)), 5, 1),
    ((9, 8), (5, 5), ((2, 2), (2, 2)), 3, 3),
    ((7, 6), (3, 2), ((2, 0), (0, 3)), 5, 2),
    ((7, 5), (3, 3), ((0, 0), (0, 0)), 2, 1),
    ((12,), (9,), ((4, 4),), 3, 1),
    ((1, 20), (1, 5), ((0, 0), (2, 2)), 3, 1),
    ((5, 4, 3), (3, 3, 3), ((1, 1), (1, 1), (1, 1)), 2, 1),
]
PAINTED = [
    ((24, 15), (9, 9), (3, 3), ((3, 3), (3, 3)), 1, 5),
    ((16, 10), (9, 9), (2, 2), ((3, 4), (3, 4)), 1, 5),
    ((24, 16), (9, 9), (8, 8), ((0, 1), (0, 1)), 1, 5),
    ((17, 11), (5, 5), (2, 3), ((2, 2), (2, 1)), 1, 5),
    ((16, 12), (4, 4), (2, 2), ((1, 1), (1, 1)), 3, 5),
    ((19, 13), (3, 4), (2, 2), ((0, 0), (0, 0)), 1, 4),
    ((30,), (9,), (4,), ((2, 3),), 1, 6),
]
RUN = {"y": xla.forward, "w": xla.to_kernel}


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def run(role, left, right, spec):
    return RUN[role](left, right, spec)


def geometry(space, window, stride, padding):
    return Spec(space, window, stride, padding, (1,) * len(space))


def close(got, wanted):
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space, window, padding, inputs, outputs", MADE)
def test_few_channels_made(space, window, padding, inputs, outputs):
    spec = geometry(space, window, (1,) * len(space), padding)
    x, kernel, y = (
        normal(2, *space, inputs),
        normal(*window, inputs, outputs),
        normal(2, *spec.out_space, outputs),
    )
    made = blocks.in_blocks("y", spec, inputs, outputs)
    assert made == blocks.in_blocks("w", spec, inputs, outputs)
    assert blocks.in_blocks("x", spec, inputs, outputs) is None
    forward = jax.jit(functools.partial(blocks.forward, spec=spec, blocks=made, run=run))
    close(forward(x, kernel), xla.forward(x, kernel, spec))
    to_kernel = jax.jit(functools.partial(blocks.to_kernel, spec=spec, blocks=made, run=run))
    close(to_kernel(x, y), xla.to_kernel(x, y, spec))


@pytest.mark.parametrize("space, window, stride, padding, inputs, outputs", PAINTED)
def test_few_channels_painted(space, window, stride, padding, inputs, outputs):
    spec = geometry(space, window, stride, padding)
    y, kernel = normal(2, *spec.out_space, outputs), normal(*window, inputs, outputs)
    made = blocks.in_blocks("x", spec, inputs, outputs)
    assert blocks.in_blocks("y", spec, inputs, outputs) is None
    to_input = jax.jit(functools.partial(blocks.to_input, spec=spec, blocks=made, run=run))
    close(to_input(y, kernel), xla.to_input(y, kernel, spec))


@pytest.mark.parametrize(
    "role, spec, inputs, outputs",
    [
        ("y", geometry((24, 24), (3, 3), (1, 1), ((1, 1), (1, 1))), 64, 64),  # vectors are full
        (
            "y",
            geometry((24, 24), (1, 1), (1, 1), ((0, 0), (0, 0))),
            64,
            1,
        ),  # a block has as many products more
        ("x", geometry((48, 48), (4, 4), (2, 2), ((1, 1), (1, 1))), 32, 64),
        ("x", geometry((24, 24), (3, 3), (1, 1), ((1, 1), (1, 1))), 1, 64),
        ("y", Spec((9, 9), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)), 4, 1),
        ("y", Spec((9, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2), 4, 2),
        ("x", geometry((4, 4), (2, 2), (2, 2), ((3, 3), (3, 3))), 1, 4),  # a pixel that nothing paints
        ("y", Spec((), (), (), (), ()), 64, 1),
    ],
)
def test_what_is_left_as_it_is(role, spec, inputs, outputs):
    assert blocks.in_blocks(role, spec, inputs, outputs) is None


@pytest.mark.skipif(not loader.available(), reason=loader.reason())
def test_native_convolutions_are_rearranged():
    """Of one channel 4 × 4 pixels at once, by a kernel of 16; a transposed one 3 × 3 by a kernel of 9."""
    spec = geometry((24, 24), (5, 5), (1, 1), ((2, 2), (2, 2)))
    text = (
        jax.jit(kernels.conv, static_argnums=2)
        .lower(normal(2, 24, 24, 8), normal(5, 5, 8, 1), spec)
        .as_text()
    )
    assert "tensor<8x8x8x16xf32>" in text
    spec = geometry((24, 24), (9, 9), (3, 3), ((3, 3), (3, 3)))
    lowered = jax.jit(kernels.conv_input, static_argnums=2).lower(
        normal(2, 8, 8, 8), normal(9, 9, 1, 8), spec
    )
    assert "tensor<3x3x8x9xf32>" in lowered.as_text()
