"""Luma and chroma against scikit-image and the corners of the cube of colours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.luma import luma, rgb_to_ycbcr, ycbcr_to_rgb

COLOURS = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3))
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-4, jnp.bfloat16: 4.0}
"""Of values up to 255."""


@pytest.mark.oracle
def test_it_is_that_of_scikit_image():
    color = pytest.importorskip("skimage.color")
    ycbcr = color.rgb2ycbcr(COLOURS / 255)
    np.testing.assert_allclose(rgb_to_ycbcr(COLOURS), ycbcr, atol=1e-9)
    np.testing.assert_allclose(ycbcr_to_rgb(ycbcr), color.ycbcr2rgb(ycbcr) * 255, atol=1e-9)
    np.testing.assert_allclose(rgb_to_ycbcr(jnp.asarray(COLOURS, jnp.float32)), ycbcr, atol=1e-4)


def test_the_corners_are_those_of_the_recommendation():
    """Table 1 of BT.601's digital coding: white, black and the primaries, rounded."""
    corners = np.float64([[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    wanted = [[235, 128, 128], [16, 128, 128], [81, 90, 240], [145, 54, 34], [41, 240, 110]]
    np.testing.assert_array_equal(np.rint(rgb_to_ycbcr(corners)), wanted)


@pytest.mark.parametrize(
    ("library", "dtype"),
    [(np, np.float64), (np, np.float32), (jnp, np.float64), (jnp, np.float32), (jnp, jnp.bfloat16)],
)
def test_there_and_back_in_the_dtype_that_came(library, dtype):
    with jax.enable_x64(dtype is np.float64):
        colours = library.asarray(COLOURS, dtype)
        ycbcr = rgb_to_ycbcr(colours)
        back, y = ycbcr_to_rgb(ycbcr), luma(colours)
        assert all(type(x) is type(colours) for x in (ycbcr, back, y))
        assert {ycbcr.dtype, back.dtype, y.dtype} == {jnp.dtype(dtype)}
        assert y.shape == (2, 5, 4, 1)
        np.testing.assert_allclose(np.float64(y), np.float64(ycbcr[..., :1]), atol=TOLERANCE[dtype] / 4)
        np.testing.assert_allclose(np.float64(back), COLOURS, atol=TOLERANCE[dtype])


def test_what_is_traced_is_what_is_not():
    colours = jnp.asarray(COLOURS[0, 0, 0], jnp.float32)  # one colour alone
    np.testing.assert_allclose(jax.jit(rgb_to_ycbcr)(colours), rgb_to_ycbcr(colours), rtol=1e-6)
    weights = jax.grad(lambda rgb: luma(rgb)[0])(colours)
    np.testing.assert_allclose(weights, np.float32([65.481, 128.553, 24.966]) / 255, rtol=1e-6)


@pytest.mark.parametrize("function", [rgb_to_ycbcr, ycbcr_to_rgb, luma])
@pytest.mark.parametrize(
    "colours",
    [np.zeros((2, 3), np.uint8), np.zeros((3, 4), np.float32), jnp.zeros(()), jnp.zeros((2, 3), jnp.int32)],
)
def test_bytes_and_other_channels_are_refused(function, colours):
    message = rf"^{function.__name__}: expected floating-point colours \(\.\.\., 3\), got {colours.dtype}"
    with pytest.raises(ValueError, match=message):
        function(colours)
