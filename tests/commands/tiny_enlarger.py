"""Weights files of small super-resolution models, of the tests' own."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn.training.weights import save_weights

SCALE = 2
NETWORK = [
    {"conv": {"features": 8, "kernel": 5}},
    "tanh",
    {"conv": {"features": 4, "kernel": 3}},
    {"pixel_shuffle": SCALE},
]
COLOUR = [*NETWORK[:2], {"conv": {"features": 12, "kernel": 3}}, {"pixel_shuffle": SCALE}]


def drawn(model, channels):
    """Params and state, by NumPy, as JAX would compile a program for each shape."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels)))

    def draw(leaf):
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return (rng.standard_normal(leaf.shape) / fan_in**0.5).astype(np.float32)

    return jax.tree.map(draw, shapes)


def save(file, layers=NETWORK, channels=1, precision="float32", **metadata):
    """A weights file of a model with drawn weights; returns the model as a function in float32 of bytes."""
    model = fnn.experiment.model.build_model(layers)
    params, state = drawn(model, channels)
    written = {
        "config": json.dumps({"model": layers, "precision": precision}),
        "input": json.dumps((8, 8, channels)),
        "normalize": json.dumps({"mean": [0.0] * channels, "std": [255.0] * channels}),
        "scale": str(SCALE),
        **metadata,
    }
    file.write_bytes(save_weights(params, state, {name: text for name, text in written.items() if text}))

    def network(pixels):
        x = jnp.asarray(pixels[None] / 255, jnp.float32)
        return 255 * np.asarray(model.apply(params, state, x)[0][0], np.float64)

    return network
