"""Convolutions against loops over windows, and PyTorch: values, and gradients of input, kernel and bias."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)
SPACE = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}
UNEVEN = {1: [(0, 2)], 2: [(2, 0), (0, 1)], 3: [(1, 0), (0, 2), (1, 1)]}
KERNELS = {1: [(1,), (2,), (3,)], 2: [(3, 2), (1, 3)], 3: [(2, 1, 3)]}
STRIDES = {1: [1, 2], 2: [1, (2, 3)], 3: [1, (1, 2, 2)]}
DILATIONS = {1: [1, 2], 2: [1, (1, 2)], 3: [1, (2, 1, 1)]}


def geometries(axes: int, paddings: tuple = ("SAME", "VALID", 1, "uneven")) -> list[tuple]:
    """Every kernel with every stride, padding and dilation."""
    return [
        (kernel, stride, UNEVEN[axes] if padding == "uneven" else padding, dilation)
        for kernel, stride, padding, dilation in itertools.product(
            KERNELS[axes], STRIDES[axes], paddings, DILATIONS[axes]
        )
    ]


def each(value, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def sides(space, reach, stride, padding) -> list[tuple[int, int]]:
    """What the docstring of conv says of each padding."""
    if padding == "VALID":
        return [(0, 0)] * len(space)
    if padding == "SAME":
        wanted = [(math.ceil(n / s) - 1) * s + r - n for n, r, s in zip(space, reach, stride, strict=True)]
        return [(max(w, 0) // 2, max(w, 0) - max(w, 0) // 2) for w in wanted]
    return [(padding, padding)] * len(space) if isinstance(padding, int) else list(padding)


class Loops:
    """One convolution, window by window and cell by cell, forwards and backwards, in float64."""

    def __init__(self, x, kernel, stride=1, padding="SAME", dilation=1, groups=1):
        axes, self.groups = x.ndim - 2, groups
        window = kernel.shape[:axes]
        stride, dilation = each(stride, axes), each(dilation, axes)
        reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        pad = sides(x.shape[1:-1], reach, stride, padding)
        self.out = [
            (n + a + b - r) // s + 1
            for n, (a, b), r, s in zip(x.shape[1:-1], pad, reach, stride, strict=True)
        ]
        self.x, self.kernel = x.astype(np.float64), self._ungrouped(kernel)
        self.taps = []
        for o, cell in itertools.product(np.ndindex(*self.out), np.ndindex(*window)):
            p = tuple(
                oi * s + c * d - a for oi, s, c, d, (a, _) in zip(o, stride, cell, dilation, pad, strict=True)
            )
            if all(0 <= pi < n for pi, n in zip(p, x.shape[1:-1], strict=True)):
                self.taps.append(((slice(None), *o), cell, (slice(None), *p)))

    def _ungrouped(self, kernel):
        """The kernel of the same convolution without groups: blocks on a diagonal, zeros elsewhere."""
        *window, inputs, features = kernel.shape
        full = np.zeros((*window, inputs * self.groups, features))
        for rows, columns in self._blocks(inputs, features // self.groups):
            full[..., rows, columns] = kernel[..., columns]
        return full

    def _blocks(self, inputs, features):
        return [
            (slice(g * inputs, (g + 1) * inputs), slice(g * features, (g + 1) * features))
            for g in range(self.groups)
        ]

    def forward(self):
        y = np.zeros((len(self.x), *self.out, self.kernel.shape[-1]))
        for o, cell, p in self.taps:
            y[o] += self.x[p] @ self.kernel[cell]
        return y

    def backward(self, g):
        """The gradients of the kernel and the input."""
        full, dx = np.zeros(self.kernel.shape), np.zeros(self.x.shape)
        for o, cell, p in self.taps:
            full[cell] += self.x[p].T @ g[o]
            dx[p] += g[o] @ self.kernel[cell].T
        blocks = self._blocks(full.shape[-2] // self.groups, full.shape[-1] // self.groups)
        return np.concatenate([full[..., rows, columns] for rows, columns in blocks], axis=-1), dx


def transposed(x, kernel, stride, padding, dilation):
    """Every input cell paints the kernel; the sides are cut off, or where a cut is negative, added."""
    axes = x.ndim - 2
    stride, dilation = each(stride, axes), each(dilation, axes)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:axes], dilation, strict=True)]
    long = [(n - 1) * s + r for n, s, r in zip(x.shape[1:-1], stride, reach, strict=True)]
    y = np.zeros((len(x), *long, kernel.shape[-1]))
    for i, cell in itertools.product(np.ndindex(*x.shape[1:-1]), np.ndindex(*kernel.shape[:axes])):
        p = tuple(ii * s + c * d for ii, s, c, d in zip(i, stride, cell, dilation, strict=True))
        y[(slice(None), *p)] += x[(slice(None), *i)].astype(np.float64) @ kernel[cell]
    if padding == "SAME":  # what a convolution over an input of in * stride would pad
        cut = sides([n * s for n, s in zip(x.shape[1:-1], stride, strict=True)], reach, stride, "SAME")
        cut = [(a, m - n * s - a) for (a, _), m, n, s in zip(cut, long, x.shape[1:-1], stride, strict=True)]
    else:
        cut = sides(x.shape[1:-1], reach, stride, padding)
    y = np.pad(y, [(0, 0), *((max(-a, 0), max(-b, 0)) for a, b in cut), (0, 0)])
    keep = tuple(slice(max(a, 0), n - max(b, 0)) for n, (a, b) in zip(y.shape[1:-1], cut, strict=True))
    return y[(slice(None), *keep)]


def data(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def value_and_gradients(layer, params, x):
    """Value, a cotangent, gradients of params and x."""
    y, pull = jax.vjp(lambda p, v: layer.apply(p, {}, v)[0], params, x)
    g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
    return y, g, *pull(g)


def run(cases):
    """Of each (geometry, layer, params, x): geometry, params, x, value, cotangent, gradients.

    All in one program: compiling it takes a tenth of the time of the cases one by one.
    """
    geometry, layers, params, xs = zip(*cases, strict=True)
    program = jax.jit(lambda p, x: list(map(value_and_gradients, layers, p, x)))
    with jax.default_matmul_precision("highest"):  # as beside an oracle: the results are kept for one
        results = jax.tree.map(np.asarray, program(params, xs))
    return [
        (*case, *result) for case, result in zip(zip(geometry, params, xs, strict=True), results, strict=True)
    ]


def shapes_of(layer, x):
    """Params and state without their values: quick to make."""
    return jax.eval_shape(lambda key: layer.init(key, x), KEY)


def zeros_for(layer, x):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes_of(layer, x)[0])


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5)


def to_torch(torch, x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)


def from_torch(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


@functools.cache
def conv_results(axes, groups, with_bias=True):
    x, bias = data((2, *SPACE[axes], 4), (6,))
    cases = []
    for k, s, p, d in geometries(axes):
        (kernel,) = data((*k, 4 // groups, 6))
        layer = fnn.conv(6, k, stride=s, padding=p, dilation=d, groups=groups, bias=with_bias)
        params = {"kernel": kernel, "bias": bias} if with_bias else {"kernel": kernel}
        cases.append(((k, s, p, d), layer, params, x))
    return run(cases)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_against_loops(axes, groups):
    for (_, s, p, d), params, x, y, g, grads, dx in conv_results(axes, groups):
        loops = Loops(x, params["kernel"], s, p, d, groups)
        wanted_kernel, wanted_dx = loops.backward(g)
        near(y, loops.forward() + params["bias"])
        near(grads["kernel"], wanted_kernel)
        near(dx, wanted_dx)
        near(grads["bias"], g.astype(np.float64).reshape(-1, 6).sum(0))


def test_conv_without_bias_against_loops():
    for (_, s, p, d), params, x, y, g, grads, dx in conv_results(1, 1, False):
        loops = Loops(x, params["kernel"], s, p, d)
        wanted_kernel, wanted_dx = loops.backward(g)
        assert list(grads) == ["kernel"]
        near(y, loops.forward())
        near(grads["kernel"], wanted_kernel)
        near(dx, wanted_dx)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "axes, groups, with_bias", [(1, 1, False), *itertools.product((1, 2, 3), (1, 2), (True,))]
)
def test_conv_against_torch(axes, groups, with_bias):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, f"conv{axes}d")
    for (k, s, p, d), params, x, y, g, grads, dx in conv_results(axes, groups, with_bias):
        steps, rates = each(s, axes), each(d, axes)
        reach = [(n - 1) * r + 1 for n, r in zip(k, rates, strict=True)]
        pad = sides(SPACE[axes], reach, steps, p)
        leaf, w = to_torch(torch, x), to_torch(torch, np.moveaxis(params["kernel"], -1, 0))
        b = torch.tensor(np.array(params["bias"]), requires_grad=True) if with_bias else None
        padded = torch.nn.functional.pad(leaf, [n for pair in reversed(pad) for n in pair])
        wanted = function(padded, w, b, stride=steps, dilation=rates, groups=groups)
        wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
        near(y, from_torch(wanted))
        near(dx, from_torch(leaf.grad))
        near(grads["kernel"], np.moveaxis(from_torch(w.grad), 0, -1))
        if with_bias:
            near(grads["bias"], b.grad)


@functools.cache
def transpose_results(axes):
    """As for conv; but to cut a cell from each side of a painted cell of 1 would leave nothing."""
    x, bias = data((2, *SPACE[axes], 4), (3,))
    cases = []
    for k, s, p, d in geometries(axes):
        window = (2,) if k == (1,) else k
        (kernel,) = data((*window, 4, 3))
        layer = fnn.conv_transpose(3, window, stride=s, padding=p, dilation=d)
        cases.append(((s, p, d), layer, {"kernel": kernel, "bias": bias}, x))
    return run(cases)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_transpose_against_loops(axes):
    """The layer is linear in its input and in its kernel: inner products with loops prove the gradients."""
    rng = np.random.default_rng(3)
    for (s, p, d), params, x, y, g, grads, dx in transpose_results(axes):
        kernel, bias = params["kernel"], params["bias"]
        near(y, transposed(x, kernel, s, p, d) + bias)
        near(grads["bias"], g.astype(np.float64).reshape(-1, 3).sum(0))
        for _ in range(3):
            way_x, way_kernel = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
            near((dx * way_x).sum(), (g * transposed(way_x, kernel, s, p, d)).sum())
            near((grads["kernel"] * way_kernel).sum(), (g * transposed(x, way_kernel, s, p, d)).sum())


@pytest.mark.oracle
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_transpose_against_torch(axes):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, f"conv_transpose{axes}d")
    results = [result for result in transpose_results(axes) if result[0][1] in ("VALID", 1)]
    assert results
    for (s, p, d), params, x, y, g, grads, dx in results:
        leaf, b = to_torch(torch, x), torch.tensor(np.array(params["bias"]), requires_grad=True)
        w = torch.tensor(np.moveaxis(params["kernel"], (-2, -1), (0, 1)).copy(), requires_grad=True)
        cut = 0 if p == "VALID" else p
        wanted = function(leaf, w, b, stride=each(s, axes), padding=cut, dilation=each(d, axes))
        wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
        near(y, from_torch(wanted))
        near(dx, from_torch(leaf.grad))
        near(grads["kernel"], np.moveaxis(w.grad.numpy(), (0, 1), (-2, -1)))
        near(grads["bias"], b.grad)


def test_conv_transpose_is_what_conv_does_to_its_inputs_gradient():
    x, kernel = map(jnp.asarray, data((2, 4, 3, 5), (3, 2, 5, 2)))

    def both(stride, padding):
        geometry = {"stride": stride, "padding": padding, "dilation": (1, 2), "bias": False}
        y, _ = fnn.conv_transpose(2, (3, 2), **geometry).apply({"kernel": kernel}, {}, x)
        swapped = {"kernel": kernel.swapaxes(-1, -2)}
        conv = fnn.conv(5, (3, 2), **geometry)
        out, pull = jax.vjp(lambda v: conv.apply(swapped, {}, v)[0], jnp.zeros(y.shape))
        assert out.shape == x.shape
        if padding == "SAME":
            assert y.shape[1:3] == tuple(n * s for n, s in zip((4, 3), each(stride, 2), strict=True))
        return y, pull(x)[0]

    geometries = list(itertools.product([1, 2, (3, 1), 4], ["SAME", "VALID", 1, [(1, 0), (0, 2)]]))
    for got, wanted in jax.jit(lambda: [both(*geometry) for geometry in geometries])():
        near(got, wanted)


@pytest.mark.parametrize("axes, multiplier", [(1, 1), (2, 3), (3, 2)])
def test_depthwise_conv_against_loops(axes, multiplier):
    """Output channel j sees input channel j // multiplier alone."""
    features = 3 * multiplier
    x, bias = data((2, *SPACE[axes], 3), (features,))
    cases = []
    for k, s, p, d in geometries(axes):
        (kernel,) = data((*k, 1, features))
        layer = fnn.depthwise_conv(k, multiplier=multiplier, stride=s, padding=p, dilation=d)
        cases.append(((s, p, d), layer, {"kernel": kernel, "bias": bias}, x))
    for (s, p, d), params, _, y, g, grads, dx in run(cases):
        one = [Loops(x[..., [j // multiplier]], params["kernel"][..., [j]], s, p, d) for j in range(features)]
        backward = [loops.backward(g[..., [j]]) for j, loops in enumerate(one)]
        each_dx = np.concatenate([b[1] for b in backward], -1)
        near(y, np.concatenate([loops.forward() for loops in one], -1) + bias)
        near(grads["kernel"], np.concatenate([b[0] for b in backward], -1))
        near(dx, each_dx.reshape(*x.shape, multiplier).sum(-1))
        near(grads["bias"], g.astype(np.float64).reshape(-1, features).sum(0))


@pytest.mark.oracle
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_conv_against_torch(multiplier):
    torch = pytest.importorskip("torch")
    x, weights, bias = data((2, 6, 5, 3), (3, 3, 1, 3 * multiplier), (3 * multiplier,))
    layer = fnn.depthwise_conv(3, multiplier=multiplier, stride=2, padding=1)
    y, g, grads, dx = value_and_gradients(layer, {"kernel": weights, "bias": bias}, jnp.asarray(x))
    module = torch.nn.Conv2d(3, 3 * multiplier, 3, stride=2, padding=1, groups=3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weights.transpose(3, 2, 0, 1)))
        module.bias.copy_(torch.tensor(bias))
    leaf = to_torch(torch, x)
    wanted = module(leaf)
    wanted.backward(torch.tensor(g.transpose(0, 3, 1, 2).copy()))
    near(y, from_torch(wanted))
    near(dx, from_torch(leaf.grad))
    near(grads["kernel"], module.weight.grad.numpy().transpose(2, 3, 1, 0))
    near(grads["bias"], module.bias.grad)


@pytest.mark.parametrize(
    "layer, shapes",
    [
        (fnn.conv(6, 3), {"kernel": (3, 3, 4, 6), "bias": (6,)}),
        (fnn.conv(6, (3, 5), groups=2, bias=False), {"kernel": (3, 5, 2, 6)}),
        (fnn.depthwise_conv(3, multiplier=2), {"kernel": (3, 3, 1, 8), "bias": (8,)}),
        (fnn.conv_transpose(6, 2), {"kernel": (2, 2, 4, 6), "bias": (6,)}),
        (fnn.conv_transpose(6, 2, bias=False), {"kernel": (2, 2, 4, 6)}),
    ],
)
def test_parameters(layer, shapes):
    params, state = shapes_of(layer, jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.bfloat16))
    assert {name: leaf.shape for name, leaf in params.items()} == shapes
    assert all(leaf.dtype == jnp.float32 for leaf in params.values())
    assert not state


def test_the_default_kernel_has_variance_2_over_the_fan_in_of_a_window_and_group():
    for groups in (1, 4):
        params, _ = fnn.conv(32, 3, groups=groups).init(KEY, jax.ShapeDtypeStruct((1, 4, 4, 32), jnp.float32))
        kernel = np.asarray(params["kernel"], np.float64)
        assert abs(kernel.var() * (9 * 32 / groups) / 2 - 1) < 5 * np.sqrt(2 / kernel.size)


RANK_4 = "expected an input of rank 4 (batch, height, width, channels), got"


@pytest.mark.parametrize(
    "make", [fnn.conv, fnn.conv_transpose, lambda f, *a, **k: fnn.depthwise_conv(*a, **k)]
)
def test_refused_inputs(make):
    def message(layer, x, params=None):
        with pytest.raises(fnn.LayerError) as error:
            layer.init(KEY, x) if params is None else layer.apply(params, {}, x)
        return str(error.value)

    layer = make(4, 3)
    params = zeros_for(layer, jnp.ones((1, 5, 5, 4)))
    for given in (None, params):
        assert message(layer, jnp.ones((128, 784)), given) == f"{RANK_4} (128, 784)"
        assert message(make(4, (3, 3)), jnp.ones((2, 9, 4)), given) == f"{RANK_4} (2, 9, 4)"
        integers = "expected a floating-point input, got uint8: x.astype(jnp.float32)"
        assert message(layer, jnp.ones((1, 5, 5, 4), jnp.uint8), given) == integers
    assert message(make(4, (3,)), jnp.ones((2, 5, 5, 4))) == (
        "expected an input of rank 3 (batch, length, channels), got (2, 5, 5, 4)"
    )
    assert message(make(4, (3, 3, 3)), jnp.ones((2, 5, 5, 4))) == (
        "expected an input of rank 5 (batch, depth, height, width, channels), got (2, 5, 5, 4)"
    )
    assert message(make(4, (3, 2, 1)), jnp.ones((2, 5, 5, 4))).startswith("expected an input of rank 5")
    assert message(layer, jnp.ones((1, 5, 5, 3)), params) == (
        "expected 4 channels on the last axis, as in its parameters, got (1, 5, 5, 3)"
    )
    wrong = make(4, 3, stride=(1, 2, 3))
    assert message(wrong, jnp.ones((1, 5, 5, 4)), params) == (
        "expected stride to have 2 numbers, one a spatial axis, got (1, 2, 3)"
    )
    one_pair = make(4, 3, padding=[(1, 1)])
    assert message(one_pair, jnp.ones((1, 5, 5, 4)), params) == (
        "expected 2 pairs of padding, one a spatial axis, got 1"
    )


@pytest.mark.parametrize("make", [fnn.conv, lambda f, *a, **k: fnn.depthwise_conv(*a, **k)])
def test_a_window_that_does_not_fit(make):
    params = zeros_for(make(1, 3), jnp.ones((1, 8, 8, 1)))
    with pytest.raises(fnn.LayerError) as error:
        make(1, 3, padding="VALID", dilation=4).apply(params, {}, jnp.ones((1, 8, 9, 1)))
    assert str(error.value) == "expected space for a window of (9, 9), got (8, 9) with padding 'VALID'"


def test_a_transpose_that_cuts_everything_off():
    layer = fnn.conv_transpose(1, 1, padding=5)
    with pytest.raises(fnn.LayerError, match=r"padding 5"):
        layer.apply({"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.ones(1)}, {}, jnp.ones((1, 8, 8, 1)))


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError) as value_error:
        fnn.conv(8, 3, groups=3)
    assert str(value_error.value) == "conv: features must be a multiple of groups, got 8 and 3"
    with pytest.raises(fnn.LayerError) as error:
        fnn.conv(9, 3, groups=3).init(KEY, jnp.ones((1, 8, 8, 4)))
    assert str(error.value) == "expected channels in a multiple of 3 groups, got (1, 8, 8, 4)"
    params = zeros_for(fnn.conv(9, 3, groups=3), jnp.ones((1, 8, 8, 6)))
    with pytest.raises(fnn.LayerError) as error:
        fnn.conv(9, 3, groups=3).apply(params, {}, jnp.ones((1, 8, 8, 9)))
    assert str(error.value) == "expected 6 channels on the last axis, as in its parameters, got (1, 8, 8, 9)"


def test_the_path_comes_before_the_message():
    model = fnn.serial(features=fnn.serial(fnn.flatten, fnn.relu, fnn.named("conv2", fnn.conv(8, 3))))
    with pytest.raises(fnn.LayerError) as error:
        model.init(KEY, jnp.ones((128, 28, 28, 1)))
    assert str(error.value) == f"features/conv2: {RANK_4} (128, 784)"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: fnn.conv(0, 3), "conv: features must be a positive whole number, got 0"),
        (lambda: fnn.conv(8, 3, groups=0), "conv: groups must be a positive whole number, got 0"),
        (lambda: fnn.conv(8, 0), "conv: kernel must be a positive whole number, got 0"),
        (lambda: fnn.conv(8, (3, 2.5)), "conv: kernel must be a positive whole number, got 2.5"),
        (lambda: fnn.conv(8, 3, stride=0), "conv: stride must be a positive whole number, got 0"),
        (lambda: fnn.conv(8, 3, dilation=-1), "conv: dilation must be a positive whole number, got -1"),
        (
            lambda: fnn.conv_transpose(-1, 3),
            "conv_transpose: features must be a positive whole number, got -1",
        ),
        (
            lambda: fnn.conv_transpose(8, 3, stride=(1, 0)),
            "conv_transpose: stride must be a positive whole number, got 0",
        ),
        (
            lambda: fnn.depthwise_conv(3, multiplier=0),
            "depthwise_conv: multiplier must be a positive whole number, got 0",
        ),
        (
            lambda: fnn.depthwise_conv(3, stride=0),
            "depthwise_conv: stride must be a positive whole number, got 0",
        ),
        (
            lambda: fnn.conv(2**31, 3),
            "conv: features must be below 2**31, as the length of any axis, got 2147483648",
        ),
        (
            lambda: fnn.conv(8, (3, 10**30)),
            f"conv: kernel must be below 2**31, as the length of any axis, got {10**30}",
        ),
        (
            lambda: fnn.conv(8, 3, padding=2**31),
            "conv: padding must be 'SAME', 'VALID', a number or pairs, got 2147483648",
        ),
        (
            lambda: fnn.conv(8, 3, padding=[(0, 0), (0, -(2**31))]),
            "conv: padding must be 'SAME', 'VALID', a number or pairs, got [(0, 0), (0, -2147483648)]",
        ),
    ],
)
def test_refused_arguments(make, message):
    """When the layer is made, so that a config's mistake is found before any data is read."""
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("kernel", [(), (3, 3, 3, 3)])
def test_a_kernel_has_1_to_3_axes(kernel):
    with pytest.raises(ValueError, match="1, 2 or 3"):
        fnn.conv(8, kernel)
