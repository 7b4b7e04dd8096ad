"""Linear models and multi-layer perceptrons against their formulas in NumPy, and PyTorch."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)


def near(got, wanted):
    """Within 1e-4 of the largest value."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def data(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def value_and_gradients(model, params, x, g):
    def run(params, x, g):
        y, pull = jax.vjp(lambda p, v: model.apply(p, {}, v)[0], params, x)
        return y, *pull(g)

    return jax.tree.map(np.asarray, jax.jit(run)(params, x, g))


def test_linear_starts_from_zero_and_is_an_affine_map():
    x, kernel, bias, g = data((5, 2, 3), (6, 4), (4,), (5, 4))
    params, state = fnn.linear(4).init(KEY, x)
    assert not state
    assert not np.any(fnn.linear(4).apply(params, {}, x)[0])
    y, grads, dx = value_and_gradients(fnn.linear(4), {"dense1": {"kernel": kernel, "bias": bias}}, x, g)
    flat = x.reshape(5, 6).astype(np.float64)
    near(y, flat @ kernel + bias)
    near(grads["dense1"]["kernel"], flat.T @ g)
    near(grads["dense1"]["bias"], g.sum(0))
    near(dx, (g @ kernel.T.astype(np.float64)).reshape(x.shape))


def test_linear_regression_finds_the_least_squares():
    """From zero, by the gradient of half the mean square, to what NumPy's solver gives."""
    x, noise = data((30, 2), (30, 1))
    y = x @ np.array([[2.0], [-1.0]], np.float32) + 3.0 + 0.1 * noise
    params, _ = fnn.linear().init(KEY, x)
    loss = jax.grad(lambda p: 0.5 * jnp.mean((fnn.linear().apply(p, {}, x)[0] - y) ** 2))
    descend = jax.jit(lambda p: jax.tree.map(lambda w, g: w - 0.5 * g, p, loss(p)))
    for _ in range(100):
        params = descend(params)
    wanted, *_ = np.linalg.lstsq(np.c_[x, np.ones(30)].astype(np.float64), y, rcond=None)
    near(params["dense1"]["kernel"], wanted[:2])
    near(params["dense1"]["bias"], wanted[2])


def test_linear_without_bias():
    params, _ = fnn.linear(3, bias=False).init(KEY, jnp.ones((1, 4)))
    assert list(fnn.paths(params)) == ["dense1/kernel"]


def layers_of(widths):
    arrays = data(*[shape for i, o in itertools.pairwise(widths) for shape in ((i, o), (o,))])
    return {
        f"dense{n}": {"kernel": kernel / np.sqrt(len(kernel)), "bias": bias}
        for n, (kernel, bias) in enumerate(zip(arrays[::2], arrays[1::2], strict=True), start=1)
    }


def test_mlp_against_its_formulas():
    """Values, and the deltas of back-propagation by hand."""
    x, g = data((5, 2, 3), (5, 3))
    params = layers_of([6, 7, 4, 3])
    y, grads, dx = value_and_gradients(fnn.mlp([7, 4, 3]), params, x, g)

    inputs, h = [], x.reshape(5, 6).astype(np.float64)
    for n in (1, 2, 3):
        inputs.append(h)
        h = h @ params[f"dense{n}"]["kernel"] + params[f"dense{n}"]["bias"]
        h = np.maximum(h, 0) if n < 3 else h
    near(y, h)
    delta = g.astype(np.float64)
    for n in (3, 2, 1):
        near(grads[f"dense{n}"]["kernel"], inputs[n - 1].T @ delta)
        near(grads[f"dense{n}"]["bias"], delta.sum(0))
        delta = delta @ params[f"dense{n}"]["kernel"].T
        delta = delta * (inputs[n - 1] > 0) if n > 1 else delta
    near(dx, delta.reshape(x.shape))


@pytest.mark.oracle
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_mlp_against_torch(activation):
    torch = pytest.importorskip("torch")
    nonlinear = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[activation]
    x, g = data((5, 2, 3), (5, 3))
    params = layers_of([6, 7, 4, 3])
    model = fnn.mlp([7, 4, 3], activation=getattr(fnn, activation))
    y, grads, dx = value_and_gradients(model, params, x, g)

    dense = [torch.nn.Linear(i, o) for i, o in ((6, 7), (7, 4), (4, 3))]
    with torch.no_grad():
        for n, module in enumerate(dense, start=1):
            module.weight.copy_(torch.tensor(params[f"dense{n}"]["kernel"].T))
            module.bias.copy_(torch.tensor(params[f"dense{n}"]["bias"]))
    leaf = torch.tensor(x, requires_grad=True)
    wanted = torch.nn.Sequential(torch.nn.Flatten(), dense[0], nonlinear(), dense[1], nonlinear(), dense[2])(
        leaf
    )
    wanted.backward(torch.tensor(g))
    near(y, wanted.detach())
    near(dx, leaf.grad)
    for n, module in enumerate(dense, start=1):
        near(grads[f"dense{n}"]["kernel"], module.weight.grad.T)
        near(grads[f"dense{n}"]["bias"], module.bias.grad)


def test_mlp_is_made_of():
    kinds = [name for name, _ in fnn.mlp([8, 4, 2], activation=fnn.tanh, dropout_rate=0.5).children]
    assert kinds == ["flatten1", "dense1", "tanh1", "dropout1", "dense2", "tanh2", "dropout2", "dense3"]
    assert [name for name, _ in fnn.mlp([8, 2]).children] == ["flatten1", "dense1", "relu1", "dense2"]
    assert [name for name, _ in fnn.mlp([2]).children] == ["flatten1", "dense1"]


def test_mlp_drops_in_training_and_not_in_evaluation():
    """With every hidden value dropped only the last bias is left."""
    x, params = data((5, 6))[0], layers_of([6, 7, 3])
    model = fnn.mlp([7, 3], dropout_rate=1.0)
    y, _ = model.apply(params, {}, x, key=KEY, train=True)
    near(y, np.broadcast_to(params["dense2"]["bias"], (5, 3)))
    plain, _ = fnn.mlp([7, 3]).apply(params, {}, x)
    np.testing.assert_array_equal(model.apply(params, {}, x)[0], plain)


def test_refused_arguments():
    with pytest.raises(ValueError) as error:
        fnn.mlp([])
    assert str(error.value) == "mlp: features must hold a width or more, got none"
    with pytest.raises(ValueError, match="rate must lie in"):
        fnn.mlp([4, 2], dropout_rate=1.5)
    with pytest.raises(ValueError, match="features must be a positive whole number, got 0"):
        fnn.linear(0)


def test_another_number_of_values_names_the_layer():
    params = {"dense1": {"kernel": np.zeros((6, 3), "f"), "bias": np.zeros(3, "f")}}
    with pytest.raises(fnn.LayerError) as error:
        fnn.linear(3).apply(params, {}, jnp.ones((2, 7)))
    assert (
        str(error.value) == "dense1: expected 6 channels on the last axis, as in its parameters, got (2, 7)"
    )
