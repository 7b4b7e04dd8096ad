"""Upsampling against its kernels written out, PyTorch and Pillow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn


def nearest(distance):
    return float(-0.5 <= distance < 0.5)


def triangle(distance):
    return max(0.0, 1 - abs(distance))


def keys_cubic(distance, a=-0.5):
    """Keys 1981: the cubic through the pixels whose error is of third order, a = −1/2."""
    d = abs(distance)
    if d < 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


KERNELS = {"nearest": nearest, "bilinear": triangle, "bicubic": keys_cubic}


def weights(n, scale, kernel):
    """Row o: how much of each pixel goes into output o, whose centre lies at (o + ½) / scale − ½."""
    rows = []
    for o in range(n * scale):
        centre = (o + 0.5) / scale - 0.5
        row = np.array([kernel(i - centre) for i in range(n)])
        rows.append(row / row.sum())
    return np.array(rows)


def data(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def value_and_gradient(layer, x):
    def run(x):
        y, pull = jax.vjp(lambda v: layer.apply({}, {}, v)[0], x)
        g = jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype)
        return y, g, pull(g)[0]

    return jax.tree.map(np.asarray, jax.jit(run)(x))


CASES = [((5,), 3), ((4, 3), 2), ((4, 3), (3, 1)), ((2, 3, 2), 2)]
LONG = (70, 3), 3  # bicubic of a long axis is another program


@pytest.mark.parametrize(
    "space, scale, method", [*((*case, method) for case in CASES for method in KERNELS), (*LONG, "bicubic")]
)
def test_values_and_gradients_against_kernels(space, scale, method):
    x = data(2, *space, 3)
    y, g, dx = value_and_gradient(fnn.upsample(scale, method), x)
    scales = (scale,) * len(space) if isinstance(scale, int) else scale
    wanted, back = x.astype(np.float64), g.astype(np.float64)
    for axis, (n, s) in enumerate(zip(space, scales, strict=True), start=1):
        matrix = weights(n, s, KERNELS[method])
        wanted = np.moveaxis(np.tensordot(matrix, wanted, (1, axis)), 0, axis)
        back = np.moveaxis(np.tensordot(matrix.T, back, (1, axis)), 0, axis)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, back, rtol=1e-5, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("space, scale", CASES)
def test_values_and_gradients_against_torch(space, scale, method):
    torch = pytest.importorskip("torch")
    x = data(2, *space, 3)
    y, g, dx = value_and_gradient(fnn.upsample(scale, method), x)
    linear = ("linear", "bilinear", "trilinear")[len(space) - 1]
    arguments = {"mode": "nearest"} if method == "nearest" else {"mode": linear, "align_corners": False}
    leaf = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    wanted = torch.nn.functional.interpolate(leaf, scale_factor=scale, **arguments)
    wanted.backward(torch.tensor(np.moveaxis(g, -1, 1).copy()))
    np.testing.assert_allclose(y, np.moveaxis(wanted.detach().numpy(), 1, -1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, np.moveaxis(leaf.grad.numpy(), 1, -1), rtol=1e-5, atol=1e-5)


def test_bicubic_against_pillow():
    image = pytest.importorskip("PIL.Image")
    for scale, (height, width) in ((2, (6, 7)), (3, (6, 7)), (4, (6, 7)), (3, (80, 65))):
        x = data(1, height, width, 1)
        y, _ = jax.jit(fnn.upsample(scale, "bicubic").apply)({}, {}, x)
        size = width * scale, height * scale
        wanted = image.fromarray(x[0, :, :, 0]).resize(size, image.Resampling.BICUBIC)
        np.testing.assert_allclose(y[0, :, :, 0], np.asarray(wanted), rtol=1e-4, atol=1e-5)


def test_bicubic_goes_through_a_parabola():
    """Keys' kernel is exact for polynomials of second degree, away from the border."""
    x = np.arange(12.0, dtype=np.float32)
    y, _ = fnn.upsample(4, "bicubic").apply({}, {}, jnp.asarray(x**2).reshape(1, 12, 1))
    centres = (np.arange(48) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(y[0, 8:-8, 0], centres[8:-8] ** 2, rtol=1e-4)


def test_bfloat16_is_computed_in_float32():
    x = data(1, 4, 4, 2)
    y, _ = fnn.upsample(2, "bicubic").apply({}, {}, jnp.asarray(x, jnp.bfloat16))
    rounded = jnp.asarray(x, jnp.bfloat16).astype(jnp.float32)
    wanted, _ = fnn.upsample(2, "bicubic").apply({}, {}, rounded)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, wanted.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (
            fnn.upsample(2),
            jnp.ones((128, 784)),
            "expected an input of rank 4 (batch, height, width, channels), got (128, 784)",
        ),
        (
            fnn.upsample((2, 2)),
            jnp.ones((1, 4, 3)),
            "expected an input of rank 4 (batch, height, width, channels), got (1, 4, 3)",
        ),
        (
            fnn.upsample(2, "bilinear"),
            jnp.ones((1, 4, 4, 3), jnp.uint8),
            "expected a floating-point input, got uint8: x.astype(jnp.float32)",
        ),
        (
            fnn.upsample(2**30),
            jnp.ones((1, 1, 2, 3)),
            f"expected an output whose axes are below 2**31, got {(1, 2**30, 2**31, 3)}",
        ),
    ],
)
def test_refused_inputs(layer, x, message):
    with pytest.raises(fnn.LayerError) as error:
        layer.apply({}, {}, x)
    assert str(error.value) == message


def test_refused_arguments():
    with pytest.raises(ValueError) as error:
        fnn.upsample(2, "cubic")
    assert str(error.value) == "upsample: method must be one of nearest, bilinear, bicubic, got 'cubic'"
    with pytest.raises(ValueError) as error:
        fnn.upsample(0)
    assert str(error.value) == "upsample: scale must be a positive whole number, got 0"
