"""Fully connected layers."""

from __future__ import annotations

from jax import Array
from jaxtyping import Float

from fnn import kernels
from fnn.layer import Key, Layer, Params, Shaped, leaf, stateless
from fnn.layers.affine import add_bias
from fnn.layers.checks import need_channels, need_floating, need_rank, positive
from fnn.layers.initializers import Initializer, initializer, make
from fnn.registry import register


@register
def dense(
    features: int,
    *,
    bias: bool = True,
    kernel_init: str | Initializer = "he_normal",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """Fully connected: ``y = x @ kernel + bias`` over the last axis.

    ``x`` is ``(batch, ..., in)``, ``y`` is ``(batch, ..., features)``; parameters are ``kernel``
    ``(in, features)`` and ``bias`` ``(features,)``.

    Args:
        features: The number of outputs.
        bias: Whether a bias is added.
        kernel_init: An initialiser or the name of one; ``he_normal`` keeps the second moment through ReLU.
        bias_init: Likewise for the bias.

    Raises:
        LayerError: The input is of integers, has no channel axis, or other channels than the kernel.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> layer = fnn.dense(10)
        >>> params, state = layer.init(jax.random.key(0), jnp.ones((2, 4)))
        >>> {name: leaf.shape for name, leaf in params.items()}
        {'kernel': (4, 10), 'bias': (10,)}
    """
    positive("dense", features=features)
    kernel_init = initializer(kernel_init)
    make_bias = initializer(bias_init) if bias else None

    def init(key: Key, x: Shaped) -> Params:
        need_rank(x, 2)
        need_floating(x)
        return make(key, (x.shape[-1], features), kernel_init, make_bias)

    def forward(params: Params, x: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        need_rank(x, 2)
        need_floating(x)
        kernel = leaf(params, "kernel")
        need_channels(x, kernel.shape[0])
        return kernels.product(x, kernel)

    return stateless("dense", forward, init, tail=add_bias if bias else None)
