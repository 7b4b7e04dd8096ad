"""LeNet-5 against its paper and written out in NumPy; both LeNets against PyTorch with the same weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.models.lenet import C3_TABLE, subsample, table_conv

KEY = jax.random.key(0)

# Table I of the paper, as printed: a row for each map of S2, a column for each map of C3.
TABLE_I = [
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
]


def near(got, wanted):
    """Within 1e-4 of the largest value."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def shapes(model, x):
    return jax.eval_shape(lambda: model.init(KEY, x))[0]


def random_parameters(model, x):
    """Biases and scales, too, are drawn, so that a forgotten one shows."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return (rng.normal(size=leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))).astype(np.float32)

    return jax.tree.map(draw, shapes(model, x))


def value_and_gradients(model, params, x):
    """Value, a cotangent, gradients of params and x."""

    def run(params, x):
        y, pull = jax.vjp(lambda p, v: model.apply(p, {}, v)[0], params, x)
        g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
        return y, g, *pull(g)

    return jax.tree.map(np.asarray, jax.jit(run)(params, x))


def numpy_conv(x, kernel, bias):
    """VALID, stride 1."""
    height, width = x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1
    y = np.zeros((len(x), height, width, kernel.shape[-1])) + bias
    for i, j in np.ndindex(*kernel.shape[:2]):
        y += x[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
    return y


def numpy_table_conv(x, kernel, bias):
    """Output map by output map, connection by connection, down the columns of Table I."""
    n, height, width, _ = x.shape
    y = np.zeros((n, height - 4, width - 4, 16)) + bias
    connection = 0
    for target in range(16):
        for source in range(6):
            if TABLE_I[source][target] == "X":
                for i, j in np.ndindex(5, 5):
                    cells = x[:, i : i + height - 4, j : j + width - 4, source]
                    y[..., target] += cells * float(kernel[i, j, connection])
                connection += 1
    assert connection == kernel.shape[-1] == 60
    return y


def numpy_subsample(x, scale, bias):
    n, height, width, c = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, c).mean((2, 4)) * scale + bias


def squash(x):
    return 1.7159 * np.tanh(2 / 3 * x)


def test_the_table_is_the_papers():
    columns = [tuple(s for s in range(6) if TABLE_I[s][t] == "X") for t in range(16)]
    assert list(C3_TABLE) == columns


def test_the_table_is_built_as_the_paper_says():
    """Six maps take three contiguous ones (in a ring), six four, three two pairs apart, the last all."""

    def contiguous(maps):
        return any({(start + i) % 6 for i in range(len(maps))} == set(maps) for start in range(6))

    sizes = [len(maps) for maps in C3_TABLE]
    assert sizes == [3] * 6 + [4] * 9 + [6]
    assert all(contiguous(maps) for maps in C3_TABLE[:12])
    assert not any(contiguous(maps) for maps in C3_TABLE[12:15])
    assert len(set(C3_TABLE)) == 16
    assert all(sum(s in maps for maps in C3_TABLE) == 10 for s in range(6))


def test_lenet5_has_the_parameters_of_the_paper():
    params = shapes(fnn.lenet5(), jnp.ones((1, 32, 32, 1)))
    counts = {name: fnn.count(tree) for name, tree in params.items()}
    assert counts.pop("output") == 84 * 10 + 10
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
    assert fnn.count(shapes(fnn.lenet5(3), jnp.ones((1, 32, 32, 1)))["output"]) == 84 * 3 + 3


def test_lenet5_has_the_maps_of_the_paper():
    sizes = {}

    def note(path, layer):
        def apply(params, state, x, **arguments):
            y, state = layer.apply(params, state, x, **arguments)
            sizes[path] = y.shape[1:]
            return y, state

        return fnn.Layer(layer.init, apply, layer.kind, layer.children, layer.rebuild)

    shapes(fnn.map_layers(note, fnn.lenet5()), jnp.ones((1, 32, 32, 1)))
    assert [sizes[name] for name in ("c1", "s2", "c3", "s4", "c5", "f6", "output")] == [
        (28, 28, 6),
        (14, 14, 6),
        (10, 10, 16),
        (5, 5, 16),
        (1, 1, 120),
        (84,),
        (10,),
    ]


@pytest.mark.slow
def test_lenet5_starts_in_the_papers_interval():
    """Appendix A: uniform in ±2.4 / fan-in; the sub-sampling starts as the plain mean."""
    params, state = jax.jit(lambda: fnn.lenet5().init(KEY, jnp.ones((1, 32, 32, 1))))()
    assert not state
    fans = {"c1": 25, "c5": 400, "f6": 120, "output": 84}
    for name, fan_in in fans.items():
        kernel = np.abs(params[name]["kernel"])
        assert 0.95 * 2.4 / fan_in < kernel.max() <= 2.4 / fan_in * (1 + 1e-6)
        assert not params[name]["bias"].any()
    kernel, connection = np.abs(params["c3"]["kernel"]), 0
    for maps in C3_TABLE:
        own = kernel[..., connection : connection + len(maps)]
        bound = 2.4 / (25 * len(maps))
        assert 0.9 * bound < own.max() <= bound * (1 + 1e-6)
        connection += len(maps)
    for name in ("s2", "s4"):
        np.testing.assert_array_equal(params[name]["scale"], np.ones_like(params[name]["scale"]))
        np.testing.assert_array_equal(params[name]["bias"], np.zeros_like(params[name]["bias"]))


def test_the_squashing_function():
    """f(±1) = ±1, and the second derivative is largest in size at 1 (Appendix A)."""
    f = fnn.lenet5().children[1][1].apply
    xs = jnp.linspace(-3, 3, 61)
    np.testing.assert_allclose(f({}, {}, xs)[0], squash(np.linspace(-3, 3, 61)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(f({}, {}, jnp.array([-1.0, 1.0]))[0], [-1, 1], rtol=1e-4)
    second = np.abs(np.diff(np.asarray(f({}, {}, jnp.linspace(0, 3, 31))[0], np.float64), 2))
    assert np.argmax(second) == 9


def test_table_conv_against_loops():
    """Its gradients, linear in one argument each, by inner products with the loops."""
    rng = np.random.default_rng(0)
    layer = table_conv(C3_TABLE, 5)
    x = rng.normal(size=(2, 7, 8, 6)).astype(np.float32)
    params = random_parameters(layer, x)
    y, g, grads, dx = value_and_gradients(layer, params, x)
    near(y, numpy_table_conv(x.astype(np.float64), params["kernel"], params["bias"]))
    near(grads["bias"], g.sum((0, 1, 2)))
    for _ in range(5):
        way_x, way_kernel = rng.normal(size=x.shape), rng.normal(size=params["kernel"].shape)
        near((dx * way_x).sum(), (g * numpy_table_conv(way_x, params["kernel"], 0)).sum())
        near((grads["kernel"] * way_kernel).sum(), (g * numpy_table_conv(x, way_kernel, 0)).sum())


def test_subsample_against_loops():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    params = random_parameters(subsample(2), x)
    y, g, grads, dx = value_and_gradients(subsample(2), params, x)
    mean = numpy_subsample(x.astype(np.float64), 1, 0)
    near(y, mean * params["scale"] + params["bias"])
    near(grads["scale"], (mean * g).sum((0, 1, 2)))
    near(grads["bias"], g.sum((0, 1, 2)))
    near(dx, (g * params["scale"] / 4).repeat(2, 1).repeat(2, 2))


def test_lenet5_against_numpy():
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    p = random_parameters(fnn.lenet5(), x)
    h = squash(numpy_conv(x.astype(np.float64), **p["c1"]))
    h = squash(numpy_subsample(h, **p["s2"]))
    h = squash(numpy_table_conv(h, **p["c3"]))
    h = squash(numpy_subsample(h, **p["s4"]))
    h = squash(numpy_conv(h, **p["c5"])).reshape(2, 120)
    h = squash(h @ p["f6"]["kernel"] + p["f6"]["bias"])
    y, _ = jax.jit(fnn.lenet5().apply)(p, {}, x)
    near(y, h @ p["output"]["kernel"] + p["output"]["bias"])


def torch_leaves(torch, params):
    return {path: torch.tensor(value, requires_grad=True) for path, value in fnn.paths(params).items()}


def to_torch(kernel):
    """Kernels (height, width, in, out) become (out, in, height, width)."""
    return kernel.permute(3, 2, 0, 1)


def flat(h):
    """Flattened as fnn does, row by row with the channels last."""
    return h.permute(0, 2, 3, 1).flatten(1)


@pytest.mark.oracle
def test_lenet5_against_torch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(1).normal(size=(3, 32, 32, 1)).astype(np.float32)
    params = random_parameters(fnn.lenet5(), x)
    y, g, grads, dx = value_and_gradients(fnn.lenet5(), params, x)

    p = torch_leaves(torch, params)
    leaf = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    functional = torch.nn.functional
    pairs = [(t, s) for t in range(16) for s in range(6) if TABLE_I[s][t] == "X"]
    targets, sources = torch.tensor(pairs).T
    table = torch.zeros(16, 6, 5, 5).index_put((targets, sources), p["c3/kernel"].permute(2, 0, 1))

    def act(h):
        return 1.7159 * torch.tanh(2 / 3 * h)

    def sub(h, name):
        scale, bias = p[f"{name}/scale"][:, None, None], p[f"{name}/bias"][:, None, None]
        return functional.avg_pool2d(h, 2) * scale + bias

    h = act(functional.conv2d(leaf, to_torch(p["c1/kernel"]), p["c1/bias"]))
    h = act(sub(h, "s2"))
    h = act(functional.conv2d(h, table, p["c3/bias"]))
    h = act(sub(h, "s4"))
    h = act(functional.conv2d(h, to_torch(p["c5/kernel"]), p["c5/bias"]))
    h = act(flat(h) @ p["f6/kernel"] + p["f6/bias"])
    wanted = h @ p["output/kernel"] + p["output/bias"]
    wanted.backward(torch.tensor(g))
    near(y, wanted.detach())
    near(dx, leaf.grad.numpy().transpose(0, 2, 3, 1))
    for path, grad in fnn.paths(grads).items():
        near(grad, p[path].grad)


@pytest.mark.oracle
def test_lenet_against_torch():
    """Of full size; PyTorch's own modules, whose flattened rows are ordered channels first."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    x = np.random.default_rng(1).normal(size=(3, 28, 28, 1)).astype(np.float32)
    params = random_parameters(fnn.lenet(), x)
    y, g, grads, dx = value_and_gradients(fnn.lenet(), params, x)

    def channels_first(kernel):
        return kernel.reshape(7, 7, 64, 512).transpose(3, 2, 0, 1).reshape(512, -1)

    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10)),
    )
    twins = {
        "conv1": (net[0], lambda kernel: kernel.transpose(3, 2, 0, 1)),
        "conv2": (net[3], lambda kernel: kernel.transpose(3, 2, 0, 1)),
        "dense1": (net[7], channels_first),
        "dense2": (net[9], np.transpose),
    }
    assert list(twins) == list(params)
    with torch.no_grad():
        for name, (module, turned) in twins.items():
            module.weight.copy_(torch.tensor(turned(params[name]["kernel"])))
            module.bias.copy_(torch.tensor(params[name]["bias"]))
    leaf = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    wanted = net(leaf)
    wanted.backward(torch.tensor(g))
    near(y, wanted.detach())
    near(dx, leaf.grad.numpy().transpose(0, 2, 3, 1))
    for name, (module, turned) in twins.items():
        near(turned(grads[name]["kernel"]), module.weight.grad)
        near(grads[name]["bias"], module.bias.grad)


def test_lenet_against_numpy():
    """5 × 5 windows over a picture padded by 2, ReLU, the largest of 2 × 2; two dense layers."""
    model = fnn.lenet(3, features=(4, 6), hidden=7)
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype(np.float32)
    params = random_parameters(model, x)
    h = x.astype(np.float64)
    for name in ("conv1", "conv2"):
        h = np.maximum(numpy_conv(np.pad(h, ((0, 0), (2, 2), (2, 2), (0, 0))), **params[name]), 0)
        n, height, width, c = h.shape
        h = h.reshape(n, height // 2, 2, width // 2, 2, c).max((2, 4))
    h = np.maximum(h.reshape(2, -1) @ params["dense1"]["kernel"] + params["dense1"]["bias"], 0)
    y, _ = jax.jit(model.apply)(params, {}, x)
    near(y, h @ params["dense2"]["kernel"] + params["dense2"]["bias"])


def test_lenet_drops_from_its_hidden_layer():
    model = fnn.lenet(3, features=(4, 6), hidden=7, dropout_rate=1.0)
    x = jnp.ones((2, 8, 8, 1))
    params = random_parameters(model, x)
    y, _ = model.apply(params, {}, x, key=KEY, train=True)
    near(y, np.broadcast_to(params["dense2"]["bias"], (2, 3)))
    assert [name for name, _ in model.children][-3:] == ["relu3", "dropout1", "dense2"]
    assert "dropout1" not in dict(fnn.lenet().children)


def test_errors_name_the_layer():
    with pytest.raises(fnn.LayerError) as error:
        fnn.lenet5().init(KEY, jnp.ones((128, 784)))
    assert str(error.value) == (
        "c1: expected an input of rank 4 (batch, height, width, channels), got (128, 784)"
    )
    with pytest.raises(fnn.LayerError) as error:
        fnn.lenet5().init(KEY, jnp.ones((1, 28, 28, 1)))
    assert str(error.value) == "c5: expected space for a window of (5, 5), got (4, 4) with padding 'VALID'"
    layer = table_conv(C3_TABLE, 5)
    params = random_parameters(layer, jnp.ones((1, 14, 14, 6)))
    for call in (lambda x: layer.init(KEY, x), lambda x: layer.apply(params, {}, x)):
        with pytest.raises(fnn.LayerError) as error:
            call(jnp.ones((1, 14, 14, 5)))
        assert str(error.value) == (
            "expected 6 channels on the last axis, as in its parameters, got (1, 14, 14, 5)"
        )
    with pytest.raises(fnn.LayerError) as error:
        subsample(2).apply({"scale": np.ones(6, "f"), "bias": np.ones(6, "f")}, {}, jnp.ones((1, 4, 4, 5)))
    assert str(error.value) == "expected 6 channels on the last axis, as in its parameters, got (1, 4, 4, 5)"


@pytest.mark.parametrize("make", [lambda: fnn.lenet5(0), lambda: fnn.lenet(0), lambda: fnn.lenet(hidden=0)])
def test_refused_arguments(make):
    with pytest.raises(ValueError, match="dense: features must be a positive whole number, got 0"):
        make()
