"""The learned scale of channels, by value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

KEY = jax.random.key(0)


def test_layer_scale_starts_small_and_multiplies_channels():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    params, state = fnn.layer_scale().init(KEY, x)
    np.testing.assert_array_equal(params["scale"], np.full(4, 1e-6, np.float32))
    scale = np.array([1.0, -2.0, 0.0, 0.5], np.float32)
    y, _ = fnn.layer_scale().apply({"scale": scale}, state, x)
    np.testing.assert_allclose(y, x * scale[None, None], rtol=1e-6)


@pytest.mark.parametrize(
    "x, message",
    [
        (jnp.ones((2, 3)), "expected 4 channels on the last axis, as in its parameters, got (2, 3)"),
        (jnp.ones((2, 4), int), "expected a floating-point input, got int32: x.astype(jnp.float32)"),
        (jnp.ones(4), "expected an input of rank 2 or more (batch, ..., channels), got (4,)"),
    ],
)
def test_refused_inputs(x, message):
    with pytest.raises(fnn.LayerError) as error:
        fnn.layer_scale().apply({"scale": jnp.ones(4)}, {}, x)
    assert str(error.value) == message
