"""Fully connected layers against loops over NumPy scalars, and PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)


def data(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def value_and_gradients(layer, params, x, cotangent):
    y, pull = jax.vjp(lambda p, v: layer.apply(p, {}, v)[0], params, x)
    return y, *pull(cotangent)


@pytest.mark.parametrize("lead", [(4,), (2, 3), (2, 3, 2)])
def test_values_and_gradients_against_loops(lead):
    x, kernel, bias, g = data((*lead, 5), (5, 3), (3,), (*lead, 3))
    y, grads, dx = value_and_gradients(fnn.dense(3), {"kernel": kernel, "bias": bias}, jnp.asarray(x), g)
    wanted_y, wanted_dx = np.zeros(g.shape), np.zeros(x.shape)
    wanted_kernel, wanted_bias = np.zeros(kernel.shape), np.zeros(bias.shape)
    for row in np.ndindex(*lead):
        for j in range(3):
            wanted_y[(*row, j)] = bias[j] + sum(float(x[(*row, i)]) * kernel[i, j] for i in range(5))
            wanted_bias[j] += g[(*row, j)]
            for i in range(5):
                wanted_kernel[i, j] += float(x[(*row, i)]) * g[(*row, j)]
                wanted_dx[(*row, i)] += float(kernel[i, j]) * g[(*row, j)]
    np.testing.assert_allclose(y, wanted_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, wanted_dx, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grads["kernel"], wanted_kernel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grads["bias"], wanted_bias, rtol=1e-5, atol=1e-5)


def test_without_bias_it_is_the_product_alone():
    x, kernel = data((4, 5), (5, 3))
    params, _ = fnn.dense(3, bias=False).init(KEY, x)
    assert list(params) == ["kernel"]
    y, _ = fnn.dense(3, bias=False).apply({"kernel": kernel}, {}, jnp.asarray(x))
    np.testing.assert_allclose(y, x.astype(np.float64) @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.oracle
def test_values_and_gradients_against_torch():
    torch = pytest.importorskip("torch")
    x, kernel, bias, g = data((6, 5), (5, 3), (3,), (6, 3))
    y, grads, dx = value_and_gradients(fnn.dense(3), {"kernel": kernel, "bias": bias}, jnp.asarray(x), g)
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, kernel.T, bias)]
    wanted = torch.nn.functional.linear(*leaves)
    wanted.backward(torch.tensor(g))
    np.testing.assert_allclose(y, wanted.detach(), rtol=1e-5, atol=1e-5)
    for got, leaf in zip((dx, grads["kernel"].T, grads["bias"]), leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad, rtol=1e-5, atol=1e-5)


def test_the_default_kernel_has_variance_2_over_fan_in_and_the_bias_is_zero():
    params, _ = fnn.dense(300).init(KEY, jnp.ones((1, 200)))
    kernel = np.asarray(params["kernel"], np.float64)
    # The relative standard error of the variance of 60,000 values is sqrt(2 / 60000) = 0.6 %.
    assert abs(kernel.var() / (2 / 200) - 1) < 0.03
    assert not params["bias"].any()


def test_init_reads_the_shape_alone_and_makes_float32():
    array, _ = fnn.dense(3, bias_init="normal").init(KEY, jnp.ones((2, 5)))
    shape, _ = fnn.dense(3, bias_init="normal").init(KEY, jax.ShapeDtypeStruct((2, 5), jnp.bfloat16))
    for name in ("kernel", "bias"):
        assert shape[name].dtype == jnp.float32
        np.testing.assert_array_equal(shape[name], array[name])


@pytest.mark.parametrize(
    "x, message",
    [
        (jnp.ones((2, 5), jnp.int32), "expected a floating-point input, got int32: x.astype(jnp.float32)"),
        (jnp.ones((2, 5), jnp.uint8), "expected a floating-point input, got uint8: x.astype(jnp.float32)"),
        (jnp.ones(5), "expected an input of rank 2 or more (batch, ..., channels), got (5,)"),
        (jnp.ones((2, 4)), "expected 5 channels on the last axis, as in its parameters, got (2, 4)"),
    ],
)
def test_refused_inputs(x, message):
    params, _ = fnn.dense(3).init(KEY, jnp.ones((1, 5)))
    with pytest.raises(fnn.LayerError) as error:
        fnn.dense(3).apply(params, {}, x)
    assert str(error.value) == message
    if "channels on" not in message:  # init cannot know other channels
        with pytest.raises(fnn.LayerError) as error:
            fnn.dense(3).init(KEY, x)
        assert str(error.value) == message


def test_a_missing_parameter_is_named():
    with pytest.raises(fnn.LayerError) as error:
        fnn.dense(3).apply({"kernel": jnp.ones((5, 3))}, {}, jnp.ones((1, 5)))
    assert str(error.value) == "expected 'bias' among its parameters and state, got kernel"


def test_an_error_inside_a_model_names_the_layer():
    model = fnn.serial(features=fnn.serial(fnn.dense(4), fnn.relu), head=fnn.dense(2))
    params, _ = model.init(KEY, jnp.ones((1, 5)))
    with pytest.raises(fnn.LayerError) as error:
        model.apply(params, {}, jnp.ones((2, 6)))
    assert str(error.value) == (
        "features/dense1: expected 5 channels on the last axis, as in its parameters, got (2, 6)"
    )


@pytest.mark.parametrize("features", [0, -1, 2.0, True])
def test_refused_features(features):
    with pytest.raises(ValueError) as error:
        fnn.dense(features)
    assert str(error.value) == f"dense: features must be a positive whole number, got {features!r}"
