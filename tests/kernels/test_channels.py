"""Moments, sums and what is spread by channel: values, gradients, orders, types."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import kernels

RNG = np.random.default_rng(0)
SHAPES = pytest.mark.parametrize("shape", [(70, 16, 16, 8), (9000, 5), (3, 5, 4), (40000, 3)])


def data(shape, offset=3.0):
    return jnp.asarray(RNG.normal(size=shape) * 2 + offset, jnp.float32)


@SHAPES
def test_moments_against_numpy_in_float64(shape, native):
    x = data(shape)
    axes = tuple(range(x.ndim - 1))
    mean, var = jax.jit(kernels.moments)(x)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=2e-6)
    np.testing.assert_allclose(var, exact.var(axes), rtol=1e-5)


def test_the_variance_of_values_far_from_zero(native):
    """A difference of squares would lose it: 1e4 squared, in float32, has steps of 8."""
    x = data((70, 16, 16, 8), offset=1e4)
    _, var = jax.jit(kernels.moments)(x)
    np.testing.assert_allclose(var, np.asarray(x, np.float64).var((0, 1, 2)), rtol=1e-3)


def standardised(x, scale, bias):
    mean, var = kernels.moments(x)
    return kernels.spread(bias, scale * jax.lax.rsqrt(var + 1e-3), x, mean)


def plain(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    return bias + (x - mean) * scale * jax.lax.rsqrt(var + 1e-3)


def close(got, wanted, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, atol=tolerance)


ORDERS = {
    "gradient": (lambda loss, at, along: jax.grad(loss)(at), 2e-5),
    "forward": (lambda loss, at, along: jax.jvp(loss, (at,), (along,)), 1e-4),
    "forward over reverse": (lambda loss, at, along: jax.jvp(jax.grad(loss), (at,), (along,)), 1e-3),
    "reverse over forward": (
        lambda loss, at, along: jax.grad(lambda a: jax.jvp(loss, (a,), (along,))[1])(at),
        1e-3,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(70, 16, 16, 8), (40000, 3)])
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_of_a_normalisation(shape, order, native):
    at = data(shape), data(shape[-1:]), data(shape[-1:])
    along = data(shape, 0.0), at[1], at[2]
    weights = data(shape, 0.0)
    how, tolerance = ORDERS[order]

    def made(f):
        loss = lambda at: (jnp.tanh(f(*at)) * weights).sum() / len(weights)  # noqa: E731
        return jax.jit(lambda at, along: how(loss, at, along))(at, along)

    close(made(standardised), made(plain), tolerance)


@pytest.mark.slow
def test_vmap(native):
    x, scale, bias = data((3, 50, 20, 40)), data((40,)), data((40,))
    gradient = jax.grad(lambda *args: jnp.sin(standardised(*args)).sum(), (0, 1))
    for f in (standardised, gradient):
        together = jax.vmap(f, (0, None, None))(x, scale, bias)
        apart = [f(each, scale, bias) for each in x]
        close(together, jax.tree.map(lambda *each: jnp.stack(each), *apart), 1e-4)


@pytest.mark.parametrize("rows", [100, 100_000])
def test_an_offset_in_bfloat16_has_its_gradient_summed_in_float32(rows, native):
    x = jnp.ones((rows, 16), jnp.bfloat16)
    offset = jnp.zeros((16,), jnp.float32)
    y = kernels.add_channels(x, offset + 0.5)
    assert y.dtype == jnp.bfloat16 and (np.float32(y) == 1.5).all()
    gradient = jax.jit(jax.grad(lambda b: kernels.add_channels(x, b).astype(jnp.float32).sum()))(offset)
    np.testing.assert_array_equal(gradient, np.full(16, rows, np.float32))
    both = jax.grad(lambda x, b: jnp.square(kernels.add_channels(x, b).astype(jnp.float32)).sum(), (0, 1))
    np.testing.assert_allclose(both(x, offset)[1], np.full(16, 2.0 * rows), rtol=1e-6)


def test_not_a_number_spoils_its_own_channel_alone(native):
    x = data((70, 16, 16, 8)).at[3, 2, 1, 4].set(jnp.nan)
    mean, var = jax.jit(kernels.moments)(x)
    assert np.isnan(mean).tolist() == np.isnan(var).tolist() == [c == 4 for c in range(8)]


def test_a_batch_of_any_size_can_be_exported():
    def normed(x):
        mean, var = kernels.moments(x)
        return kernels.spread(jnp.zeros(8), jax.lax.rsqrt(var), kernels.add_channels(x, jnp.ones(8)), mean)

    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 8))
    any_size = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), 4, 4, 8), jnp.float32)
    exported = jax.export.export(jax.jit(normed))(any_size)
    with kernels.use("xla"):
        np.testing.assert_allclose(exported.call(x), jax.jit(normed)(x), rtol=1e-5, atol=1e-5)
