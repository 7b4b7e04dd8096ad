"""The configurable convolutional network against PyTorch and NumPy, normalisation included."""

from __future__ import annotations

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


def pictures(n=4, size=8):
    return np.random.default_rng(1).normal(size=(n, size, size, 2)).astype(np.float32)


def random_like(tree):
    """Values of the scale of a trained model's, in place of zeros and ones."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = max(np.prod(leaf.shape[:-1]), 1)
        return (rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    return jax.tree.map(draw, tree)


def start(model, x):
    params, state = jax.eval_shape(lambda: model.init(KEY, x))
    bare = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, "var" in str(path[-1]), np.float32), state
    )
    return random_like(params), bare


def run_of(model, train):
    def run(params, state, x, g):
        (y, new), pull = jax.vjp(lambda p: model.apply(p, state, x, train=train), params)
        return y, new, pull((g, jax.tree.map(jnp.zeros_like, new)))[0]

    return jax.jit(run)


def numpy_conv(x, kernel, bias):
    """SAME, stride 1, an odd kernel."""
    k = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (k, k), (k, k), (0, 0)))
    y = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
    for i, j in np.ndindex(*kernel.shape[:2]):
        y += padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ kernel[i, j].astype(np.float64)
    return y


def numpy_cnn(params, state, x, norm, convs):
    """Evaluation, stage by stage; returns logits."""
    h = x.astype(np.float64)
    for n in range(1, len(params)):
        stage = params[f"stage{n}"]
        if n > 1:
            b, height, width, c = h.shape
            h = h.reshape(b, height // 2, 2, width // 2, 2, c).max((2, 4))
        for i in range(1, convs + 1):
            h = numpy_conv(h, stage[f"conv{i}"]["kernel"], stage[f"conv{i}"].get("bias", 0))
            if norm:
                learned, running = stage[f"batch_norm{i}"], state[f"stage{n}"][f"batch_norm{i}"]
                h = (h - running["mean"]) / np.sqrt(running["var"] + 1e-5)
                h = h * learned["scale"] + learned["bias"]
            h = np.maximum(h, 0)
    return h.mean((1, 2)) @ params["head"]["kernel"].astype(np.float64) + params["head"]["bias"]


@pytest.mark.parametrize("norm", [False, True])
def test_evaluation_against_numpy(norm):
    model = fnn.cnn([4, 6, 8], classes=5, convs=2, norm=norm)
    x = pictures()
    params, state = start(model, x)
    if norm:
        state = jax.tree.map(lambda leaf: np.abs(leaf) + 0.5, random_like(state))
    y, _ = jax.jit(model.apply)(params, state, x)
    near(y, numpy_cnn(params, state, x, norm, 2))


def torch_cnn(torch, params, features, norm, convs):
    """The same model in PyTorch with the same weights, and its leaves by fnn's paths."""
    modules, leaves, inputs = [], {}, 2
    for n, width in enumerate(features, start=1):
        if n > 1:
            modules.append(torch.nn.MaxPool2d(2))
        for i in range(1, convs + 1):
            conv = torch.nn.Conv2d(inputs, width, 3, padding=1, bias=not norm)
            leaves[f"stage{n}/conv{i}/kernel"] = conv.weight
            if not norm:
                leaves[f"stage{n}/conv{i}/bias"] = conv.bias
            modules.append(conv)
            if norm:
                batch_norm = torch.nn.BatchNorm2d(width)
                leaves[f"stage{n}/batch_norm{i}/scale"] = batch_norm.weight
                leaves[f"stage{n}/batch_norm{i}/bias"] = batch_norm.bias
                modules.append(batch_norm)
            modules.append(torch.nn.ReLU())
            inputs = width
    head = torch.nn.Linear(inputs, 5)
    leaves |= {"head/kernel": head.weight, "head/bias": head.bias}
    modules += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head]
    with torch.no_grad():
        for path, value in fnn.paths(params).items():
            leaves[path].copy_(torch.tensor(as_torch(value)))
    return torch.nn.Sequential(*modules), leaves


def as_torch(value):
    """Kernels have their outputs last here, first there."""
    return np.moveaxis(value, (-1, -2), (0, 1)) if value.ndim > 1 else value


@pytest.mark.oracle
@pytest.mark.parametrize("norm", [False, True])
def test_logits_gradients_and_running_statistics_against_torch(norm):
    """Three steps in training, each with another batch, then evaluation."""
    torch = pytest.importorskip("torch")
    features, convs = [4, 6, 8], 2
    model = fnn.cnn(features, classes=5, convs=convs, norm=norm)
    x = pictures(12)
    params, state = start(model, x[:4])
    net, leaves = torch_cnn(torch, params, features, norm, convs)
    assert set(leaves) == set(fnn.paths(params))
    g = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    run = run_of(model, train=True)
    for batch in (x[:4], x[4:8], x[8:]):
        y, state, grads = run(params, state, batch, g)
        net.zero_grad()
        wanted = net.train()(torch.tensor(batch.transpose(0, 3, 1, 2)))
        wanted.backward(torch.tensor(g))
        near(y, wanted.detach())
        for path, grad in fnn.paths(grads).items():
            near(as_torch(np.asarray(grad)), leaves[path].grad)
    norms = [module for module in net if isinstance(module, torch.nn.BatchNorm2d)]
    statistics = fnn.paths(state)
    assert len(statistics) == 2 * len(norms) == (12 if norm else 0)
    for index, module in enumerate(norms):
        path = f"stage{index // convs + 1}/batch_norm{index % convs + 1}"
        near(statistics[f"{path}/mean"], module.running_mean)
        near(statistics[f"{path}/var"], module.running_var)
    y, after = jax.jit(model.apply)(params, state, x)
    with torch.no_grad():
        near(y, net.eval()(torch.tensor(x.transpose(0, 3, 1, 2))))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_it_is_made_of():
    def names(layer):
        return [name for name, _ in layer.children]

    model = fnn.cnn([4, 8], convs=2, norm=True, dropout_rate=0.5, activation=fnn.silu)
    assert names(model) == ["stage1", "stage2", "pool", "head"]
    stages = dict(model.children)
    block = ["conv1", "batch_norm1", "silu1", "conv2", "batch_norm2", "silu2"]
    assert names(stages["stage1"]) == block
    assert names(stages["stage2"]) == ["max_pool1", *block]
    assert names(stages["pool"]) == ["global_avg_pool1", "dropout1"]
    assert names(dict(fnn.cnn([4]).children)["pool"]) == ["global_avg_pool1"]


def test_counts_by_hand():
    """3 × 3 from 2 to 4 channels, 5 × 5 without a bias but with scale and bias after it, the head."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32)
    plain, _ = jax.eval_shape(lambda: fnn.cnn([4], classes=3).init(KEY, x))
    assert fnn.count(plain) == (9 * 2 * 4 + 4) + (4 * 3 + 3)
    normed, state = jax.eval_shape(lambda: fnn.cnn([4], classes=3, kernel=5, norm=True).init(KEY, x))
    assert fnn.count(normed) == 25 * 2 * 4 + 2 * 4 + (4 * 3 + 3)
    assert fnn.count(state) == 2 * 4


def test_dropout_stands_before_the_head():
    """With everything dropped the head's bias is left."""
    model = fnn.cnn([4], classes=3, dropout_rate=1.0)
    x = pictures()
    params, _ = start(model, x)
    y, _ = model.apply(params, {}, jnp.asarray(x), key=KEY, train=True)
    near(y, np.broadcast_to(params["head"]["bias"], (4, 3)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"features": []}, "cnn: features must hold a stage or more, got none"),
        ({"features": [4], "convs": 0}, "cnn: convs must be a positive whole number, got 0"),
        (
            {"features": [4], "convs": 10**9},
            "cnn writes out its convs: expected at most 4096, got 1000000000",
        ),
        ({"features": [4, 8], "pool": 0}, "max_pool: window must be a positive whole number, got 0"),
        ({"features": [4], "classes": 0}, "dense: features must be a positive whole number, got 0"),
        ({"features": [4], "dropout_rate": 2.0}, "dropout: rate must lie in 0..1, got 2.0"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        fnn.cnn(**arguments)
    assert str(error.value) == message


def test_a_picture_too_small_names_the_layer():
    with pytest.raises(fnn.LayerError) as error:
        fnn.cnn([4, 8]).init(KEY, jnp.ones((1, 1, 1, 2)))
    assert str(error.value) == (
        "stage2/max_pool1: expected space for a window of (2, 2), got (1, 1) with padding 'VALID'"
    )
