"""Locally connected layers against loops over outputs: values, gradients, sharing, counts."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)


def data(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def each(value):
    return (value, value) if isinstance(value, int) else value


def sides(space, window, stride, padding):
    if padding == "VALID":
        return [(0, 0), (0, 0)]
    if padding == "SAME":
        wanted = [(math.ceil(n / s) - 1) * s + k - n for n, k, s in zip(space, window, stride, strict=True)]
        return [(max(w, 0) // 2, max(w, 0) - max(w, 0) // 2) for w in wanted]
    return [(padding, padding)] * 2 if isinstance(padding, int) else padding


class Loops:
    """Output by output, each with the kernel of its block, forwards and backwards, in float64."""

    def __init__(self, x, kernel, stride, padding):
        window, stride = kernel.shape[2:4], each(stride)
        self.pad = sides(x.shape[1:3], window, stride, padding)
        self.x = np.pad(x.astype(np.float64), [(0, 0), *self.pad, (0, 0)])
        self.kernel = kernel
        self.out = [(n - k) // s + 1 for n, k, s in zip(self.x.shape[1:3], window, stride, strict=True)]
        size = [math.ceil(n / g) for n, g in zip(self.out, kernel.shape[:2], strict=True)]
        self.visits = []
        for i, j in np.ndindex(*self.out):
            (a, b), (c, d) = ((m * s, m * s + k) for m, s, k in zip((i, j), stride, window, strict=True))
            self.visits.append(((i, j), (i // size[0], j // size[1]), (slice(a, b), slice(c, d))))

    def forward(self, bias):
        y = np.zeros((len(self.x), *self.out, self.kernel.shape[-1]))
        for (i, j), block, (rows, columns) in self.visits:
            for n, f in np.ndindex(len(self.x), y.shape[-1]):
                y[n, i, j, f] = (self.x[n, rows, columns] * self.kernel[block][..., f]).sum() + bias[block][f]
        return y

    def backward(self, g):
        """The gradients of kernel, bias and input."""
        kernel, dx = np.zeros(self.kernel.shape), np.zeros(self.x.shape)
        bias = np.zeros((*kernel.shape[:2], kernel.shape[-1]))
        for (i, j), block, (rows, columns) in self.visits:
            bias[block] += g[:, i, j].sum(0, dtype=np.float64)
            for n, f in np.ndindex(len(self.x), g.shape[-1]):
                kernel[block][..., f] += self.x[n, rows, columns] * g[n, i, j, f]
                dx[n, rows, columns] += self.kernel[block][..., f].astype(np.float64) * g[n, i, j, f]
        (a, b), (c, d) = self.pad
        return kernel, bias, dx[:, a : dx.shape[1] - b, c : dx.shape[2] - d]


def zeros_for(layer, shape):
    params, _ = jax.eval_shape(lambda: layer.init(KEY, jnp.ones(shape)))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)


def value_and_gradients(layer, params, x):
    def run(params, x):
        y, pull = jax.vjp(lambda p, v: layer.apply(p, {}, v)[0], params, x)
        g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
        return y, g, *pull(g)

    return jax.tree.map(np.asarray, jax.jit(run)(params, x))


GEOMETRIES = [
    (3, 1, "SAME"),
    ((3, 2), 1, "VALID"),
    ((2, 3), (2, 1), "SAME"),
    (3, 2, 1),
    (2, 1, [(0, 1), (2, 0)]),
]


@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("share", [None, (1, 1), (2, 2), (1, 3)])
def test_values_and_gradients_against_loops(kernel, stride, padding, share):
    """On 5 × 6 pixels most of these grids have smaller last blocks."""
    (x,) = data((2, 5, 6, 2))
    layer = fnn.local_conv(3, kernel, stride=stride, padding=padding, share=share)
    shapes, _ = jax.eval_shape(lambda: layer.init(KEY, x))
    params = dict(zip(("kernel", "bias"), data(shapes["kernel"].shape, shapes["bias"].shape), strict=True))
    y, g, grads, dx = value_and_gradients(layer, params, x)
    loops = Loops(x, params["kernel"], stride, padding)
    wanted_kernel, wanted_bias, wanted_dx = loops.backward(g)
    near(y, loops.forward(params["bias"]))
    near(grads["kernel"], wanted_kernel)
    near(grads["bias"], wanted_bias)
    near(dx, wanted_dx)


@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
def test_one_block_is_a_convolution(kernel, stride, padding):
    x, weights, bias = data((2, 5, 6, 2), (*each(kernel), 2, 3), (3,))
    local = fnn.local_conv(3, kernel, stride=stride, padding=padding, share=(1, 1))
    conv = fnn.conv(3, kernel, stride=stride, padding=padding)
    y, _, grads, dx = value_and_gradients(local, {"kernel": weights[None, None], "bias": bias[None, None]}, x)
    wanted, _, wanted_grads, wanted_dx = value_and_gradients(conv, {"kernel": weights, "bias": bias}, x)
    near(y, wanted)
    near(dx, wanted_dx)
    for name in ("kernel", "bias"):
        near(grads[name][0, 0], wanted_grads[name])


def test_a_block_of_equal_kernels_is_a_convolution():
    """Without sharing, too, if every window happens to have the same weights."""
    x, weights = data((2, 5, 6, 2), (3, 3, 2, 3))
    local = fnn.local_conv(3, 3, bias=False)
    everywhere = {"kernel": jnp.broadcast_to(weights, (5, 6, *weights.shape))}
    wanted, _ = fnn.conv(3, 3, bias=False).apply({"kernel": weights}, {}, jnp.asarray(x))
    near(local.apply(everywhere, {}, jnp.asarray(x))[0], wanted)


def test_the_last_blocks_may_be_smaller():
    """5 outputs in a row, cut into 2 blocks: 3 and 2."""
    layer = fnn.local_conv(1, 1, share=(1, 2), bias=False)
    kernel = jnp.array([10.0, 20.0]).reshape(1, 2, 1, 1, 1, 1)
    y, _ = layer.apply({"kernel": kernel}, {}, jnp.ones((1, 1, 5, 1)))
    np.testing.assert_array_equal(y[0, 0, :, 0], [10, 10, 10, 20, 20])


@pytest.mark.parametrize(
    "size, share, count",
    [
        (8, None, 8 * 8 * (3 * 3 * 2 + 1) * 4),
        (8, (2, 2), 2 * 2 * (3 * 3 * 2 + 1) * 4),
        (7, (2, 3), 2 * 3 * (3 * 3 * 2 + 1) * 4),
        (8, (1, 1), (3 * 3 * 2 + 1) * 4),
        (28, None, 28 * 28 * (3 * 3 * 2 + 1) * 4),
        (224, None, 224 * 224 * (3 * 3 * 2 + 1) * 4),
    ],
)
def test_parameter_counts(size, share, count):
    x = jax.ShapeDtypeStruct((1, size, size, 2), jnp.float32)
    params, state = jax.eval_shape(lambda: fnn.local_conv(4, 3, share=share).init(KEY, x))
    assert fnn.count(params) == count
    assert not state
    params, _ = jax.eval_shape(lambda: fnn.local_conv(4, 3, share=share, bias=False).init(KEY, x))
    assert fnn.count(params) == count * 18 // 19


def test_every_window_is_drawn_by_itself_with_the_fan_of_one():
    params, _ = jax.jit(lambda key: fnn.local_conv(8, 3).init(key, jnp.ones((1, 12, 12, 4))))(KEY)
    kernel = np.asarray(params["kernel"], np.float64)
    assert abs(kernel.var() / (2 / 36) - 1) < 5 * np.sqrt(2 / kernel.size)
    windows = kernel.reshape(144, -1)
    assert len({row.tobytes() for row in windows}) == 144
    assert not params["bias"].any()


def test_bias_of_its_own_initialiser():
    layer = fnn.local_conv(3, 1, share=(2, 2), kernel_init="zeros", bias_init="ones")
    params, _ = layer.init(KEY, jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(params["bias"], np.ones((2, 2, 3)))
    assert not params["kernel"].any()


RANK_4 = "expected an input of rank 4 (batch, height, width, channels), got"


@pytest.mark.parametrize("x", [jnp.ones((128, 784)), jnp.ones((2, 9, 1)), jnp.ones((2, 4, 4, 4, 1))])
def test_refused_ranks(x):
    params, _ = fnn.local_conv(1, 1).init(KEY, jnp.ones((1, 2, 2, 1)))
    for call in (
        lambda: fnn.local_conv(1, 1).init(KEY, x),
        lambda: fnn.local_conv(1, 1).apply(params, {}, x),
    ):
        with pytest.raises(fnn.LayerError) as error:
            call()
        assert str(error.value) == f"{RANK_4} {x.shape}"


@pytest.mark.parametrize(
    "x, message",
    [
        (
            jnp.ones((1, 4, 4, 1)),
            "expected 2 channels on the last axis, as in its parameters, got (1, 4, 4, 1)",
        ),
        (
            jnp.ones((1, 4, 4, 2), jnp.int32),
            "expected a floating-point input, got int32: x.astype(jnp.float32)",
        ),
        (
            jnp.ones((1, 2, 4, 2)),
            "expected space for a window of (3, 3), got (2, 4) with padding 'VALID'",
        ),
    ],
)
def test_refused_inputs(x, message):
    layer = fnn.local_conv(1, 3, padding="VALID", share=(1, 1))
    params = zeros_for(layer, (1, 4, 4, 2))
    with pytest.raises(fnn.LayerError) as error:
        layer.apply(params, {}, x)
    assert str(error.value) == message


def test_a_grid_that_leaves_a_block_without_an_output():
    """5 outputs in 4 blocks of 2: the fourth would be empty."""
    for share in ((4, 1), (1, 4)):
        rows, columns = (math.ceil(5 / n) for n in share)
        with pytest.raises(fnn.LayerError) as error:
            fnn.local_conv(1, 1, share=share).init(KEY, jnp.ones((1, 5, 5, 1)))
        assert str(error.value) == (
            f"expected a grid of blocks that fill an output of (5, 5), got share={share}, "
            f"where blocks of {rows} x {columns} leave some without an output"
        )
    with pytest.raises(fnn.LayerError, match=r"share=\(6, 5\)"):
        fnn.local_conv(1, 1, share=(6, 5)).init(KEY, jnp.ones((1, 5, 5, 1)))


@pytest.mark.parametrize("size", [8, 2])
def test_without_sharing_another_size_of_input_is_refused(size):
    """Twice the size would silently share each kernel among four windows."""
    layer = fnn.local_conv(1, 1)
    params = zeros_for(layer, (1, 4, 4, 1))
    with pytest.raises(fnn.LayerError, match=rf"\({size}, {size}\)"):
        layer.apply(params, {}, jnp.ones((1, size, size, 1)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: fnn.local_conv(0, 3), "local_conv: features must be a positive whole number, got 0"),
        (lambda: fnn.local_conv(1, 0), "local_conv: kernel must be a positive whole number, got 0"),
        (lambda: fnn.local_conv(1, 3, stride=0), "local_conv: stride must be a positive whole number, got 0"),
        (
            lambda: fnn.local_conv(1, 3, share=(1, 2, 3)),
            "local_conv: share must be (rows, columns), got (1, 2, 3)",
        ),
        (lambda: fnn.local_conv(1, 3, share=2), "local_conv: share must be (rows, columns), got 2"),
        (
            lambda: fnn.local_conv(1, 3, share=(0, 1)),
            "local_conv: share must be a positive whole number, got 0",
        ),
        (
            lambda: fnn.local_conv(1, 3, share=(1, 1.5)),
            "local_conv: share must be a positive whole number, got 1.5",
        ),
    ],
)
def test_refused_arguments(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


def test_a_window_of_too_many_cells():
    with pytest.raises(fnn.LayerError) as error:
        fnn.local_conv(1, 100).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    assert str(error.value) == "local_conv writes out its cells of a window: expected at most 4096, got 10000"
