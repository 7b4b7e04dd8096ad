"""Dropout: what is dropped, how much, and how the rest is scaled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(3)
BOTH = pytest.mark.parametrize("make", [fnn.dropout, fnn.spatial_dropout])
ALL = pytest.mark.parametrize("make", [fnn.dropout, fnn.spatial_dropout, fnn.stochastic_depth])


def run(layer, x, key=KEY, train=True):
    return layer.apply({}, {}, x, key=key, train=train)[0]


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_rate_is_the_share_that_is_dropped(rate):
    n = 40_000
    y = np.asarray(run(fnn.dropout(rate), jnp.ones((4, n // 4))), np.float64)
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / n)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_spatial_dropout_drops_whole_channels_another_lot_for_each_example(rate):
    n, channels = 100, 200
    x = 1.0 + jnp.arange(n * 6.0 * channels).reshape(n, 2, 3, channels) % 7
    y = np.asarray(run(fnn.spatial_dropout(rate), x), np.float64)
    dropped = (y == 0).all((1, 2))
    np.testing.assert_array_equal(dropped, (y == 0).any((1, 2)))
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / dropped.size)
    np.testing.assert_allclose(y, np.where(dropped[:, None, None], 0, x / (1 - rate)), rtol=1e-6)
    assert not (dropped == dropped[0]).all()


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_stochastic_depth_drops_whole_examples(rate):
    n = 4000
    x = 1.0 + jnp.arange(n * 6.0).reshape(n, 2, 1, 3) % 7
    y = np.asarray(run(fnn.stochastic_depth(rate), x), np.float64)
    dropped = (y == 0).all((1, 2, 3))
    np.testing.assert_array_equal(dropped, (y == 0).any((1, 2, 3)))
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / n)
    np.testing.assert_allclose(y, np.where(dropped[:, None, None, None], 0, x / (1 - rate)), rtol=1e-6)


@BOTH
def test_values_keep_their_mean_over_masks(make):
    """The mean over 2,000 masks is within 4 of its standard deviations of x."""
    x = np.array([1.0, -2.0, 3.0]).reshape(1, 1, 3)
    keys = jax.random.split(KEY, 2000)
    ys = jax.vmap(lambda key: run(make(0.3), jnp.asarray(x, jnp.float32), key))(keys)
    deviation = np.abs(x) * np.sqrt(0.3 / 0.7 / 2000)
    assert (np.abs(np.asarray(ys, np.float64).mean(0) - x) < 4 * deviation).all()


@ALL
def test_the_gradient_goes_where_the_value_went(make):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 6)), jnp.float32)
    y, pull = jax.vjp(lambda v: run(make(0.4), v), x)
    (dx,) = pull(jnp.ones_like(y))
    np.testing.assert_allclose(dx, np.where(np.asarray(y) == 0, 0, 1 / 0.6), rtol=1e-6)


@ALL
def test_evaluation_is_the_identity_and_needs_no_key(make):
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(run(make(0.5), x, key=None, train=False), x)
    np.testing.assert_array_equal(run(make(0.5), x, key=KEY, train=False), x)


@ALL
def test_rates_0_and_1(make):
    x = 1.0 + jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(run(make(0.0), x), x)
    y, pull = jax.vjp(lambda v: run(make(1.0), v), x)
    np.testing.assert_array_equal(y, np.zeros_like(x))
    np.testing.assert_array_equal(pull(y + 1.0)[0], np.zeros_like(x))


@BOTH
def test_one_key_one_mask_another_key_another_mask(make):
    x = jnp.ones((4, 3, 50))
    first = run(make(0.5), x)
    np.testing.assert_array_equal(run(make(0.5), x), first)
    assert (run(make(0.5), x, jax.random.key(4)) != first).any()


def test_a_dropped_infinity_is_zero():
    y = np.asarray(run(fnn.dropout(0.5), jnp.full((1, 100), jnp.inf)))
    assert set(y.ravel().tolist()) == {0.0, float("inf")}


@BOTH
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_dtype_stays(make, dtype):
    y = run(make(0.5), jnp.ones((2, 3, 64), dtype))
    assert y.dtype == dtype
    assert set(np.asarray(y, np.float64).ravel().tolist()) == {0.0, 2.0}


@ALL
def test_training_without_a_key(make):
    with pytest.raises(fnn.LayerError) as error:
        run(make(0.5), jnp.ones((1, 2, 3)), key=None)
    assert str(error.value) == (
        f"{make.__name__} draws at random in training and needs a key: "
        "apply(params, state, x, key=jax.random.key(0), train=True)"
    )


@ALL
@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_refused_rates(make, rate):
    with pytest.raises(ValueError) as error:
        make(rate)
    assert str(error.value) == f"{make.__name__}: rate must lie in 0..1, got {rate!r}"


def test_spatial_dropout_needs_space():
    message = "expected an input of rank 4 (batch, height, width, channels), got (128, 784)"
    for call in (
        lambda x: fnn.spatial_dropout(0.5).init(KEY, x),
        lambda x: run(fnn.spatial_dropout(0.5), x, train=False),
    ):
        with pytest.raises(fnn.LayerError) as error:
            call(jnp.ones((128, 784)))
        assert str(error.value) == message


@ALL
def test_integers_are_refused_as_their_scaled_rest_is_none(make):
    """In evaluation too: what a layer takes does not depend on the mode."""
    for train in (False, True):
        with pytest.raises(fnn.LayerError) as error:
            run(make(0.5), jnp.ones((1, 2, 3), jnp.int32), train=train)
        assert str(error.value) == "expected a floating-point input, got int32: x.astype(jnp.float32)"
