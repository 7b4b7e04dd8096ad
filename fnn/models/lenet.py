"""LeNet-5 as it was described in 1998, and in today's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.combine import serial
from fnn.kernels import acc, quick_key
from fnn.layer import Key, Layer, Params, Shaped, leaf, stateless
from fnn.layers import avg_pool, conv, dense, dropout, flatten, fn, max_pool, relu
from fnn.layers.affine import add_bias, scale_and_shift
from fnn.layers.checks import need_channels, need_floating, spatial_axes
from fnn.layers.conv import convolve
from fnn.registry import register

# Table I of the paper: the maps of S2 that each map of C3 sees.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


@register
def lenet5(classes: int = 10) -> Layer:
    """LeNet-5 of 1998: 32 × 32 input, scaled tanh, trainable sub-sampling, the sparse C3, 60,850 parameters.

    The input is ``(batch, 32, 32, 1)``. Layers bear the paper's names. One thing differs: the output is a
    dense layer in place of radial basis functions around hand-drawn codes of the digits.

    Args:
        classes: The number of outputs.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.lenet5().init(jax.random.key(0), jnp.ones((1, 32, 32, 1)))
        >>> {name: fnn.count(tree) for name, tree in params.items()}
        {'c1': 156, 's2': 12, 'c3': 1516, 's4': 32, 'c5': 48120, 'f6': 10164, 'output': 850}

    Source: LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document recognition, 1998.
    """
    squash = fn(_squash)
    whole = serial(
        c1=conv(6, 5, padding="VALID", kernel_init=_fan_in_uniform),
        c1_tanh=squash,
        s2=subsample(2),
        s2_tanh=squash,
        c3=table_conv(C3_TABLE, 5),
        c3_tanh=squash,
        s4=subsample(2),
        s4_tanh=squash,
        c5=conv(120, 5, padding="VALID", kernel_init=_fan_in_uniform),
        c5_tanh=squash,
        flatten=flatten,
        f6=dense(84, kernel_init=_fan_in_uniform),
        f6_tanh=squash,
        output=dense(classes, kernel_init=_fan_in_uniform),
    )
    return replace(whole, kind="lenet5")


@register
def lenet(
    classes: int = 10, *, features: Sequence[int] = (32, 64), hidden: int = 512, dropout_rate: float = 0.0
) -> Layer:
    """LeNet in today's form: 5 × 5 convolutions, ReLU, max pooling, one hidden dense layer.

    Args:
        classes: The number of outputs.
        features: Channels of the convolutions, each followed by ReLU and 2 × 2 max pooling.
        hidden: The width of the dense layer.
        dropout_rate: The share of the hidden layer's values dropped in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.lenet().init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
        >>> fnn.count(params)
        1663370
    """
    blocks = [layer for width in features for layer in (conv(width, 5), relu, max_pool(2))]
    noise = [dropout(dropout_rate)] if dropout_rate else []
    whole = serial(*blocks, flatten, dense(hidden), relu, *noise, dense(classes))
    return replace(whole, kind="lenet")


def subsample(window: int) -> Layer:
    """Trainable sub-sampling: the mean of each window, times ``scale``, plus ``bias``, by channel."""
    pool = avg_pool(window)

    def init(key: Key, x: Shaped) -> Params:
        return {
            "scale": jnp.ones((x.shape[-1],), jnp.float32),
            "bias": jnp.zeros((x.shape[-1],), jnp.float32),
        }

    def forward(params: Params, x: Array) -> Array:
        scale, bias = leaf(params, "scale"), leaf(params, "bias")
        need_channels(x, scale.shape[0])
        mean, _ = pool.apply({}, {}, x)
        return scale_and_shift(mean.astype(acc(x.dtype)), scale, bias).astype(x.dtype)

    return stateless("subsample", forward, init)


def table_conv(table: Sequence[Sequence[int]], kernel: int) -> Layer:
    """A convolution whose output map ``i`` sees the input maps ``table[i]`` alone.

    The parameter ``kernel`` is ``(kernel, kernel, connections)``, in the order of the table.
    """
    sources = np.concatenate([np.asarray(maps, np.int32) for maps in table])
    targets = np.repeat(np.arange(len(table), dtype=np.int32), [len(maps) for maps in table])
    inputs = int(sources.max()) + 1

    def init(key: Key, x: Shaped) -> Params:
        spatial_axes(x, (kernel, kernel))
        need_channels(x, inputs)
        bound = jnp.asarray(2.4 / (kernel**2 * np.bincount(targets)[targets]), jnp.float32)
        draw = jax.random.uniform(quick_key(key), (kernel, kernel, len(sources)), jnp.float32, -1.0, 1.0)
        return {"kernel": draw * bound[None, None], "bias": jnp.zeros((len(table),), jnp.float32)}

    def forward(params: Params, x: Array) -> Array:
        spatial_axes(x, (kernel, kernel))
        need_floating(x)
        need_channels(x, inputs)
        connections = leaf(params, "kernel")
        full = jnp.zeros((kernel, kernel, inputs, len(table)), connections.dtype)
        full = full.at[:, :, sources, targets].set(connections)
        return add_bias(params, convolve(x, full, stride=1, padding="VALID"))

    return stateless("table_conv", forward, init)


def _squash(x: Array) -> Array:
    """Appendix A: 1.7159 tanh(2/3 x), with f(1) = 1 and the largest second derivative at 1."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def _fan_in_uniform(key: Key, shape: tuple[int, ...], dtype: type) -> Array:
    """Appendix A: uniform in ±2.4 / fan-in."""
    bound = 2.4 / np.prod(shape[:-1])
    return jax.random.uniform(key, shape, dtype, -bound, bound)
