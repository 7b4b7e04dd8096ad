"""Flax Linen: compact modules with ``dtype``."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.networks import Conv, Dense, Depthwise, Layers, Norm, Shape, Weights, is_statistic
from benchmarks.networks import Residual as Branches
from benchmarks.peers.jax_steps import Model
from fnn.trees import from_paths


class Network(nn.Module):
    """Layers in order; parameters are named as the layers are."""

    layers: Layers
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for layer in self.layers:
            match layer:
                case Conv(name, features, k, stride, bias):
                    conv = nn.Conv(
                        features, (k, k), stride, k // 2, use_bias=bias, dtype=self.dtype, name=name
                    )
                    x = conv(x)
                case Depthwise(name, stride, k):
                    c = x.shape[-1]
                    conv = nn.Conv(
                        c,
                        (k, k),
                        stride,
                        k // 2,
                        feature_group_count=c,
                        use_bias=False,
                        dtype=self.dtype,
                        name=name,
                    )
                    x = conv(x)
                case Norm(name):
                    x = nn.BatchNorm(
                        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name=name
                    )(x)
                case Dense(name, features):
                    x = nn.Dense(features, dtype=self.dtype, name=name)(x)
                case Branches(name, body, skip):
                    x = Residual(body, skip, self.dtype, name=name)(x, train)
                case "relu":
                    x = nn.relu(x)
                case "max_pool":
                    x = nn.max_pool(x, (2, 2), (2, 2))
                case "flatten":
                    x = x.reshape(x.shape[0], -1)
                case "global_avg_pool":
                    x = jnp.mean(x, (1, 2))
        return x


class Residual(nn.Module):
    """``body(x) + skip(x)``."""

    layers: Layers
    skip_layers: Layers
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Network(self.layers, self.dtype, name="body")(x, train)
        return y + Network(self.skip_layers, self.dtype, name="skip")(x, train)


def build(layers: Layers, shape: Shape, weights: Weights, dtype: Any) -> Model:
    model = Network(layers, dtype)
    arrays = {path: jnp.asarray(value) for path, value in weights.items()}
    params = from_paths({path: value for path, value in arrays.items() if not is_statistic(path)})
    state = from_paths({path: value for path, value in arrays.items() if is_statistic(path)})

    def apply(params: Any, state: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state}
        if not train:
            return model.apply(variables, x, False), state
        y, new = model.apply(variables, x, True, mutable=["batch_stats"])
        return y, new.get("batch_stats", {})

    return Model(params, state, apply)
