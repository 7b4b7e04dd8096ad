"""fnn.kernels.max_pool: every form against `lax.reduce_window`, and under every transformation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnn import kernels
from fnn.kernels import Windows

RNG = np.random.default_rng(0)
CASES = {
    "2/2": Windows((6, 8), (2, 2), (2, 2), ((0, 0), (0, 0))),
    "3/2": Windows((7, 7), (3, 3), (2, 2), ((0, 0), (0, 0))),
    "2/1": Windows((5, 6), (2, 2), (1, 1), ((0, 0), (0, 0))),
    "3/2 padded": Windows((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "ceil": Windows((8, 7), (3, 3), (2, 2), ((0, 1), (0, 0))),
    "gaps": Windows((9, 9), (2, 2), (3, 3), ((0, 0), (0, 0))),
    "row": Windows((9,), (3,), (2,), ((1, 0),)),
    "volume": Windows((4, 5, 3), (2, 2, 1), (2, 1, 1), ((0, 0), (1, 0), (0, 0))),
    "whole": Windows((4, 4), (4, 4), (1, 1), ((0, 0), (0, 0))),
}
KINDS = pytest.mark.parametrize("case", CASES)


def distinct(windows, channels=12, batch=3):
    """All values differ, so that every rule for ties gives the same."""
    shape = (batch, *windows.space, channels)
    return jnp.asarray(RNG.permutation(np.prod(shape)).reshape(shape), jnp.float32)


def oracle(x, windows):
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, *windows.window, 1),
        (1, *windows.stride, 1),
        ((0, 0), *windows.sides, (0, 0)),
    )


@KINDS
@pytest.mark.parametrize("channels", [1, 12, 70])
def test_values_and_gradients(case, channels, native):
    windows = CASES[case]
    x = distinct(windows, channels)
    np.testing.assert_array_equal(jax.jit(kernels.max_pool, static_argnums=1)(x, windows), oracle(x, windows))
    weights = jnp.asarray(RNG.normal(size=oracle(x, windows).shape), jnp.float32)
    gradients = [
        jax.jit(jax.grad(lambda x, f=f: (weights * f(x, windows)).sum()))(x)
        for f in (kernels.max_pool, oracle)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@KINDS
def test_forward_mode_second_order_and_vmap(case, native):
    windows = CASES[case]
    x = distinct(windows)
    dx = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)

    def loss(x, f):
        return jnp.sin(f(x, windows) / 100).sum()

    for how in (
        lambda f: jax.jvp(lambda x: f(x, windows), (x,), (dx,))[1],
        lambda f: jax.jvp(jax.grad(lambda x: loss(x, f)), (x,), (dx,))[1],
        lambda f: jax.grad(lambda x: jax.jvp(lambda x: loss(x, f), (x,), (dx,))[1])(x),
        lambda f: jax.vmap(lambda x: f(x[None], windows))(x),
        lambda f: jax.vmap(jax.grad(lambda x: loss(x[None], f)))(x),
    ):
        np.testing.assert_allclose(how(kernels.max_pool), how(oracle), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_first_of_equals_takes_the_gradient_and_nan_wins(dtype, native):
    windows = CASES["2/2"]
    ties = jnp.zeros((1, *windows.space, 8), dtype)
    gradient = jax.grad(lambda x: kernels.max_pool(x, windows).astype(jnp.float32).sum())(ties)
    wanted = np.zeros(ties.shape, np.float32)
    wanted[:, ::2, ::2] = 1
    np.testing.assert_array_equal(np.float32(gradient), wanted)
    spoilt = ties.at[0, 1, 1].set(jnp.nan)
    y = np.float32(kernels.max_pool(spoilt, windows))
    assert np.isnan(y[0, 0, 0]).all() and np.isnan(y).sum() == 8


@pytest.mark.slow
def test_overlapping_gradients_of_bfloat16_are_summed_in_float32(native):
    """A cell that wins 63 windows of gradient 1 and one of 256 gets 319, in bfloat16 320, and not 256."""
    windows = Windows((64,), (64,), (1,), ((63, 63),))
    x = jnp.zeros((1, 64, 8), jnp.bfloat16).at[0, 32].set(1)
    ct = jnp.ones((1, 127, 8), jnp.bfloat16).at[0, 40].set(256)
    (gradient,) = jax.vjp(lambda x: kernels.max_pool(x, windows), x)[1](ct)
    assert float(gradient[0, 32, 0]) == 320


def test_integers(native):
    windows = CASES["2/2"]
    x = distinct(windows).astype(jnp.int32)
    np.testing.assert_array_equal(kernels.max_pool(x, windows), oracle(x.astype(jnp.float32), windows))
