"""Equinox: a module for one example, channels first, under ``vmap``; arrays and the rest are parted once."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import (
    Conv,
    Dense,
    Depthwise,
    Layers,
    Norm,
    Residual,
    Shape,
    Weights,
    channels_first,
    output_shape,
)
from benchmarks.peers.jax_steps import Model


class Network(eqx.Module):
    """Layers in order; those with weights by name."""

    layers: Layers = eqx.field(static=True)
    children: dict[str, Any]

    def __init__(self, layers: Layers, shape: Shape, weights: Weights, path: str = "") -> None:
        self.layers, self.children = layers, {}
        for layer in layers:
            if not isinstance(layer, str):
                self.children[layer.name] = _child(layer, shape, weights, path + layer.name)
            shape = output_shape(layer, shape)

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        for layer in self.layers:
            match layer:
                case Norm(name):
                    y, state = self.children[name](x, state)
                    x = y.astype(x.dtype)
                case Residual(name):
                    body, skip = self.children[name]
                    y, state = body(x, state)
                    x, state = skip(x, state)
                    x = x + y
                case Conv(name) | Depthwise(name) | Dense(name):
                    x = self.children[name](x)
                case "relu":
                    x = jax.nn.relu(x)
                case "max_pool":
                    x = eqx.nn.MaxPool2d(2, 2)(x)
                case "flatten":
                    x = x.reshape(-1)
                case "global_avg_pool":
                    x = jnp.mean(x, (1, 2))
        return x, state


def _child(layer: Any, shape: Shape, weights: Weights, path: str) -> Any:
    channels = shape[-1]
    match layer:
        case Residual(_, body, skip):
            return tuple(
                Network(branch, shape, weights, f"{path}/{name}/")
                for name, branch in (("body", body), ("skip", skip))
            )
        case Norm():
            norm = eqx.nn.BatchNorm(channels, "batch", eps=1e-5, momentum=0.9, mode="batch")
            scale, bias, *statistics = _arrays(weights, path, "scale", "bias", "mean", "var")
            norm = eqx.tree_at(lambda norm: norm.batch_state_index.init, norm, tuple(statistics))
            return eqx.tree_at(lambda norm: (norm.weight, norm.bias), norm, (scale, bias))
        case Conv(_, features, k, stride, bias):
            made = _shapes(eqx.nn.Conv2d, channels, features, k, stride, k // 2, use_bias=bias)
        case Depthwise(_, stride, k):
            made = _shapes(
                eqx.nn.Conv2d, channels, channels, k, stride, k // 2, groups=channels, use_bias=False
            )
        case Dense(_, features):
            made = _shapes(eqx.nn.Linear, channels, features)
    (kernel,) = _arrays(weights, path, "kernel")
    made = eqx.tree_at(lambda layer: layer.weight, made, kernel)
    if made.bias is None:
        return made
    (bias,) = _arrays(weights, path, "bias")
    return eqx.tree_at(lambda layer: layer.bias, made, bias.reshape(made.bias.shape))


def _shapes(constructor: Any, *args: Any, **kwargs: Any) -> Any:
    """A module without values, which are set afterwards: drawing them takes seconds of compilation."""
    return eqx.filter_eval_shape(constructor, *args, **kwargs, key=jax.random.key(0))


def _arrays(weights: Weights, path: str, *names: str) -> list[jax.Array]:
    return [jnp.asarray(weights[f"{path}/{name}"]) for name in names]


def build(layers: Layers, shape: Shape, weights: Weights, dtype: Any) -> Model:
    weights = channels_first(layers, shape, weights)
    model, state = eqx.nn.make_with_state(Network)(layers, shape, weights)
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def apply(params: Any, state: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        half = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        model = eqx.nn.inference_mode(eqx.combine(half, rest), not train)
        over_batch = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        return over_batch(x.astype(dtype), state)

    return Model(params, state, apply, _channels_first if len(shape) == 3 else lambda x: x)


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))
