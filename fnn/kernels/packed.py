"""A convolution whose kernel is known when it is traced: packed then, once, and not at every call.

It matters where there is little else to do: for one example, packing the kernels of a ResNet-18 costs as much
as the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.interpreters import ad, mlir

from fnn.kernels.binding import define
from fnn.kernels.blocks import in_blocks
from fnn.kernels.choice import Choice, requested
from fnn.kernels.lowering import attributes, not_native, pieces
from fnn.kernels.native import loader
from fnn.kernels.native.loader import Work
from fnn.kernels.primitives import forward_p
from fnn.kernels.spec import Spec

_FEW = 8192
"""Positions of the output in the whole batch: with more, packing is a small part of the work."""


def packed_kernel(x: Array, kernel: Array, spec: Spec) -> np.ndarray | None:
    """The kernel in the form that oneDNN wants, if it is known, the input is not, and it pays; else None."""
    traced = isinstance(x, jax.core.Tracer) and not isinstance(kernel, jax.core.Tracer)
    if not traced or not spec.axes or requested().kernels not in ("auto", "onednn"):
        return None
    sizes = (*x.shape, *kernel.shape)
    numbers = all(isinstance(n, int) for n in sizes) and 0 not in sizes
    if jax.default_backend() != "cpu" or not numbers or x.dtype not in (np.float32, jax.numpy.bfloat16):
        return None
    if x.dtype == jax.numpy.bfloat16 and not loader.has_bfloat16():
        return None
    if kernel.dtype != np.float32 or x.shape[0] * math.prod(spec.out_space) > _FEW:
        return None
    if in_blocks("y", spec, x.shape[-1], kernel.shape[-1]):
        return None
    return loader.pack(_work(x, kernel, spec, requested()), np.asarray(kernel))


def _work(x: Any, kernel: Any, spec: Spec, choice: Choice) -> Work:
    return Work("forward", np.dtype(x.dtype), x.shape[0], x.shape[-1], kernel.shape[-1], spec, pieces(choice))


def _shape(x: Any, kernel: Any, packed: Any, *, spec: Spec, choice: Choice) -> Any:
    return x.update(shape=(x.shape[0], *spec.out_space, kernel.shape[-1]), weak_type=False)


def _batch(
    primitive: Any, operands: Sequence[Array], dims: Sequence[int | None], **params: Any
) -> tuple[Array, int]:
    """vmap: packed it was for another batch."""
    x, kernel, _ = operands
    y = jax.vmap(lambda x, kernel: forward_p.bind(x, kernel, **params), tuple(dims[:2]))(x, kernel)
    return y, 0


def _cpu(ctx: Any, x: Any, kernel: Any, packed: Any, *, spec: Spec, choice: Choice) -> Any:
    if not_native(ctx, choice) is not None:
        return _unpacked(ctx, x, kernel, packed, spec=spec, choice=choice)
    call = jax.ffi.ffi_lowering(loader.target("conv_packed"))
    return call(ctx, x, kernel, packed, **attributes(spec, choice))


_unpacked = mlir.lower_fun(
    lambda x, kernel, packed, **params: forward_p.bind(x, kernel, **params), multiple_results=False
)
packed_p = define("conv_packed", _shape, _batch, _unpacked, _cpu)
ad.defjvp(
    packed_p,
    lambda dx, x, kernel, packed, **params: forward_p.bind(dx, kernel, **params),
    lambda dk, x, kernel, packed, **params: forward_p.bind(x, dk, **params),
    None,
)
