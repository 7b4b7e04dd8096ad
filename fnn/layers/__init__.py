"""Layers, each a constructor or a value; all are in the registry."""

from fnn.layers.activation import (
    celu,
    elu,
    gelu,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from fnn.layers.affine import layer_scale
from fnn.layers.conv import conv, conv_transpose, depthwise_conv
from fnn.layers.dense import dense
from fnn.layers.dropout import dropout, spatial_dropout, stochastic_depth
from fnn.layers.initializers import INITIALIZERS, initializer
from fnn.layers.local import local_conv
from fnn.layers.norm import batch_norm, group_norm, layer_norm, local_response_norm
from fnn.layers.pool import adaptive_avg_pool, avg_pool, global_avg_pool, global_max_pool, max_pool
from fnn.layers.resize import upsample
from fnn.layers.shape import flatten, fn, pad, pixel_shuffle, reshape, transpose

__all__ = [
    "INITIALIZERS",
    "adaptive_avg_pool",
    "avg_pool",
    "batch_norm",
    "celu",
    "conv",
    "conv_transpose",
    "dense",
    "depthwise_conv",
    "dropout",
    "elu",
    "flatten",
    "fn",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "initializer",
    "layer_norm",
    "layer_scale",
    "leaky_relu",
    "local_conv",
    "local_response_norm",
    "log_sigmoid",
    "log_softmax",
    "max_pool",
    "mish",
    "pad",
    "pixel_shuffle",
    "prelu",
    "relu",
    "relu6",
    "reshape",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "spatial_dropout",
    "stochastic_depth",
    "tanh",
    "transpose",
    "upsample",
]
