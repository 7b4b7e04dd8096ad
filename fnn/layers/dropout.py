"""Dropout: noise in training, the identity in evaluation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.kernels import quick_key
from fnn.layer import Key, Layer, LayerError, Params, Shaped, State, need_key, on_device, static_train
from fnn.layers.checks import fraction, need_floating
from fnn.registry import register


@register
def dropout(rate: float) -> Layer:
    """Set a share of all values to 0 in training, and scale the rest by ``1 / (1 - rate)``.

    Args:
        rate: The share that is dropped, 0..1.

    Raises:
        LayerError: In training without a key.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> y, _ = fnn.dropout(0.25).apply({}, {}, jnp.ones((1, 10000)), key=jax.random.key(0), train=True)
        >>> print(y.max(), round(float((y == 0).mean()), 2))
        1.3333334 0.25

    Source: Srivastava et al., JMLR 15, 2014.
    """
    fraction("dropout", rate=rate)
    return _noise("dropout", rate, lambda shape: shape)


@register
def spatial_dropout(rate: float) -> Layer:
    """Set a share of whole channels to 0 in training, another for each example, and scale the rest.

    Args:
        rate: The share that is dropped, 0..1.

    Raises:
        LayerError: In training without a key, or the input has no spatial axis.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((2, 4, 4, 8))
        >>> y, _ = fnn.spatial_dropout(0.5).apply({}, {}, x, key=jax.random.key(0), train=True)
        >>> sorted(set(y.sum((1, 2)).ravel().tolist()))
        [0.0, 32.0]

    Source: Tompson et al., CVPR 2015, arXiv:1411.4280.
    """
    fraction("spatial_dropout", rate=rate)

    def channels(shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 3:
            raise LayerError(f"expected an input of rank 4 (batch, height, width, channels), got {shape}")
        return (shape[0], *(1,) * (len(shape) - 2), shape[-1])

    return _noise("spatial_dropout", rate, channels)


@register
def stochastic_depth(rate: float) -> Layer:
    """Set whole examples to 0 in training, a share of the batch, and scale the rest: drop path.

    At the end of a `residual` body it skips the body for these examples.

    Args:
        rate: The share that is dropped, 0..1.

    Raises:
        LayerError: In training without a key.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((6, 2, 2, 1))
        >>> y, _ = fnn.stochastic_depth(0.5).apply({}, {}, x, key=jax.random.key(0), train=True)
        >>> sorted(set(y.sum((1, 2, 3)).tolist()))
        [0.0, 8.0]

    Source: Huang et al. 2016, arXiv:1603.09382.
    """
    fraction("stochastic_depth", rate=rate)
    return _noise("stochastic_depth", rate, lambda shape: (*shape[:1], *(1,) * (len(shape) - 1)))


def _noise(kind: str, rate: float, drawn: Any) -> Layer:
    def init(key: Key, x: Shaped) -> tuple[Params, State]:
        need_floating(x)
        drawn(x.shape)
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, key: Key | None = None, train: bool = False
    ) -> tuple[Array, State]:
        x = on_device(x)
        need_floating(x)
        shape = drawn(x.shape)
        if not static_train(train) or rate == 0.0:
            return x, state
        if rate == 1.0:
            return jnp.zeros_like(x), state
        keep = jax.random.bernoulli(quick_key(need_key(key, kind)), 1.0 - rate, shape)
        return jnp.where(keep, x * (1.0 / (1.0 - rate)), jnp.zeros_like(x)), state

    return Layer(init, apply, kind)
