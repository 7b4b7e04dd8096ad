"""Flax NNX: a module with named children, split once and merged in the step.

That is the form which its guide to performance gives for ``jax.jit``; ``nnx.jit`` does the same at each call.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks import Conv, Dense, Depthwise, Layers, Norm, Residual, Shape, Weights, output_shape
from benchmarks.peers.jax_steps import Model


class Network(nnx.Module):
    """Layers in order; each with weights is the attribute of its name."""

    def __init__(self, layers: Layers, shape: Shape, dtype: Any, rngs: nnx.Rngs) -> None:
        self.layers = layers
        for layer in layers:
            if not isinstance(layer, str):
                setattr(self, layer.name, _child(layer, shape, dtype, rngs))
            shape = output_shape(layer, shape)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for layer in self.layers:
            match layer:
                case Norm(name):
                    x = getattr(self, name)(x, use_running_average=not train)
                case Residual(name):
                    x = getattr(self, name)(x, train)
                case Conv(name) | Depthwise(name) | Dense(name):
                    x = getattr(self, name)(x)
                case "relu":
                    x = nnx.relu(x)
                case "max_pool":
                    x = nnx.max_pool(x, (2, 2), (2, 2))
                case "flatten":
                    x = x.reshape(x.shape[0], -1)
                case "global_avg_pool":
                    x = jnp.mean(x, (1, 2))
        return x


class Branches(nnx.Module):
    """``body(x) + skip(x)``."""

    def __init__(self, body: Layers, skip: Layers, shape: Shape, dtype: Any, rngs: nnx.Rngs) -> None:
        self.body = Network(body, shape, dtype, rngs)
        self.skip = Network(skip, shape, dtype, rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.body(x, train) + self.skip(x, train)


def _child(layer: Any, shape: Shape, dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    channels = shape[-1]
    own = {"dtype": dtype, "rngs": rngs}
    match layer:
        case Conv(_, features, k, stride, bias):
            return nnx.Conv(channels, features, (k, k), stride, padding=k // 2, use_bias=bias, **own)
        case Depthwise(_, stride, k):
            own |= {"feature_group_count": channels, "use_bias": False}
            return nnx.Conv(channels, channels, (k, k), stride, padding=k // 2, **own)
        case Norm():
            return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, **own)
        case Dense(_, features):
            return nnx.Linear(channels, features, **own)
        case Residual(_, body, skip):
            return Branches(body, skip, shape, **own)


def build(layers: Layers, shape: Shape, weights: Weights, dtype: Any) -> Model:
    # Without values, which are set afterwards: drawing them takes seconds of compilation.
    model = nnx.eval_shape(lambda: Network(layers, shape, dtype, nnx.Rngs(0)))
    graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    for path, variable in (*nnx.to_flat_state(params), *nnx.to_flat_state(statistics)):
        variable.set_value(jnp.asarray(weights["/".join(path)]))

    def apply(params: Any, statistics: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, statistics, copy=True)  # training moves the statistics in place
        return model(x, train), nnx.state(model, nnx.BatchStat)

    return Model(params, statistics, apply)
