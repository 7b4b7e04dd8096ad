"""Initialisers: the moments that their papers promise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers.initializers import INITIALIZERS, initializer, make

KEY = jax.random.key(0)
FAN_IN, FAN_OUT = 3 * 3 * 16, 3 * 3 * 32

VARIANCES = {
    "he_normal": 2 / FAN_IN,
    "he_uniform": 2 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
    "lecun_uniform": 1 / FAN_IN,
    "glorot_normal": 2 / (FAN_IN + FAN_OUT),
    "glorot_uniform": 2 / (FAN_IN + FAN_OUT),
    "normal": 0.01**2,
}


@functools.cache
def drawn():
    """A kernel from each; one program compiles faster than seven."""
    return jax.jit(
        lambda: {name: initializer(name)(KEY, (3, 3, 16, 32), jnp.float32) for name in VARIANCES}
    )()


@pytest.mark.parametrize("name", VARIANCES)
def test_mean_and_variance(name):
    kernel = np.asarray(drawn()[name], np.float64)
    n, variance = kernel.size, VARIANCES[name]
    assert abs(kernel.mean()) < 4 * np.sqrt(variance / n)
    # The relative standard error of a variance is at most sqrt(2 / n), of a normal distribution.
    assert abs(kernel.var() / variance - 1) < 4 * np.sqrt(2 / n)


@pytest.mark.parametrize("name", ["he_uniform", "lecun_uniform", "glorot_uniform"])
def test_uniform_ones_fill_their_bounds_and_no_more(name):
    kernel = np.abs(drawn()[name])
    bound = np.sqrt(3 * VARIANCES[name])
    assert 0.99 * bound < kernel.max() <= bound * (1 + 1e-6)


def test_orthogonal_has_orthonormal_columns():
    q = np.asarray(initializer("orthogonal")(KEY, (8, 5), jnp.float32))
    np.testing.assert_allclose(q.T @ q, np.eye(5), atol=1e-5)


def test_every_name_without_a_required_argument_draws():
    names = [name for name in INITIALIZERS if name not in ("constant", "variance_scaling")]
    draw = jax.jit(lambda: {name: initializer(name)(KEY, (3, 3, 4, 4), jnp.float32) for name in names})
    for name, kernel in draw().items():
        assert kernel.shape == (3, 3, 4, 4)
        assert bool(jnp.isfinite(kernel).all())
        assert bool((kernel == 1).all()) == (name == "ones")
        assert bool((kernel == 0).all()) == (name == "zeros")


@pytest.mark.parametrize("name", ["constant", "variance_scaling"])
def test_a_name_that_needs_arguments_says_so(name):
    with pytest.raises(
        ValueError, match=f"initializer '{name}' needs arguments: (value|scale, mode, dist.*)$"
    ):
        initializer(name)


def test_constructors_take_arguments():
    np.testing.assert_array_equal(INITIALIZERS["constant"](0.5)(KEY, (3,), jnp.float32), np.full(3, 0.5))


def test_a_function_stands_for_itself():
    def ramp(key, shape, dtype):
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    assert initializer(ramp) is ramp
    params, _ = fnn.dense(2, kernel_init=ramp, bias_init="ones").init(KEY, jnp.ones((1, 3)))
    np.testing.assert_array_equal(params["kernel"], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(params["bias"], [1, 1])


def test_make_draws_kernel_and_bias_from_keys_of_their_own():
    normal = initializer("normal")
    params = make(KEY, (4, 4), normal, normal)
    kernel_key, bias_key = jax.random.split(KEY)
    np.testing.assert_array_equal(params["kernel"], normal(kernel_key, (4, 4), jnp.float32))
    np.testing.assert_array_equal(params["bias"], normal(bias_key, (4,), jnp.float32))
    assert list(make(KEY, (4, 4), normal, None)) == ["kernel"]


def test_an_unknown_name_shows_the_nearest():
    with pytest.raises(ValueError) as error:
        fnn.conv(8, 3, kernel_init="he_norml")
    assert str(error.value) == "unknown initializer 'he_norml'; nearest: he_normal, he_uniform, normal"


@pytest.mark.parametrize(
    "layer, start",
    [
        (fnn.dense(2, bias_init="he_normal"), "bias_init cannot make a bias of (2,): Can't compute"),
        (
            fnn.conv(2, 3, kernel_init="delta_orthogonal"),
            "kernel_init cannot make a kernel of (3, 3, 4, 2): ",
        ),
        (fnn.local_conv(2, 3, bias_init="orthogonal"), "bias_init cannot make a bias of (2,): "),
    ],
)
def test_an_initializer_that_does_not_fit_the_shape_is_named(layer, start):
    model = fnn.serial(fnn.named("stem", layer))
    with pytest.raises(fnn.LayerError) as error:
        model.init(KEY, jnp.ones((1, 5, 5, 4)))
    assert error.value.path == "stem"
    assert error.value.message.startswith(start)
