"""A convolutional network by a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fnn.combine import serial
from fnn.layer import Layer
from fnn.layers import batch_norm, conv, dense, dropout, global_avg_pool, max_pool, relu
from fnn.layers.checks import few, positive
from fnn.layers.conv import Size
from fnn.registry import register


@register
def cnn(
    features: Sequence[int],
    *,
    classes: int = 10,
    kernel: Size = 3,
    convs: int = 1,
    pool: int = 2,
    norm: bool = False,
    activation: Layer = relu,
    dropout_rate: float = 0.0,
) -> Layer:
    """Stages of convolutions, each stage with more channels and less space, then a mean and a dense layer.

    Args:
        features: Channels of each stage.
        classes: The number of outputs.
        kernel: The window of every convolution.
        convs: Convolutions in a stage.
        pool: Max pooling between two stages: its window and stride.
        norm: Whether each convolution is followed by batch normalisation (and has then no bias).
        activation: What follows each convolution.
        dropout_rate: The share of values dropped before the last layer in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.cnn([16, 32]).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
        >>> list(params)
        ['stage1', 'stage2', 'head']
    """
    if not features:
        raise ValueError("cnn: features must hold a stage or more, got none")
    positive("cnn", convs=convs)
    few("cnn", convs=convs)

    def stage(width: int, first: bool) -> Layer:
        block = (conv(width, kernel, bias=not norm), *([batch_norm()] if norm else []), activation)
        return serial(*([] if first else [max_pool(pool)]), *block * convs)

    stages = {f"stage{i}": stage(width, i == 1) for i, width in enumerate(features, start=1)}
    noise = [dropout(dropout_rate)] if dropout_rate else []
    whole = serial(**stages, pool=serial(global_avg_pool, *noise), head=dense(classes))
    return replace(whole, kind="cnn")
