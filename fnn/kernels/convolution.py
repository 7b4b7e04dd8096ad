"""Convolutions and products of matrices, as the layers call them."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive

from fnn.kernels import xla
from fnn.kernels.binding import explicit, vary_alike
from fnn.kernels.choice import requested
from fnn.kernels.packed import packed_kernel, packed_p
from fnn.kernels.primitives import forward_p, input_p
from fnn.kernels.spec import Spec, acc


def conv(x: Array, kernel: Array, spec: Spec) -> Array:
    """``x, kernel -> y``, in the type of ``x``. Sums, and the kernel's gradient, are made in `acc`."""
    if explicit(x, kernel):
        return xla.forward(x, kernel, spec)
    packed = packed_kernel(x, kernel, spec)
    if packed is None:
        return _bind(forward_p, x, kernel, spec)
    y: Array = packed_p.bind(x, kernel, packed, spec=spec, choice=requested())
    return y


def conv_input(y: Array, kernel: Array, spec: Spec) -> Array:
    """``y, kernel -> x``: the transpose of `conv` in ``x``, which is what a transposed convolution does."""
    return xla.to_input(y, kernel, spec) if explicit(y, kernel) else _bind(input_p, y, kernel, spec)


def product(x: Array, kernel: Array) -> Array:
    """``(..., in) @ (in, out)``, in the type of ``x``; sums, and the kernel's gradient, are made in `acc`.

    In float32 it is XLA's product, the fastest on every platform. In narrower types it is a convolution
    without space, so that a CPU's matrix units are used.
    """
    if x.dtype == acc(x.dtype) or explicit(x, kernel):
        return lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())))
    spec = Spec((), (), (), (), ())
    return conv(x.reshape(-1, x.shape[-1]), kernel, spec).reshape(*x.shape[:-1], kernel.shape[-1])


def _bind(primitive: Primitive, a: Array, kernel: Array, spec: Spec) -> Array:
    wide = acc(a.dtype)
    kernel = kernel if kernel.dtype == wide else kernel.astype(wide)
    a, kernel = vary_alike(jnp.asarray(a), jnp.asarray(kernel))
    y: Array = primitive.bind(a, kernel, spec=spec, choice=requested())
    return y
