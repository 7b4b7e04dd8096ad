"""Scales and biases, applied in the accumulation type so that their gradients are summed in it."""

from __future__ import annotations

from jax import Array

from fnn import kernels
from fnn.layer import Params, leaf


def along_channels(v: Array, ndim: int) -> Array:
    """A vector over channels with leading axes of 1, so that it broadcasts without promotion of rank."""
    return v.reshape((1,) * (ndim - 1) + (-1,))


def add_bias(params: Params, y: Array) -> Array:
    """``y + bias`` over the last axis. In bfloat16, too, the bias's gradient is summed in float32."""
    return kernels.add_channels(y, leaf(params, "bias"))


def scale_and_shift(y: Array, scale: Array | None, bias: Array | None) -> Array:
    """``y * scale + bias`` over the last axis, in the type of ``y``."""
    if scale is not None:
        y = y * along_channels(scale, y.ndim).astype(y.dtype)
    if bias is not None:
        y = y + along_channels(bias, y.ndim).astype(y.dtype)
    return y
