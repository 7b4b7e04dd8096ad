"""The separable convolution against loops and PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def data(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def value_and_gradients(layer, params, x):
    def run(params, x):
        y, pull = jax.vjp(lambda p, v: layer.apply(p, {}, v)[0], params, x)
        g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
        return y, g, *pull(g)

    return jax.tree.map(np.asarray, jax.jit(run)(params, x))


def parameters(multiplier):
    depthwise, pointwise, bias = data((3, 2, 1, 3 * multiplier), (1, 1, 3 * multiplier, 4), (4,))
    return {"depthwise": {"kernel": depthwise}, "pointwise": {"kernel": pointwise, "bias": bias}}


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(
    "stride, pad", [(1, ((1, 1), (0, 1))), (2, ((1, 1), (0, 1))), ((1, 2), ((0, 0), (0, 0)))]
)
def test_values_and_gradients_against_loops(multiplier, stride, pad):
    (x,) = data((2, 5, 6, 3))
    params = parameters(multiplier)
    layer = fnn.separable_conv(4, (3, 2), multiplier=multiplier, stride=stride, padding=pad)
    y, g, grads, dx = value_and_gradients(layer, params, x)

    depthwise, pointwise = params["depthwise"]["kernel"], params["pointwise"]["kernel"][0, 0]
    steps = (stride, stride) if isinstance(stride, int) else stride
    padded = np.pad(x.astype(np.float64), [(0, 0), *pad, (0, 0)])
    middle, wanted = np.zeros((*g.shape[:3], 3 * multiplier)), np.zeros(g.shape)
    d_depthwise, d_pointwise, d_padded = map(np.zeros, (depthwise.shape, pointwise.shape, padded.shape))
    for i, j in np.ndindex(*g.shape[1:3]):
        here = [(r, c, (slice(None), i * steps[0] + r, j * steps[1] + c)) for r, c in np.ndindex(3, 2)]
        for r, c, cell in here:
            middle[:, i, j] += padded[cell].repeat(multiplier, -1) * depthwise[r, c, 0]
        wanted[:, i, j] = middle[:, i, j] @ pointwise + params["pointwise"]["bias"]
        d_pointwise += middle[:, i, j].T @ g[:, i, j]
        d_middle = g[:, i, j] @ pointwise.T.astype(np.float64)
        for r, c, cell in here:
            d_depthwise[r, c, 0] += (padded[cell].repeat(multiplier, -1) * d_middle).sum(0)
            d_padded[cell] += (d_middle * depthwise[r, c, 0]).reshape(2, 3, multiplier).sum(-1)
    near(y, wanted)
    near(grads["depthwise"]["kernel"], d_depthwise)
    near(grads["pointwise"]["kernel"][0, 0], d_pointwise)
    near(grads["pointwise"]["bias"], g.sum((0, 1, 2)))
    near(dx, d_padded[:, pad[0][0] :, pad[1][0] :][:, :5, :6])


@pytest.mark.oracle
@pytest.mark.parametrize("multiplier", [1, 2])
def test_values_and_gradients_against_torch(multiplier):
    torch = pytest.importorskip("torch")
    (x,) = data((2, 5, 6, 3))
    params = parameters(multiplier)
    layer = fnn.separable_conv(4, (3, 2), multiplier=multiplier, stride=2, padding=1, dilation=(1, 2))
    y, g, grads, dx = value_and_gradients(layer, params, x)
    depthwise = torch.nn.Conv2d(
        3, 3 * multiplier, (3, 2), stride=2, padding=1, dilation=(1, 2), groups=3, bias=False
    )
    pointwise = torch.nn.Conv2d(3 * multiplier, 4, 1)
    with torch.no_grad():
        depthwise.weight.copy_(torch.tensor(params["depthwise"]["kernel"].transpose(3, 2, 0, 1)))
        pointwise.weight.copy_(torch.tensor(params["pointwise"]["kernel"].transpose(3, 2, 0, 1)))
        pointwise.bias.copy_(torch.tensor(params["pointwise"]["bias"]))
    leaf = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    wanted = pointwise(depthwise(leaf))
    wanted.backward(torch.tensor(g.transpose(0, 3, 1, 2).copy()))
    near(y, wanted.detach().numpy().transpose(0, 2, 3, 1))
    near(dx, leaf.grad.numpy().transpose(0, 2, 3, 1))
    near(grads["depthwise"]["kernel"], depthwise.weight.grad.numpy().transpose(2, 3, 1, 0))
    near(grads["pointwise"]["kernel"], pointwise.weight.grad.numpy().transpose(2, 3, 1, 0))
    near(grads["pointwise"]["bias"], pointwise.bias.grad)


def test_parameters_are_fewer_than_a_convolutions():
    """3 × 3, 16 to 32 channels: 9 · 16 + 16 · 32 + 32 in place of 9 · 16 · 32 + 32."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 16), jnp.float32)
    params, state = jax.eval_shape(lambda: fnn.separable_conv(32, 3).init(KEY, x))
    assert fnn.count(params) == 688
    assert not state
    without, _ = jax.eval_shape(lambda: fnn.separable_conv(32, 3, bias=False).init(KEY, x))
    assert list(fnn.paths(without)) == ["depthwise/kernel", "pointwise/kernel"]


def test_it_works_on_1_and_3_axes():
    for space in ((6,), (4, 3, 5)):
        (x,) = data((2, *space, 3))
        depthwise, pointwise = data((*[3] * len(space), 1, 3), (*[1] * len(space), 3, 4))
        layer = fnn.separable_conv(4, 3, bias=False)
        y, _ = layer.apply({"depthwise": {"kernel": depthwise}, "pointwise": {"kernel": pointwise}}, {}, x)
        # The composition is one convolution, whose kernel is the product of the two.
        full = depthwise.swapaxes(-1, -2) * pointwise
        wanted, _ = fnn.conv(4, 3, bias=False).apply({"kernel": full}, {}, jnp.asarray(x))
        near(y, wanted)


def test_its_kind_names_it_and_stays_when_a_model_is_rebuilt():
    model = fnn.serial(fnn.separable_conv(4, 3), fnn.separable_conv(4, 3))
    assert [name for name, _ in model.children] == ["separable_conv1", "separable_conv2"]
    kinds = []
    rebuilt = fnn.map_layers(lambda path, layer: layer, model)
    fnn.map_layers(lambda path, layer: kinds.append(layer.kind) or layer, rebuilt)
    assert kinds.count("separable_conv") == 2


def test_errors_name_the_step():
    params = {"depthwise": {"kernel": np.zeros((3, 3, 1, 3), "f")}}
    with pytest.raises(fnn.LayerError) as error:
        fnn.separable_conv(4, 3).apply(params, {}, jnp.ones((1, 5, 5, 2)))
    assert str(error.value) == (
        "depthwise: expected 3 channels on the last axis, as in its parameters, got (1, 5, 5, 2)"
    )
    with pytest.raises(fnn.LayerError) as error:
        fnn.separable_conv(4, 3).init(KEY, jnp.ones((128, 784)))
    assert str(error.value) == (
        "depthwise: expected an input of rank 4 (batch, height, width, channels), got (128, 784)"
    )
    for wrong in ({"features": 0}, {"multiplier": 0}):
        with pytest.raises(ValueError, match="must be a positive whole number, got 0"):
            fnn.separable_conv(**{"features": 4, "kernel": 3, **wrong})
