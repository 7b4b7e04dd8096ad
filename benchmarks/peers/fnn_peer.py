"""fnn: a ``serial`` of named layers. The activation carries the dtype."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import fnn
from benchmarks.networks import (
    Conv,
    Dense,
    Depthwise,
    Layer,
    Layers,
    Norm,
    Residual,
    Shape,
    Weights,
    is_statistic,
)
from benchmarks.peers.jax_steps import Model
from fnn.trees import from_paths


def build(layers: Layers, shape: Shape, weights: Weights, dtype: Any) -> Model:
    model = sequence(layers)
    arrays = {path: jnp.asarray(value) for path, value in weights.items()}
    params = from_paths({path: value for path, value in arrays.items() if not is_statistic(path)})
    state = from_paths({path: value for path, value in arrays.items() if is_statistic(path)})
    return Model(params, state, lambda p, s, x, train: model.apply(p, s, x.astype(dtype), train=train))


def sequence(layers: Layers) -> fnn.Layer:
    return fnn.serial(*(layer_of(layer) for layer in layers))


def layer_of(layer: Layer) -> fnn.Layer:
    match layer:
        case Conv():
            own = fnn.conv(
                layer.features, layer.kernel, stride=layer.stride, padding=layer.kernel // 2, bias=layer.bias
            )
        case Depthwise():
            own = fnn.depthwise_conv(layer.kernel, stride=layer.stride, padding=layer.kernel // 2, bias=False)
        case Norm():
            own = fnn.batch_norm()
        case Dense():
            own = fnn.dense(layer.features)
        case Residual():
            own = fnn.residual(sequence(layer.body), sequence(layer.skip) if layer.skip else None)
        case "max_pool":
            return fnn.max_pool(2)
        case _:
            return {"relu": fnn.relu, "flatten": fnn.flatten, "global_avg_pool": fnn.global_avg_pool}[layer]
    return fnn.named(layer.name, own)
