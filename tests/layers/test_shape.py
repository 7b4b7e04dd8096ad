"""Layers that move values, value by value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)


def run(layer, x):
    return layer.apply({}, {}, jnp.asarray(x))[0]


def numbered(*shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def assert_moves(layer, x, wanted):
    """The values are where they should be, and so their gradients are where they came from."""
    y, pull = jax.vjp(lambda v: run(layer, v), jnp.asarray(x))
    np.testing.assert_array_equal(y, wanted)
    g = np.random.default_rng(0).normal(size=y.shape).astype(np.float32)
    sources = np.zeros(x.size, np.float32)
    sources[np.asarray(wanted, int).ravel()] = g.ravel()  # x is numbered: a value is its own place
    np.testing.assert_array_equal(pull(jnp.asarray(g))[0], sources.reshape(x.shape))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (4, 1, 1)])
def test_flatten_keeps_the_batch_and_the_row_order(shape):
    x = numbered(*shape)
    assert_moves(fnn.flatten, x, np.array([list(example.ravel()) for example in x]))


def test_flatten_of_scalars_and_of_nothing():
    np.testing.assert_array_equal(run(fnn.flatten, [3.0, 4.0]), [[3], [4]])
    assert run(fnn.flatten, np.ones((2, 0, 3), np.float32)).shape == (2, 0)
    assert run(fnn.flatten, np.ones((0, 3, 2), np.float32)).shape == (0, 6)


def test_flatten_needs_a_batch():
    with pytest.raises(fnn.LayerError) as error:
        run(fnn.flatten, 1.0)
    assert str(error.value) == "expected an input with a batch axis, got ()"


@pytest.mark.parametrize("shape, whole", [((3, 4), (3, 4)), ((-1,), (12,)), ((2, -1, 3), (2, 2, 3))])
def test_reshape(shape, whole):
    x = numbered(5, 4, 3)
    wanted = np.stack([np.reshape(list(example.ravel()), whole) for example in x])
    assert_moves(fnn.reshape(*shape), x, wanted)


def test_reshape_of_single_values():
    assert_moves(fnn.reshape(), numbered(5, 1), np.arange(5))


@pytest.mark.parametrize(
    "shape, message",
    [
        ((5,), "expected examples that fit (5,), got (2, 3, 4) with 12 values each"),
        ((5, -1), "expected examples that fit (5, -1), got (2, 3, 4) with 12 values each"),
    ],
)
def test_reshape_to_what_does_not_fit(shape, message):
    with pytest.raises(fnn.LayerError) as error:
        run(fnn.reshape(*shape), np.ones((2, 3, 4)))
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(-1, -1), (0, 3), (-2,), (2.5, -1)])
def test_refused_shapes(shape):
    with pytest.raises(ValueError) as error:
        fnn.reshape(*shape)
    assert str(error.value) == f"reshape: expected positive sizes and at most one -1, got {shape}"


@pytest.mark.parametrize("shape", [(2**31,), (-1, 10**30)])
def test_refused_large_shapes(shape):
    with pytest.raises(ValueError, match=rf"reshape: each size must be below 2\*\*31, .* got {max(shape)}$"):
        fnn.reshape(*shape)


def test_reshape_to_nothing_but_the_batch():
    np.testing.assert_array_equal(run(fnn.reshape(), np.ones((2, 1), np.float32)), np.ones(2))


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2), (2, 1, 3)])
def test_transpose(axes):
    x = numbered(5, 4, 3, 2)
    assert_moves(fnn.transpose(*axes), x, np.stack([x_.transpose([a - 1 for a in axes]) for x_ in x]))


@pytest.mark.parametrize("axes", [(0, 1), (2,), (1, 1), (1, 3)])
def test_refused_axes(axes):
    with pytest.raises(ValueError) as error:
        fnn.transpose(*axes)
    assert str(error.value) == f"transpose: expected each of 1..{len(axes)} once, got {axes}"


def test_transpose_of_another_rank():
    with pytest.raises(fnn.LayerError) as error:
        fnn.transpose(2, 1).init(KEY, jnp.ones((2, 3, 4, 5)))
    assert str(error.value) == "expected an input of rank 3, a batch and its axes, got (2, 3, 4, 5)"


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_against_its_formula(factor):
    """y[n, h f + i, w f + j, c] = x[n, h, w, c f² + i f + j]."""
    x = numbered(2, 3, 2, 2 * factor**2)
    wanted = np.zeros((2, 3 * factor, 2 * factor, 2))
    for n, h, w, c, i, j in np.ndindex(2, 3, 2, 2, factor, factor):
        wanted[n, h * factor + i, w * factor + j, c] = x[n, h, w, c * factor**2 + i * factor + j]
    assert_moves(fnn.pixel_shuffle(factor), x, wanted)


@pytest.mark.oracle
def test_pixel_shuffle_against_torch():
    torch = pytest.importorskip("torch")
    x = numbered(2, 3, 2, 12)
    wanted = torch.nn.functional.pixel_shuffle(torch.tensor(x.transpose(0, 3, 1, 2)), 2)
    np.testing.assert_array_equal(run(fnn.pixel_shuffle(2), x), wanted.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("shape", [(1, 4, 4, 6), (1, 4, 4)])
def test_pixel_shuffle_of_what_does_not_fit(shape):
    with pytest.raises(fnn.LayerError) as error:
        run(fnn.pixel_shuffle(2), np.ones(shape, np.float32))
    assert str(error.value) == (f"expected (batch, height, width, channels) with channels in 4s, got {shape}")


@pytest.mark.parametrize("factor", [0, -2, 1.5])
def test_refused_factors(factor):
    with pytest.raises(ValueError) as error:
        fnn.pixel_shuffle(factor)
    assert str(error.value) == f"pixel_shuffle: factor must be a positive whole number, got {factor!r}"


@pytest.mark.parametrize("space", [(3,), (3, 2), (2, 3, 2)])
def test_pad_against_an_array_of_its_value(space):
    x = numbered(2, *space, 3)
    wanted = np.full((2, *(n + 4 for n in space), 3), 7.0)
    wanted[(slice(None), *(slice(2, -2) for _ in space))] = x
    y, pull = jax.vjp(lambda v: run(fnn.pad(2, 7.0), v), jnp.asarray(x))
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(pull(y)[0], x)


def test_pad_of_no_space_and_no_width():
    with pytest.raises(fnn.LayerError) as error:
        run(fnn.pad(2), np.ones((128, 784), np.float32))
    assert str(error.value) == (
        "expected an input of rank 4 (batch, height, width, channels), got (128, 784)"
    )
    with pytest.raises(ValueError) as value_error:
        fnn.pad(0)
    assert str(value_error.value) == "pad: width must be a positive whole number, got 0"


def test_fn_is_the_function():
    x = jnp.array([0.3, -2.0])
    y, pull = jax.vjp(lambda v: run(fnn.fn(lambda u: u**3), v), x)
    np.testing.assert_allclose(y, [0.027, -8.0], rtol=1e-5)
    np.testing.assert_allclose(pull(jnp.ones(2))[0], [0.27, 12.0], rtol=1e-5)
    assert fnn.fn(jnp.square).init(KEY, x) == ({}, {})
