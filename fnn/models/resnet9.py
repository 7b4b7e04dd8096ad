"""A small residual network that trains fast."""

from __future__ import annotations

from dataclasses import replace

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import batch_norm, celu, dense, fn, global_max_pool, max_pool
from fnn.layers.checks import positive
from fnn.models.blocks import plain_conv
from fnn.registry import register


@register
def resnet9(classes: int = 10, *, width: int = 64, temperature: float = 8.0) -> Layer:
    """ResNet-9 for pictures of about 32 × 32, the form that was made for the fastest training.

    Its 8 convolutions cost about the same each but for the first, and its 2 residuals have no convolution in
    their shortcuts. With ``width=64`` it has 6.6 M parameters and 760 MFLOP a picture, which grow with the
    square of the width: for 2 CPU cores 16 is right, 47 MFLOP.

    Args:
        classes: The number of outputs.
        width: Channels of the first convolution; the others have 2, 4 and 8 times as many.
        temperature: The outputs are divided by it.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> model = fnn.resnet9(width=16)
        >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> fnn.count(params)
        412944

    Source: David Page, How to train your ResNet, 2018-19, myrtle.ai; what became of it: Jordan 2024,
    arXiv:2404.00498.
    """
    positive("resnet9", width=width)
    pool = max_pool(2)

    def block(features: int, *after: Layer) -> Layer:
        return serial(plain_conv(features, 3), batch_norm(), *after, celu(0.3))

    def twice(features: int) -> Layer:
        return residual(serial(block1=block(features), block2=block(features)))

    whole = serial(
        stem=block(width),
        layer1=block(2 * width, pool),
        residual1=twice(2 * width),
        layer2=block(4 * width, pool),
        layer3=block(8 * width, pool),
        residual3=twice(8 * width),
        pool=global_max_pool,
        head=dense(classes, bias=False),
        cool=fn(lambda x: x / temperature),
    )
    return replace(whole, kind="resnet9")
