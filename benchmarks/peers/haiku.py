"""Haiku: a transformed function, with jmp's policies for mixed precision."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import jmp

from benchmarks.networks import Conv, Dense, Depthwise, Layers, Norm, Residual, Shape, Weights
from benchmarks.peers.jax_steps import Model

LEAVES = {"w": "kernel", "b": "bias", "scale": "scale", "offset": "bias"}
STATISTICS = {"mean_ema": "mean", "var_ema": "var"}


def forward(layers: Layers, x: jax.Array, train: bool) -> jax.Array:
    for layer in layers:
        match layer:
            case Conv(name, features, k, stride, bias):
                x = hk.Conv2D(features, k, stride, padding=_pad(k), with_bias=bias, name=name)(x)
            case Depthwise(name, stride, k):
                x = hk.DepthwiseConv2D(1, k, stride, padding=_pad(k), with_bias=False, name=name)(x)
            case Norm(name):
                x = hk.BatchNorm(True, True, decay_rate=0.9, eps=1e-5, name=name)(x, train)
            case Dense(name, features):
                x = hk.Linear(features, name=name)(x)
            case Residual(name, body, skip):
                with hk.name_scope(name):
                    with hk.name_scope("body"):
                        y = forward(body, x, train)
                    with hk.name_scope("skip"):
                        x = y + forward(skip, x, train)
            case "relu":
                x = jax.nn.relu(x)
            case "max_pool":
                x = hk.max_pool(x, (2, 2, 1), (2, 2, 1), "VALID")
            case "flatten":
                x = hk.Flatten()(x)
            case "global_avg_pool":
                x = jnp.mean(x, (1, 2))
    return x


def build(layers: Layers, shape: Shape, weights: Weights, dtype: Any) -> Model:
    half = jnp.dtype(dtype).name
    products = jmp.get_policy(f"params=float32,compute={half},output={half}")
    for module in (hk.Conv2D, hk.DepthwiseConv2D, hk.Linear):
        hk.mixed_precision.set_policy(module, products)
    # As in Haiku's own ImageNet example: its variance, E[x²] - E[x]², needs float32.
    statistics = jmp.get_policy(f"params=float32,compute=float32,output={half}")
    hk.mixed_precision.set_policy(hk.BatchNorm, statistics)
    model = hk.without_apply_rng(
        hk.transform_with_state(lambda x, train: forward(layers, x.astype(dtype), train))
    )
    example = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params, state = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, True), example)
    params = hk.data_structures.map(
        lambda module, name, old: jnp.asarray(weights[f"{module}/{LEAVES[name]}"]).reshape(old.shape), params
    )
    state = hk.data_structures.map(lambda *leaf: _statistic(weights, *leaf), state)
    return Model(params, state, model.apply)


def _pad(kernel: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return ((kernel // 2, kernel // 2),) * 2


def _statistic(weights: Weights, module: str, name: str, old: Any) -> jax.Array:
    """The moving average of ``.../norm1/~/mean_ema``, as after no step at all."""
    if name == "counter":
        return jnp.zeros(old.shape, old.dtype)
    norm, _, average = module.rsplit("/", 2)
    return jnp.asarray(weights[f"{norm}/{STATISTICS[average]}"]).reshape(old.shape)
