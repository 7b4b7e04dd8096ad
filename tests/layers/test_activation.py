"""Activations against their formulas in NumPy and SciPy, and PyTorch: values, derivatives, stability."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import fnn


def sigmoid(x):
    return special.expit(x)


def derivative_of_gelu(x):
    return special.ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def derivative_of_tanh_gelu(x):
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)


def mish(x):
    return x * np.tanh(np.logaddexp(x, 0))


def derivative_of_mish(x):
    t = np.tanh(np.logaddexp(x, 0))
    return t + x * (1 - t**2) * sigmoid(x)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # the paper's, to 16 digits

FORMULAS = {
    "relu": (fnn.relu, lambda x: np.maximum(x, 0), lambda x: np.heaviside(x, 0)),
    "relu6": (fnn.relu6, lambda x: np.clip(x, 0, 6), lambda x: 1.0 * ((x > 0) & (x < 6))),
    "sigmoid": (fnn.sigmoid, sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (fnn.tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "silu": (fnn.silu, lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "softplus": (fnn.softplus, lambda x: np.logaddexp(x, 0), sigmoid),
    "softsign": (fnn.softsign, lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    "selu": (
        fnn.selu,
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0))),
    ),
    "log_sigmoid": (fnn.log_sigmoid, special.log_expit, lambda x: sigmoid(-x)),
    "mish": (fnn.mish, mish, derivative_of_mish),
    "hard_tanh": (fnn.hard_tanh, lambda x: np.clip(x, -1, 1), lambda x: 1.0 * (np.abs(x) < 1)),
    "hard_sigmoid": (
        fnn.hard_sigmoid,
        lambda x: np.clip(x + 3, 0, 6) / 6,
        lambda x: (np.abs(x) < 3) / 6,
    ),
    "hard_silu": (
        fnn.hard_silu,
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(np.abs(x) < 3, (2 * x + 3) / 6, 1.0 * (x > 0)),
    ),
    "leaky_relu": (
        fnn.leaky_relu(),
        lambda x: np.where(x > 0, x, 0.01 * x),
        lambda x: np.where(x > 0, 1, 0.01),
    ),
    "elu": (
        fnn.elu(),
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.exp(np.minimum(x, 0)),
    ),
    "celu": (
        fnn.celu(2.0),
        lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)),
        lambda x: np.exp(np.minimum(x, 0) / 2),
    ),
    "gelu": (fnn.gelu(), tanh_gelu, derivative_of_tanh_gelu),
    "exact gelu": (fnn.gelu(approximate=False), lambda x: x * special.ndtr(x), derivative_of_gelu),
}

TORCH = {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "silu",
    "softplus": "softplus",
    "softsign": "softsign",
    "selu": "selu",
    "log_sigmoid": "logsigmoid",
    "mish": "mish",
    "hard_tanh": "hardtanh",
    "hard_sigmoid": "hardsigmoid",
    "hard_silu": "hardswish",
    "leaky_relu": "leaky_relu",
    "elu": "elu",
}

KEY = jax.random.key(0)
POINTS = np.append(np.linspace(-8, 8, 65), 1e-3)
# relu's kink at 0 and relu6's at 6 are among the points; kinks with a derivative by convention are not.
CONVENTIONS = {"leaky_relu": (0,), "hard_tanh": (1,), "hard_sigmoid": (3,), "hard_silu": (3,)}
# In float32 1 - tanh² is 0 or 1.2e-7 far out, which gelu's derivative multiplies by up to 20.
CLOSE = {"rtol": 1e-5, "atol": 4e-6}


def value_and_derivative(layer, x):
    y, pull = jax.vjp(lambda v: layer.apply({}, {}, v)[0], x)
    return y, pull(jnp.ones_like(y))[0]


# All in one program: it compiles in the time of three.
every = jax.jit(lambda x: {name: value_and_derivative(layer, x) for name, (layer, _, _) in FORMULAS.items()})


def at_points(name):
    """The points of an activation, its values and derivatives there."""
    points = POINTS.astype(np.float32)
    keep = ~np.isin(np.abs(POINTS), CONVENTIONS.get(name, ()))
    return points[keep], *(np.asarray(v)[keep] for v in every(points)[name])


@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_derivatives_against_formulas(name):
    _, formula, derivative = FORMULAS[name]
    points, y, dx = at_points(name)
    np.testing.assert_allclose(y, formula(points.astype(np.float64)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, derivative(points.astype(np.float64)), **CLOSE)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivatives_above_are_those_of_the_formulas(name):
    """Central differences in float64, away from the kinks."""
    _, formula, derivative = FORMULAS[name]
    points = np.linspace(-7.9, 7.9, 80)
    step = 1e-6
    slope = (formula(points + step) - formula(points - step)) / (2 * step)
    np.testing.assert_allclose(derivative(points), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.oracle
@pytest.mark.parametrize("name", TORCH)
def test_values_and_derivatives_against_torch(name):
    torch = pytest.importorskip("torch")
    points, y, dx = at_points(name)
    x = torch.tensor(points, requires_grad=True)
    wanted = getattr(torch.nn.functional, TORCH[name])(x)
    wanted.sum().backward()
    np.testing.assert_allclose(y, wanted.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, x.grad, **CLOSE)


@pytest.mark.oracle
def test_arguments_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    points = POINTS[POINTS != 0].astype(np.float32)
    for layer, function in [
        (fnn.leaky_relu(0.2), lambda x: functional.leaky_relu(x, 0.2)),
        (fnn.elu(1.7), lambda x: functional.elu(x, 1.7)),
        (fnn.celu(0.6), lambda x: functional.celu(x, 0.6)),
        (fnn.gelu(), lambda x: functional.gelu(x, approximate="tanh")),
        (fnn.gelu(approximate=False), functional.gelu),
    ]:
        y, dx = jax.jit(functools.partial(value_and_derivative, layer))(points)
        x = torch.tensor(points, requires_grad=True)
        wanted = function(x)
        wanted.sum().backward()
        np.testing.assert_allclose(y, wanted.detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(dx, x.grad, **CLOSE)


@pytest.mark.parametrize("slope", [0.01, 0.3])
def test_the_slope_of_leaky_relu(slope):
    y, dx = value_and_derivative(fnn.leaky_relu(slope), jnp.array([-2.0, 3.0]))
    np.testing.assert_allclose(y, [-2 * slope, 3.0], rtol=1e-6)
    np.testing.assert_allclose(dx, [slope, 1.0], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.5])
def test_the_alpha_of_elu_and_celu(alpha):
    for layer, value, slope in [
        (fnn.elu(alpha), alpha * np.expm1(-2.0), alpha * np.exp(-2.0)),
        (fnn.celu(alpha), alpha * np.expm1(-2.0 / alpha), np.exp(-2.0 / alpha)),
    ]:
        y, dx = value_and_derivative(layer, jnp.array([-2.0, 3.0]))
        np.testing.assert_allclose(y, [value, 3.0], rtol=1e-5)
        np.testing.assert_allclose(dx, [slope, 1.0], rtol=1e-5)


def test_the_step_is_0_at_0():
    _, dx = value_and_derivative(fnn.relu, jnp.array([-1e-30, -0.0, 0.0, 1e-30]))
    np.testing.assert_array_equal(dx, [0, 0, 0, 1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", FORMULAS)
def test_stable_far_from_zero(name, dtype):
    """Values and derivatives at ±1e4 are the formulas' limits: neither infinite nor NaN."""
    _, formula, derivative = FORMULAS[name]
    x = jnp.array([-1e4, -100.0, 100.0, 1e4], dtype)
    y, dx = every(x)[name]
    assert y.dtype == dx.dtype == dtype
    exact = np.asarray(x, np.float64)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(np.asarray(y, np.float64), formula(exact), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(np.asarray(dx, np.float64), derivative(exact), rtol=tolerance, atol=tolerance)


SLOPES = np.array([0.25, -0.5, 0.0, 2.0], np.float32)


def prelu_and_gradients(x, g):
    def run(slope, x):
        return fnn.prelu().apply({"slope": slope}, {}, x)[0]

    y, pull = jax.vjp(run, jnp.asarray(SLOPES), jnp.asarray(x))
    return y, *pull(jnp.asarray(g, y.dtype))


def prelu_cases():
    """Values, exact zeros among them, and what the output's gradient is."""
    x = np.random.default_rng(0).normal(size=(3, 5, 2, 4)).astype(np.float32)
    x[0, 0] = 0.0
    return x, np.random.default_rng(1).normal(size=x.shape).astype(np.float32)


def test_prelu_has_a_slope_for_each_channel():
    x, g = prelu_cases()
    y, dslope, dx = prelu_and_gradients(x, g)
    np.testing.assert_allclose(y, np.where(x > 0, x, SLOPES * x), rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(x > 0, g, SLOPES * g), rtol=1e-6)
    wanted = np.sum(np.where(x > 0, 0, g * x), (0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(dslope, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.oracle
def test_prelu_against_torch():
    torch = pytest.importorskip("torch")
    x, g = prelu_cases()
    y, dslope, dx = prelu_and_gradients(x, g)
    layer, leaf = torch.nn.PReLU(4), torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    np.testing.assert_array_equal(fnn.prelu().init(KEY, x)[0]["slope"], layer.weight.detach())
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(SLOPES))
    wanted = layer(leaf)
    wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
    np.testing.assert_allclose(y, np.moveaxis(wanted.detach().numpy(), 1, -1), rtol=1e-6)
    np.testing.assert_allclose(dx, np.moveaxis(leaf.grad.numpy(), 1, -1), rtol=1e-6)
    np.testing.assert_allclose(dslope, layer.weight.grad, rtol=1e-5, atol=1e-6)


def test_prelu_starts_where_it_is_told():
    params, _ = fnn.prelu(0.1).init(KEY, jnp.ones((1, 2)))
    np.testing.assert_array_equal(params["slope"], np.full(2, 0.1, np.float32))


@pytest.mark.parametrize(
    "x, message",
    [
        (jnp.ones((2, 3)), "expected 4 channels on the last axis, as in its parameters, got (2, 3)"),
        (jnp.ones((2, 4), int), "expected a floating-point input, got int32: x.astype(jnp.float32)"),
        (jnp.ones(4), "expected an input of rank 2 or more (batch, ..., channels), got (4,)"),
    ],
)
def test_prelu_refuses_inputs(x, message):
    with pytest.raises(fnn.LayerError) as error:
        fnn.prelu().apply({"slope": SLOPES}, {}, x)
    assert str(error.value) == message


ROWS = np.random.default_rng(0).normal(size=(3, 4, 5))


def jacobian_rows(layer, x, g):
    def run(x, g):
        y, pull = jax.vjp(lambda v: layer.apply({}, {}, v)[0], x)
        return y, pull(g)[0]

    return jax.jit(run)(x.astype(np.float32), g.astype(np.float32))


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax_and_its_logarithm(axis):
    g = np.random.default_rng(1).normal(size=ROWS.shape)
    p = special.softmax(ROWS, axis)
    y, dx = jacobian_rows(fnn.softmax(axis), ROWS, g)
    np.testing.assert_allclose(y, p, rtol=1e-5)
    np.testing.assert_allclose(dx, p * (g - (g * p).sum(axis, keepdims=True)), rtol=1e-4, atol=1e-6)
    y, dx = jacobian_rows(fnn.log_softmax(axis), ROWS, g)
    np.testing.assert_allclose(y, special.log_softmax(ROWS, axis), rtol=1e-5)
    np.testing.assert_allclose(dx, g - p * g.sum(axis, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_against_torch(name):
    torch = pytest.importorskip("torch")
    g = np.random.default_rng(1).normal(size=ROWS.shape)
    y, dx = jacobian_rows(getattr(fnn, name)(), ROWS, g)
    x = torch.tensor(ROWS, requires_grad=True)
    wanted = getattr(torch.nn.functional, name)(x, -1)
    wanted.backward(torch.tensor(g))
    np.testing.assert_allclose(y, wanted.detach(), rtol=1e-5)
    np.testing.assert_allclose(dx, x.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_softmax_is_stable_far_from_zero(dtype):
    x = jnp.array([[-1e4, 0.0, 1e4], [1e4, 1e4, -1e4]], dtype)
    for layer, wanted in [
        (fnn.softmax(), [[0, 0, 1], [0.5, 0.5, 0]]),
        (fnn.log_softmax(), special.log_softmax(np.asarray(x, np.float64), -1)),
    ]:
        y, dx = jax.jit(functools.partial(value_and_derivative, layer))(x)
        assert y.dtype == dx.dtype == dtype
        np.testing.assert_allclose(np.asarray(y, np.float64), wanted, rtol=1e-2, atol=1e-6)
        assert bool(jnp.isfinite(dx).all())


def test_softmax_of_bfloat16_sums_in_float32():
    """1,000 equal shares of 0.001: a sum in bfloat16 would stop at 256."""
    y, _ = fnn.softmax().apply({}, {}, jnp.zeros((1, 1000), jnp.bfloat16))
    np.testing.assert_allclose(np.asarray(y, np.float64), 1e-3, rtol=4e-3)


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_have_neither_parameters_nor_state(name):
    assert FORMULAS[name][0].init(jax.random.key(0), jnp.ones((2, 3))) == ({}, {})


@pytest.mark.parametrize("make", [fnn.softmax, fnn.log_softmax])
@pytest.mark.parametrize("axis", [2, -3])
def test_softmax_along_an_axis_that_is_not_there(make, axis):
    with pytest.raises(fnn.LayerError) as error:
        make(axis).apply({}, {}, jnp.ones((2, 3)))
    assert str(error.value) == f"expected an input with an axis {axis}, got (2, 3)"
