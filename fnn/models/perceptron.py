"""Linear models and multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import dense, dropout, flatten, relu
from fnn.registry import register


@register
def linear(features: int = 1, *, bias: bool = True) -> Layer:
    """``p = x @ kernel + bias`` over all values of an example, from zero: its losses are convex.

    With squared error it is linear regression, with hinge a support vector machine, with cross entropy
    softmax regression.

    Args:
        features: The number of outputs.
        bias: Whether a bias is added.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.linear(10).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
        >>> fnn.count(params)
        650
    """
    return replace(serial(flatten, dense(features, bias=bias, kernel_init="zeros")), kind="linear")


@register
def mlp(features: Sequence[int], *, activation: Layer = relu, dropout_rate: float = 0.0) -> Layer:
    """A multi-layer perceptron over all values of an example.

    Args:
        features: The widths of its layers; the last one is the output and has no activation.
        activation: What follows each of the others.
        dropout_rate: The share of values dropped after each activation in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.mlp([512, 512, 10]).init(jax.random.key(0), jnp.ones((1, 784)))
        >>> fnn.count(params)
        669706

    Source: Rumelhart, Hinton & Williams, Nature 323, 1986.
    """
    if not features:
        raise ValueError("mlp: features must hold a width or more, got none")
    noise = [dropout(dropout_rate)] if dropout_rate else []
    hidden = [layer for width in features[:-1] for layer in (dense(width), activation, *noise)]
    return replace(serial(flatten, *hidden, dense(features[-1])), kind="mlp")
