"""The three directions of a convolution in pure JAX, shaped for processors without native kernels."""

from __future__ import annotations

from jax import Array

from fnn.kernels import xla
from fnn.kernels.spec import Spec

forward = xla.forward
to_input = xla.to_input


def to_kernel(x: Array, y: Array, spec: Spec) -> Array:
    return xla.to_kernel(x, y, spec)
