"""Convolution in pure JAX, shaped for processors without native kernels.

What XLA's own convolution is slow at is put as what XLA is fast at. The gradient of a kernel is a product of
matrices for a few examples at a time, which stay in the cache; a depthwise convolution is a sum of shifted
products, which XLA makes one loop of.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.kernels import xla
from fnn.kernels.binding import vary_alike
from fnn.kernels.spec import Spec, acc
from fnn.kernels.windows import window_slices

_PATCHES = 1 << 20  # values of patches at a time


def forward(x: Array, kernel: Array, spec: Spec) -> Array:
    """``x, kernel -> y``."""
    if not _depthwise(spec, kernel.shape[-2]):
        return _widened(xla.forward, x, kernel, spec)
    shifted = _slices(x.astype(acc(x.dtype)), spec)
    taps = kernel.astype(x.dtype).astype(acc(x.dtype)).reshape(-1, kernel.shape[-1])
    copies = kernel.shape[-1] // spec.groups
    products = (jnp.repeat(s, copies, -1) * t for s, t in zip(shifted, taps, strict=True))
    total: Array = functools.reduce(operator.add, products)
    return total.astype(x.dtype)


def to_input(y: Array, kernel: Array, spec: Spec) -> Array:
    """``y, kernel -> x``."""
    if not _depthwise(spec, kernel.shape[-2]):
        return _widened(xla.to_input, y, kernel, spec)
    x = jax.ShapeDtypeStruct((y.shape[0], *spec.space, spec.groups), y.dtype)
    (gradient,) = jax.linear_transpose(lambda x: forward(x, kernel, spec), x)(y)
    return gradient  # type: ignore[no-any-return]


def to_kernel(x: Array, y: Array, spec: Spec) -> Array:
    """``x, y -> kernel``, summed in float32 or wider."""
    x, y = x.astype(acc(x.dtype)), y.astype(acc(x.dtype))
    inputs = x.shape[-1] // spec.groups
    if _depthwise(spec, inputs):
        copies = y.shape[-1] // spec.groups
        axes = tuple(range(x.ndim - 1))
        sums = [jnp.sum(jnp.repeat(s, copies, -1) * y, axes) for s in _slices(x, spec)]
        return jnp.stack(sums).reshape(*spec.window, 1, y.shape[-1])
    if not spec.axes or spec.groups > 1:
        return xla.to_kernel(x, y, spec)
    return _by_patches(x, y, spec)


def _by_patches(x: Array, y: Array, spec: Spec) -> Array:
    """The gradient of a kernel as a sum over parts of the batch of (patches × gradient)."""
    width = math.prod(spec.window) * x.shape[-1]
    examples = _divisor(x.shape[0], max(1, _PATCHES // (width * math.prod(spec.out_space))))

    def step(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        xs, ys = part
        patches = jnp.concatenate(_slices(xs, spec), -1).reshape(-1, width)
        rows = ys.reshape(-1, ys.shape[-1])
        return total + lax.dot_general(patches, rows, (((0,), (0,)), ((), ()))), None

    parts = jax.tree.map(lambda a: a.reshape(-1, examples, *a.shape[1:]), (x, y))
    nothing, *_ = vary_alike(jnp.zeros((width, y.shape[-1]), x.dtype), x)
    total, _ = lax.scan(step, nothing, parts)
    return total.reshape(*spec.window, x.shape[-1], y.shape[-1])


def _slices(x: Array, spec: Spec) -> list[Array]:
    """For every cell of the window, in row order, the input that it sees: ``(batch, *out_space, in)``."""
    return window_slices(x, spec.window, spec.stride, spec.padding, 0.0, spec.dilation)


def _depthwise(spec: Spec, inputs: int) -> bool:
    return spec.axes > 0 and spec.groups > 1 and inputs == 1


def _divisor(n: int, most: int) -> int:
    """The largest divisor of ``n`` that is not above ``most``."""
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0)


def _widened(form: Callable[[Array, Array, Spec], Array], a: Array, kernel: Array, spec: Spec) -> Array:
    """In float32, as XLA has no fast convolution in narrower types on a CPU."""
    wide = acc(a.dtype)
    return form(a.astype(wide), kernel.astype(a.dtype).astype(wide), spec).astype(a.dtype)
