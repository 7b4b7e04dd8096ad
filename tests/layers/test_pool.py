"""Pooling against loops over windows, and PyTorch: values and gradients, ties and NaN included."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

SPACE = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}
WINDOWS = {1: [2, (3,)], 2: [2, (3, 2)], 3: [2, (1, 3, 2)]}
STRIDES = {1: [None, 1, 3], 2: [None, 1, (2, 1)], 3: [None, (1, 2, 1)]}
UNEVEN = {1: [(0, 1)], 2: [(1, 0), (0, 1)], 3: [(0, 0), (0, 1), (1, 0)]}


def geometries(axes):
    """Every window with every stride and padding; no window lies in the padding alone."""
    return [
        (window, stride, UNEVEN[axes] if padding == "uneven" else padding)
        for window, stride, padding in itertools.product(
            WINDOWS[axes], STRIDES[axes], ("VALID", "SAME", 1, "uneven")
        )
        if not (padding == 1 and window == (1, 3, 2))
    ]


def each(value, axes):
    return (value,) * axes if isinstance(value, int) else tuple(value)


def sides(space, window, stride, padding):
    if padding == "VALID":
        return [(0, 0)] * len(space)
    if padding == "SAME":
        wanted = [(math.ceil(n / s) - 1) * s + k - n for n, k, s in zip(space, window, stride, strict=True)]
        return [(max(w, 0) // 2, max(w, 0) - max(w, 0) // 2) for w in wanted]
    return [(padding, padding)] * len(space) if isinstance(padding, int) else list(padding)


def windows(space, window, stride, padding):
    """Of each output position the input cells that its window covers, in row order; none of the padding."""
    axes = len(space)
    window, stride = each(window, axes), each(window if stride is None else stride, axes)
    pad = sides(space, window, stride, padding)
    out = [(n + a + b - k) // s + 1 for n, (a, b), k, s in zip(space, pad, window, stride, strict=True)]
    for o in np.ndindex(*out):
        cells = [
            tuple(oi * s + c - a for oi, s, c, (a, _) in zip(o, stride, cell, pad, strict=True))
            for cell in np.ndindex(*window)
        ]
        yield o, [p for p in cells if all(0 <= pi < n for pi, n in zip(p, space, strict=True))]


def max_loops(x, g, *geometry):
    y, dx = np.zeros(g.shape), np.zeros(x.shape)
    for o, cells in windows(x.shape[1:-1], *geometry):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            values = [x[(n, *p, c)] for p in cells]
            best = int(np.argmax(values))  # the first of equals
            y[(n, *o, c)] = values[best]
            dx[(n, *cells[best], c)] += g[(n, *o, c)]
    return y, dx


def avg_loops(x, g, *geometry):
    y, dx = np.zeros(g.shape), np.zeros(x.shape)
    for o, cells in windows(x.shape[1:-1], *geometry):
        for p in cells:
            y[(slice(None), *o)] += x[(slice(None), *p)].astype(np.float64) / len(cells)
            dx[(slice(None), *p)] += g[(slice(None), *o)] / len(cells)
    return y, dx


def data(*shape, ties=False):
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, shape).astype(np.float32) if ties else rng.normal(size=shape).astype(np.float32)


@functools.cache
def program(make, axes):
    """Of every geometry's layer: value, a cotangent, gradient; compiled once, for all tests."""
    return together([make(*geometry) for geometry in geometries(axes)])


def together(layers):
    """Of each layer: value, a cotangent, gradient; in one program, which compiles faster."""

    def one(layer, v):
        y, pull = jax.vjp(lambda u: layer.apply({}, {}, u)[0], v)
        g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
        return y, g, pull(g)[0]

    run = jax.jit(lambda v: [one(layer, v) for layer in layers])

    def call(x):
        with jax.default_matmul_precision("highest"):  # as beside an oracle: one program for both
            return jax.tree.map(np.asarray, run(x))

    return call


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_pool_against_loops(axes, ties):
    x = data(2, *SPACE[axes], 3, ties=ties)
    results = program(fnn.max_pool, axes)(x)
    for geometry, (y, g, dx) in zip(geometries(axes), results, strict=True):
        wanted_y, wanted_dx = max_loops(x, g, *geometry)
        np.testing.assert_array_equal(y, wanted_y)
        near(dx, wanted_dx)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_avg_pool_against_loops(axes):
    x = data(2, *SPACE[axes], 3)
    results = program(fnn.avg_pool, axes)(x)
    for geometry, (y, g, dx) in zip(geometries(axes), results, strict=True):
        wanted_y, wanted_dx = avg_loops(x, g, *geometry)
        near(y, wanted_y)
        near(dx, wanted_dx)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["max", "ties", "avg"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_pools_against_torch(axes, kind):
    """The mean without padded cells is, in PyTorch, that of the padded input over that of padded ones."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = data(2, *SPACE[axes], 3, ties=kind == "ties")
    make, name = (fnn.avg_pool, "avg") if kind == "avg" else (fnn.max_pool, "max")
    pool = getattr(functional, f"{name}_pool{axes}d")
    results = program(make, axes)(x)
    for (window, stride, padding), (y, g, dx) in zip(geometries(axes), results, strict=True):
        cells = each(window, axes)
        steps = cells if stride is None else each(stride, axes)
        pad = [n for pair in reversed(sides(SPACE[axes], cells, steps, padding)) for n in pair]
        leaf = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
        if name == "max":
            wanted = pool(functional.pad(leaf, pad, value=-np.inf), cells, steps)
        else:
            share = pool(functional.pad(torch.ones_like(leaf), pad), cells, steps)
            wanted = pool(functional.pad(leaf, pad), cells, steps) / share
        wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
        near(y, np.moveaxis(wanted.detach().numpy(), 1, -1))
        near(dx, np.moveaxis(leaf.grad.numpy(), 1, -1))


@pytest.mark.oracle
def test_avg_pool_is_torchs_without_padded_cells():
    torch = pytest.importorskip("torch")
    x = data(2, 6, 5, 3)
    y, _ = fnn.avg_pool(3, 2, 1).apply({}, {}, jnp.asarray(x))
    leaf = torch.tensor(x.transpose(0, 3, 1, 2))
    wanted = torch.nn.functional.avg_pool2d(leaf, 3, 2, 1, count_include_pad=False)
    near(y, wanted.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_max_pool_hands_nan_on_wherever_it_stands(dtype):
    for row, column in np.ndindex(4, 4):
        x = np.array(data(1, 4, 4, 1))
        x[0, row, column] = np.nan
        y, _ = fnn.max_pool(2, 1, 1).apply({}, {}, jnp.asarray(x, dtype))
        wanted = np.zeros((5, 5), bool)
        wanted[row : row + 2, column : column + 2] = True
        np.testing.assert_array_equal(np.isnan(np.asarray(y, np.float32))[0, :, :, 0], wanted)


def test_max_pool_of_negatives_never_shows_the_padding():
    x = -1.0 - jnp.arange(9.0).reshape(1, 3, 3, 1)
    y, _ = fnn.max_pool(3, 1, "SAME").apply({}, {}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[-1, -1, -2], [-1, -1, -2], [-4, -4, -5]])


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8, jnp.uint8])
def test_max_pool_of_integers(dtype):
    x = np.random.default_rng(0).integers(0 if dtype == jnp.uint8 else -100, 100, (2, 5, 4, 2)).astype(dtype)
    y, _ = fnn.max_pool(2, padding="SAME").apply({}, {}, jnp.asarray(x))
    assert y.dtype == dtype
    for o, cells in windows((5, 4), 2, None, "SAME"):
        np.testing.assert_array_equal(y[(slice(None), *o)], np.max([x[(slice(None), *p)] for p in cells], 0))


def test_the_mean_of_bfloat16_is_made_in_float32():
    """There 256 + 1 is 256: added one after the other, the ones behind a 256 would be lost."""
    x = jnp.array([256.0] + [1.0] * 7, jnp.bfloat16).reshape(1, 8, 1)
    for layer in (fnn.avg_pool(8), fnn.global_avg_pool):
        y, _ = layer.apply({}, {}, x)
        assert y.dtype == jnp.bfloat16
        assert float(y.ravel()[0]) == float(jnp.bfloat16(263 / 8)) != 256 / 8


@pytest.mark.parametrize("space", [(7,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("ties", [False, True])
def test_global_pools(space, ties):
    x = data(2, *space, 3, ties=ties)
    (mean, g, mean_dx), (largest, _, largest_dx) = together([fnn.global_avg_pool, fnn.global_max_pool])(x)
    cells = list(np.ndindex(*space))
    wanted, wanted_dx = np.zeros((2, 3)), np.zeros(x.shape)
    for n, c in np.ndindex(2, 3):
        values = [float(x[(n, *p, c)]) for p in cells]
        wanted[n, c] = sum(values) / len(cells)
        assert largest[n, c] == max(values)
        wanted_dx[(n, *cells[values.index(max(values))], c)] = g[n, c]
    near(mean, wanted)
    near(mean_dx, np.broadcast_to(g.reshape(2, *[1] * len(space), 3), x.shape) / len(cells))
    near(largest_dx, wanted_dx)


@pytest.mark.oracle
def test_global_pools_against_torch():
    torch = pytest.importorskip("torch")
    x = data(2, 4, 5, 3, ties=True)
    pools = (torch.nn.functional.adaptive_avg_pool2d, torch.nn.functional.adaptive_max_pool2d)
    results = together([fnn.global_avg_pool, fnn.global_max_pool])(x)
    for pool, (y, g, dx) in zip(pools, results, strict=True):
        leaf = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
        wanted = pool(leaf, 1)
        wanted.backward(torch.tensor(g[..., None, None]))
        near(y, wanted.detach().numpy()[..., 0, 0])
        near(dx, leaf.grad.numpy().transpose(0, 2, 3, 1))


@pytest.mark.oracle
@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_ceil_mode_of_short_axes_is_torchs(length):
    """Of an axis shorter than the window, too, which then reaches beyond its end."""
    torch = pytest.importorskip("torch")
    x = data(1, length, 2, 3)
    y, _ = fnn.max_pool(3, 2, ceil_mode=True).apply({}, {}, jnp.asarray(x))
    wanted = torch.nn.functional.max_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), 3, 2, ceil_mode=True)
    np.testing.assert_array_equal(y, wanted.numpy().transpose(0, 2, 3, 1))


ADAPTIVE = {
    1: [((7,), 3), ((2,), 5)],
    2: [((6, 5), (3, 2)), ((1, 2), 7), ((3, 3), 3)],
    3: [((4, 3, 5), (2, 3, 4))],
}


@pytest.mark.oracle
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_adaptive_avg_pool_is_torchs(axes):
    torch = pytest.importorskip("torch")
    pool = getattr(torch.nn.functional, f"adaptive_avg_pool{axes}d")
    for space, size in ADAPTIVE[axes]:
        x = data(2, *space, 3)
        ((y, g, dx),) = together([fnn.adaptive_avg_pool(size)])(x)
        leaf = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
        wanted = pool(leaf, size)
        wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
        near(y, np.moveaxis(wanted.detach().numpy(), 1, -1))
        near(dx, np.moveaxis(leaf.grad.numpy(), 1, -1))


@pytest.mark.parametrize("n, size", [(7, 3), (6, 3), (2, 5), (4, 4)])
def test_adaptive_avg_pool_against_loops(n, size):
    x = data(2, n, 3)
    y, _ = fnn.adaptive_avg_pool(size).apply({}, {}, jnp.asarray(x))
    for i in range(size):
        cells = [c for c in range(n) if c * size < (i + 1) * n and (c + 1) * size > i * n]
        near(y[:, i], x[:, cells].mean(1))


def test_adaptive_avg_pool_keeps_nan_in_its_window():
    x = jnp.array([1.0, jnp.nan, 3.0, 4.0]).reshape(1, 4, 1)
    y, _ = fnn.adaptive_avg_pool(2).apply({}, {}, x)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 3.5])


def test_global_max_pool_hands_nan_on():
    x = jnp.array([1.0, jnp.nan, 3.0, 4.0]).reshape(1, 2, 2, 1)
    assert jnp.isnan(fnn.global_max_pool.apply({}, {}, x)[0]).all()


RANK_4 = "expected an input of rank 4 (batch, height, width, channels), got"


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (fnn.max_pool(2), jnp.ones((128, 784)), f"{RANK_4} (128, 784)"),
        (fnn.avg_pool(2), jnp.ones((128, 784)), f"{RANK_4} (128, 784)"),
        (fnn.global_avg_pool, jnp.ones((128, 784)), f"{RANK_4} (128, 784)"),
        (fnn.global_max_pool, jnp.ones((128, 784)), f"{RANK_4} (128, 784)"),
        (fnn.max_pool((2, 2)), jnp.ones((1, 8, 3)), f"{RANK_4} (1, 8, 3)"),
        (
            fnn.max_pool((2,)),
            jnp.ones((1, 8, 8, 3)),
            "expected an input of rank 3 (batch, length, channels), got (1, 8, 8, 3)",
        ),
        (fnn.adaptive_avg_pool(2), jnp.ones((128, 784)), f"{RANK_4} (128, 784)"),
        (
            fnn.adaptive_avg_pool(2),
            jnp.ones((1, 8, 8, 3), jnp.uint8),
            "expected a floating-point input, got uint8: x.astype(jnp.float32)",
        ),
        (
            fnn.adaptive_avg_pool(5000),
            jnp.ones((1, 8, 3)),
            "adaptive_avg_pool writes out its windows along an axis: expected at most 4096, got 5000",
        ),
        (
            fnn.max_pool(3, 2, ceil_mode=True),
            jnp.ones((1, 1, 8, 3)),
            "expected space for a window of (3, 3), got (1, 8) with padding 'VALID'",
        ),
        (
            fnn.max_pool(3),
            jnp.ones((1, 2, 8, 3)),
            "expected space for a window of (3, 3), got (2, 8) with padding 'VALID'",
        ),
        (
            fnn.max_pool(2, (1, 2, 3)),
            jnp.ones((1, 8, 8, 3)),
            "expected stride to have 2 numbers, one a spatial axis, got (1, 2, 3)",
        ),
        (
            fnn.avg_pool(2, padding=2),
            jnp.ones((1, 8, 8, 3)),
            "expected cells in every window of 2, got an axis of 8 padded by (2, 2)",
        ),
        (
            fnn.max_pool(2, padding=2),
            jnp.ones((1, 8, 8, 3)),
            "expected cells in every window of 2, got an axis of 8 padded by (2, 2)",
        ),
        (
            fnn.avg_pool(2),
            jnp.ones((1, 8, 8, 3), jnp.uint8),
            "expected a floating-point input, got uint8: x.astype(jnp.float32)",
        ),
        (
            fnn.global_avg_pool,
            jnp.ones((1, 8, 8, 3), jnp.uint8),
            "expected a floating-point input, got uint8: x.astype(jnp.float32)",
        ),
    ],
)
def test_refused_inputs(layer, x, message):
    with pytest.raises(fnn.LayerError) as error:
        layer.apply({}, {}, x)
    assert str(error.value) == message


@pytest.mark.parametrize("make", [fnn.max_pool, fnn.avg_pool])
def test_refused_arguments(make):
    kind = make.__name__
    with pytest.raises(ValueError) as error:
        make(0)
    assert str(error.value) == f"{kind}: window must be a positive whole number, got 0"
    with pytest.raises(ValueError) as error:
        make(2, (1, 0))
    assert str(error.value) == f"{kind}: stride must be a positive whole number, got 0"


@pytest.mark.parametrize("make", [fnn.max_pool, fnn.avg_pool])
def test_a_window_that_would_be_written_out_in_too_many_pieces(make):
    with pytest.raises(fnn.LayerError) as error:
        make(5000, padding="SAME").init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    assert str(error.value).endswith(
        "writes out its cells of a window's side: expected at most 4096, got 5000"
    )


@pytest.mark.parametrize(
    "length, padding, message",
    [
        (8, 2**31 - 1, "expected cells in every window of 2, got an axis of 8 padded by"),
        (2**31 - 1, 0, "expected at most 16777216 windows along an axis, got 2147483646"),
    ],
)
def test_the_windows_of_avg_pool_are_not_counted_without_end(length, padding, message):
    x = jax.ShapeDtypeStruct((1, length, 1), jnp.float32)
    with pytest.raises(fnn.LayerError) as error:
        fnn.avg_pool(2, 1, padding).init(jax.random.key(0), x)
    assert str(error.value).startswith(message)
