"""Keras on JAX: a functional model, called without state, with its own policy for mixed precision."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

from typing import Any

import jax
import jax.numpy as jnp
import keras

from benchmarks.networks import Conv, Dense, Depthwise, Layers, Norm, Residual, Shape, Weights
from benchmarks.peers.jax_steps import Model


def forward(layers: Layers, x: Any, weights: Weights, path: str = "") -> Any:
    """Adds the layers to the graph behind ``x``, with their weights."""
    for layer in layers:
        match layer:
            case Conv(name, features, k, stride, bias):
                conv = keras.layers.Conv2D(
                    features, k, stride, _padding(k, stride), use_bias=bias, kernel_initializer="zeros"
                )
                x = conv(_padded(x, k, stride))
                _load(conv, weights, path + name, "kernel", *["bias"] * bias)
            case Depthwise(name, stride, k):
                conv = keras.layers.DepthwiseConv2D(k, stride, _padding(k, stride), use_bias=False)
                x = conv(_padded(x, k, stride))
                conv.set_weights([weights[f"{path}{name}/kernel"].swapaxes(2, 3)])
            case Norm(name):
                norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
                x = norm(x)
                _load(norm, weights, path + name, "scale", "bias", "mean", "var")
            case Dense(name, features):
                dense = keras.layers.Dense(features, kernel_initializer="zeros")
                x = dense(x)
                _load(dense, weights, path + name, "kernel", "bias")
            case Residual(name, body, skip):
                y = forward(body, x, weights, f"{path}{name}/body/")
                x = keras.layers.add([y, forward(skip, x, weights, f"{path}{name}/skip/")])
            case "relu":
                x = keras.layers.ReLU()(x)
            case "max_pool":
                x = keras.layers.MaxPooling2D(2)(x)
            case "flatten":
                x = keras.layers.Flatten()(x)
            case "global_avg_pool":
                x = keras.layers.GlobalAveragePooling2D()(x)
    return x


def build(layers: Layers, shape: Shape, weights: Weights, dtype: Any) -> Model:
    keras.config.set_dtype_policy("mixed_bfloat16" if dtype == jnp.bfloat16 else "float32")
    inputs = keras.Input(shape)
    model = keras.Model(inputs, forward(layers, inputs, weights))

    def apply(params: Any, state: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        return model.stateless_call(params, state, x, training=train)

    params = [variable.value for variable in model.trainable_variables]
    return Model(params, [variable.value for variable in model.non_trainable_variables], apply)


def _load(layer: keras.Layer, weights: Weights, path: str, *names: str) -> None:
    layer.set_weights([weights[f"{path}/{name}"] for name in names])


def _padding(kernel: int, stride: int) -> str:
    return "same" if stride == 1 or kernel == 1 else "valid"


def _padded(x: Any, kernel: int, stride: int) -> Any:
    """At a stride, "same" would pad one side alone: keras.applications' ResNets pad by hand, too."""
    return x if _padding(kernel, stride) == "same" else keras.layers.ZeroPadding2D(kernel // 2)(x)
