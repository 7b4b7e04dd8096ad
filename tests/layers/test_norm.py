"""Normalisation against loops in float64, differences and PyTorch: values, gradients, running statistics."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)
SHAPE = (3, 2, 3, 4)


def data(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def centred(*shape):
    """Channels of different means and of variances near epsilon, where a wrong epsilon shows."""
    x = np.random.default_rng(2).normal(size=shape)
    return (x * 0.01 * (1 + np.arange(shape[-1])) + np.arange(shape[-1])).astype(np.float32)


def gradient_by_differences(f, x, g, step=1e-6):
    """Of ``sum(g * f(x))``, in float64, by one value of x after the other."""
    x, slope = x.astype(np.float64), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        e = np.zeros(x.shape)
        e[i] = step
        slope[i] = ((f(x + e) - f(x - e)) * g).sum() / (2 * step)
    return slope


@functools.cache
def program(layer, train):
    def run(params, state, x):
        y, pull = jax.vjp(lambda p, v: layer.apply(p, state, v, train=train)[0], params, x)
        g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
        return y, g, *pull(g)

    return jax.jit(run)


def value_and_gradients(layer, params, state, x, train=False):
    """Value, a cotangent, gradients of params and x."""
    return jax.tree.map(np.asarray, program(layer, train)(params, state, x))


def near(got, wanted, tolerance=1e-4):
    """Within a share of the largest value."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), 1e-3))


def standardised(values, epsilon):
    """By the biased variance, value by value."""
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / np.sqrt(variance + epsilon) for v in values]


def batch_loops(x, epsilon=1e-5):
    y = np.zeros(x.shape)
    for c in range(x.shape[-1]):
        y[..., c] = np.reshape(standardised(list(x[..., c].ravel()), epsilon), x.shape[:-1])
    return y


def layer_loops(x, epsilon=1e-5):
    y = np.zeros(x.shape)
    for i in np.ndindex(*x.shape[:-1]):
        y[i] = standardised(list(x[i]), epsilon)
    return y


def group_loops(x, groups, epsilon=1e-5):
    y, size = np.zeros(x.shape), x.shape[-1] // groups
    for n in range(len(x)):
        for g in range(groups):
            block = x[n, ..., g * size : (g + 1) * size]
            flat = standardised(list(block.ravel()), epsilon)
            y[n, ..., g * size : (g + 1) * size] = np.reshape(flat, block.shape)
    return y


def response_loops(x, size=5, alpha=1e-4, beta=0.75, k=1.0):
    y, channels = np.zeros(x.shape), x.shape[-1]
    for i in np.ndindex(*x.shape[:-1]):
        for c in range(channels):
            first = c - size // 2
            total = sum(x[i][j] ** 2 for j in range(max(first, 0), min(first + size, channels)))
            y[(*i, c)] = x[i][c] / (k + alpha / size * total) ** beta
    return y


@pytest.mark.parametrize(
    "layer, loops",
    [
        (fnn.batch_norm(), batch_loops),
        (fnn.batch_norm(epsilon=0.1), lambda x: batch_loops(x, 0.1)),
        (fnn.layer_norm(), layer_loops),
        (fnn.layer_norm(0.1), lambda x: layer_loops(x, 0.1)),
        (fnn.group_norm(2), lambda x: group_loops(x, 2)),
        (fnn.group_norm(1, 0.1), lambda x: group_loops(x, 1, 0.1)),
        (fnn.group_norm(4), lambda x: group_loops(x, 4)),
    ],
)
@pytest.mark.parametrize("make_x", [centred, lambda *shape: data(shape)[0]], ids=["small variance", "normal"])
def test_values_and_gradients_against_loops(layer, loops, make_x):
    x = make_x(*SHAPE)
    scale, bias = data((4,), (4,))
    params = {"scale": scale, "bias": bias}
    _, state = layer.init(KEY, x)
    y, g, grads, dx = value_and_gradients(layer, params, state, x, train=True)
    wanted = loops(x.astype(np.float64))
    near(y, wanted * scale + bias)
    near(dx, gradient_by_differences(lambda v: loops(v) * scale, x, g), 1e-3)
    near(grads["scale"], (g * wanted).reshape(-1, 4).sum(0))
    near(grads["bias"], g.astype(np.float64).reshape(-1, 4).sum(0))


@pytest.mark.parametrize("scale, bias", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("make", [fnn.batch_norm, fnn.layer_norm, lambda **k: fnn.group_norm(2, **k)])
def test_without_scale_or_bias(make, scale, bias):
    x, values = data(SHAPE, (4,))
    layer = make(scale=scale, bias=bias)
    params, state = layer.init(KEY, x)
    assert set(params) == {name for name, learned in (("scale", scale), ("bias", bias)) if learned}
    plain, _ = make().apply({"scale": np.ones(4, "f"), "bias": np.zeros(4, "f")}, state, x, train=True)
    y, _ = layer.apply(dict.fromkeys(params, values), state, jnp.asarray(x), train=True)
    wanted = np.asarray(plain, np.float64) * (values if scale else 1) + (values if bias else 0)
    near(y, wanted)


def test_they_start_as_the_plain_normalisation():
    for layer in (fnn.batch_norm(), fnn.layer_norm(), fnn.group_norm(2)):
        params, state = layer.init(KEY, jax.ShapeDtypeStruct((2, 4), jnp.bfloat16))
        np.testing.assert_array_equal(params["scale"], np.ones(4))
        np.testing.assert_array_equal(params["bias"], np.zeros(4))
        assert all(leaf.dtype == jnp.float32 for leaf in (*params.values(), *state.values()))
    state = fnn.batch_norm().init(KEY, jnp.ones((2, 4)))[1]
    np.testing.assert_array_equal(state["mean"], np.zeros(4))
    np.testing.assert_array_equal(state["var"], np.ones(4))


def batches(n):
    rng = np.random.default_rng(5)
    return [(rng.normal(size=(4, 2, 3, 3)) * [1, 5, 0.1] + [0, 3, -2]).astype(np.float32) for _ in range(n)]


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.99])
def test_running_statistics_after_1_10_and_100_steps(momentum):
    """new = momentum * old + (1 - momentum) * batch, from (0, 1), with the unbiased variance."""
    layer = fnn.batch_norm(momentum)
    params, state = layer.init(KEY, batches(1)[0])
    mean, var = [0.0] * 3, [1.0] * 3
    for step, x in enumerate(batches(100), start=1):
        _, state = layer.apply(params, state, jnp.asarray(x), train=True)
        for c in range(3):
            values = [float(v) for v in x[..., c].ravel()]
            m = sum(values) / len(values)
            mean[c] = momentum * mean[c] + (1 - momentum) * m
            unbiased = sum((v - m) ** 2 for v in values) / (len(values) - 1)
            var[c] = momentum * var[c] + (1 - momentum) * unbiased
        if step in (1, 10, 100):
            np.testing.assert_allclose(state["mean"], mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(state["var"], var, rtol=1e-5, atol=1e-6)


def test_evaluation_uses_the_running_statistics_and_keeps_them():
    x, scale, bias = data(SHAPE, (4,), (4,))
    state = {"mean": jnp.array([1.0, -1.0, 0.0, 2.0]), "var": jnp.array([4.0, 0.25, 1.0, 1e-5])}
    mean, var = (np.asarray(state[name], np.float64) for name in ("mean", "var"))
    layer, params = fnn.batch_norm(), {"scale": scale, "bias": bias}
    y, g, grads, dx = value_and_gradients(layer, params, state, x)
    near(y, (x - mean) / np.sqrt(var + 1e-5) * scale + bias)
    near(dx, g * scale / np.sqrt(var + 1e-5))
    near(grads["scale"], (g * (x - mean) / np.sqrt(var + 1e-5)).reshape(-1, 4).sum(0))
    _, after = layer.apply(params, state, jnp.asarray(x))
    for name in ("mean", "var"):
        np.testing.assert_array_equal(after[name], state[name])


@pytest.mark.oracle
@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_batch_norm_against_torch(momentum):
    """In training and evaluation, with the running statistics of 1, 10 and 100 steps."""
    torch = pytest.importorskip("torch")
    scale, bias = data((3,), (3,))
    layer, params = fnn.batch_norm(momentum), {"scale": scale, "bias": bias}
    _, state = layer.init(KEY, batches(1)[0])
    module = torch.nn.BatchNorm2d(3, momentum=1 - momentum)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(scale))
        module.bias.copy_(torch.tensor(bias))
    for step, x in enumerate(batches(100), start=1):
        if step in (1, 10, 100):
            for train in (True, False):
                copy = torch.nn.BatchNorm2d(3, momentum=1 - momentum)
                copy.load_state_dict(module.state_dict())
                agree_with_torch(torch, copy.train(train), layer, params, state, x, train)
        _, state = layer.apply(params, state, jnp.asarray(x), train=True)
        module(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
        if step in (1, 10, 100):
            np.testing.assert_allclose(state["mean"], module.running_mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(state["var"], module.running_var, rtol=1e-5, atol=1e-6)


def agree_with_torch(torch, module, layer, params, state, x, train):
    y, g, grads, dx = value_and_gradients(layer, params, state, x, train)
    leaf = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    wanted = module(leaf)
    wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
    near(y, np.moveaxis(wanted.detach().numpy(), 1, -1))
    near(dx, np.moveaxis(leaf.grad.numpy(), 1, -1))
    near(grads["scale"], module.weight.grad)
    near(grads["bias"], module.bias.grad)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(5, 4), (3, 6, 4), (2, 3, 2, 3, 4)])
def test_batch_norm_of_other_ranks_against_torch(shape):
    torch = pytest.importorskip("torch")
    x, scale, bias = data(shape, (4,), (4,))
    layer = fnn.batch_norm()
    _, state = layer.init(KEY, x)
    module = (torch.nn.BatchNorm3d if len(shape) == 5 else torch.nn.BatchNorm1d)(4)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(scale))
        module.bias.copy_(torch.tensor(bias))
    agree_with_torch(torch, module, layer, {"scale": scale, "bias": bias}, state, x, True)


@pytest.mark.oracle
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_against_torch(groups):
    torch = pytest.importorskip("torch")
    x, scale, bias = data(SHAPE, (4,), (4,))
    module = torch.nn.GroupNorm(groups, 4)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(scale))
        module.bias.copy_(torch.tensor(bias))
    agree_with_torch(torch, module, fnn.group_norm(groups), {"scale": scale, "bias": bias}, {}, x, True)


@pytest.mark.oracle
def test_layer_norm_against_torch():
    torch = pytest.importorskip("torch")
    x, scale, bias = data(SHAPE, (4,), (4,))
    y, g, grads, dx = value_and_gradients(fnn.layer_norm(), {"scale": scale, "bias": bias}, {}, x)
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, scale, bias)]
    wanted = torch.nn.functional.layer_norm(leaves[0], (4,), leaves[1], leaves[2])
    wanted.backward(torch.tensor(g))
    near(y, wanted.detach())
    for got, leaf in zip((dx, grads["scale"], grads["bias"]), leaves, strict=True):
        near(got, leaf.grad)


RESPONSES = [
    {},
    {"size": 3, "alpha": 2.0, "beta": 0.5, "k": 2.0},
    {"size": 4, "alpha": 1.0},
    {"size": 1},
    {"size": 9},
]


@pytest.mark.parametrize("arguments", RESPONSES)
def test_local_response_norm_against_loops(arguments):
    (x,) = data((2, 2, 2, 6))
    y, g, _, dx = value_and_gradients(fnn.local_response_norm(**arguments), {}, {}, x)
    near(y, response_loops(x.astype(np.float64), **arguments), 1e-5)
    near(dx, gradient_by_differences(lambda v: response_loops(v, **arguments), x, g), 1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("arguments", RESPONSES)
def test_local_response_norm_against_torch(arguments):
    torch = pytest.importorskip("torch")
    (x,) = data((2, 3, 2, 6))
    y, g, _, dx = value_and_gradients(fnn.local_response_norm(**arguments), {}, {}, x)
    leaf = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    wanted = torch.nn.functional.local_response_norm(leaf, **{"size": 5, **arguments})
    wanted.backward(torch.tensor(g.transpose(0, 3, 1, 2).copy()))
    near(y, wanted.detach().numpy().transpose(0, 2, 3, 1), 1e-5)
    near(dx, leaf.grad.numpy().transpose(0, 2, 3, 1), 1e-5)


def test_a_batch_spread_over_a_mapped_axis_is_one_batch():
    """Values, gradients of input and parameters, and running statistics."""
    x, scale, bias, g = data((6, 2, 3), (3,), (3,), (6, 2, 3))
    params = {"scale": scale, "bias": bias}
    state = fnn.batch_norm().init(KEY, x)[1]

    def whole(params, x):
        return fnn.batch_norm().apply(params, state, x, train=True)

    def spread(params, x):
        layer = fnn.batch_norm(axis_name="devices")
        run = jax.vmap(lambda v: layer.apply(params, state, v, train=True), axis_name="devices")
        y, new = run(x.reshape(3, 2, 2, 3))
        return y.reshape(x.shape), new

    @functools.partial(jax.jit, static_argnums=0)
    def run(f, params, x, g):
        y, pull, new = jax.vjp(f, params, x, has_aux=True)
        return y, pull(g), new

    y, grads, new = run(whole, params, x, g)
    got_y, got_grads, got_new = run(spread, params, x, g)
    near(got_y, y, 1e-5)
    jax.tree.map(lambda a, b: near(a, b, 1e-5), got_grads, grads)
    for name in ("mean", "var"):
        for of_device in got_new[name]:
            near(of_device, new[name], 1e-5)


def test_the_variance_survives_a_large_mean():
    """E[x²] − E[x]² in float32 would be off by thousands here; in two passes it is exact."""
    x = np.array([4095.0, 4097.0] * 50, np.float32)[:, None] * 4
    params, state = fnn.batch_norm().init(KEY, x)
    y, state = fnn.batch_norm().apply(params, state, jnp.asarray(x), train=True)
    np.testing.assert_allclose(y[:, 0], [-1, 1] * 50, rtol=1e-5)
    np.testing.assert_allclose(state["var"], 0.9 + 0.1 * 16 * 100 / 99, rtol=1e-5)


def test_statistics_of_bfloat16_are_made_in_float32():
    """The sum of 4,000 ones would stop at 256."""
    x = jnp.concatenate([jnp.zeros((4000, 1)), jnp.full((4000, 1), 2.0)]).astype(jnp.bfloat16)
    params, state = fnn.batch_norm().init(KEY, x)
    y, state = fnn.batch_norm().apply(params, state, x, train=True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(state["mean"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(state["var"], 0.9 + 0.1 * 8000 / 7999, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(y, np.float32).ravel(), [-1.0] * 4000 + [1.0] * 4000)


NORMS = [fnn.batch_norm(), fnn.layer_norm(), fnn.group_norm(2), fnn.local_response_norm()]


@pytest.mark.parametrize("layer", NORMS, ids=lambda layer: layer.kind)
def test_integers_are_refused(layer):
    params, state = layer.init(KEY, jnp.ones((2, 4)))
    integers = jnp.ones((2, 4), jnp.int32)
    for call in (lambda: layer.init(KEY, integers), lambda: layer.apply(params, state, integers)):
        with pytest.raises(fnn.LayerError) as error:
            call()
        assert str(error.value) == "expected a floating-point input, got int32: x.astype(jnp.float32)"


@pytest.mark.parametrize("layer", NORMS[:3], ids=lambda layer: layer.kind)
def test_other_channels_and_ranks_are_refused(layer):
    params, state = layer.init(KEY, jnp.ones((2, 4)))
    with pytest.raises(fnn.LayerError) as error:
        layer.apply(params, state, jnp.ones((2, 6)))
    assert str(error.value) == "expected 4 channels on the last axis, as in its parameters, got (2, 6)"
    for call in (lambda x: layer.init(KEY, x), lambda x: layer.apply(params, state, x)):
        with pytest.raises(fnn.LayerError) as error:
            call(jnp.ones(4))
        assert str(error.value) == "expected an input of rank 2 or more (batch, ..., channels), got (4,)"


def test_one_value_a_channel_has_no_variance():
    params, state = fnn.batch_norm().init(KEY, jnp.ones((1, 4)))
    with pytest.raises(fnn.LayerError) as error:
        fnn.batch_norm().apply(params, state, jnp.ones((1, 4)), train=True)
    assert str(error.value) == "expected two or more values a channel in training, got (1, 4)"


def test_a_missing_state_is_named():
    params, _ = fnn.batch_norm().init(KEY, jnp.ones((2, 4)))
    with pytest.raises(fnn.LayerError) as error:
        fnn.batch_norm().apply(params, {}, jnp.ones((2, 4)))
    assert str(error.value) == "expected 'mean' among its parameters and state, got nothing"


def test_groups_that_do_not_divide():
    with pytest.raises(fnn.LayerError) as error:
        fnn.group_norm(3).init(KEY, jnp.ones((2, 4)))
    assert str(error.value) == "expected channels in a multiple of 3 groups, got (2, 4)"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: fnn.batch_norm(1.5), "batch_norm: momentum must lie in 0..1, got 1.5"),
        (lambda: fnn.group_norm(0), "group_norm: groups must be a positive whole number, got 0"),
        (
            lambda: fnn.local_response_norm(0),
            "local_response_norm: size must be a positive whole number, got 0",
        ),
        (
            lambda: fnn.local_response_norm(5000),
            "local_response_norm writes out its size: expected at most 4096, got 5000",
        ),
    ],
)
def test_refused_arguments(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


def test_an_axis_that_nothing_maps():
    layer = fnn.batch_norm(axis_name="devices")
    x = jnp.ones((2, 3))
    with pytest.raises(fnn.LayerError) as error:
        layer.apply(*layer.init(jax.random.key(0), x), x, train=True)
    assert str(error.value).startswith("expected to run where the axis 'devices' is mapped")
