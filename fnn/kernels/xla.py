"""The three directions of a convolution in XLA's operations: for GPUs, TPUs and whatever else comes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.kernels.spec import Spec, acc


def forward(x: Array, kernel: Array, spec: Spec) -> Array:
    """``x, kernel -> y``; the kernel is cast to the type of ``x``."""
    if not spec.axes:
        return _product("ngi,igo->ngo", _by_group(x, spec), _by_group(kernel, spec), x.dtype)
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=spec.stride,
        padding=spec.padding,
        rhs_dilation=spec.dilation,
        feature_group_count=spec.groups,
        dimension_numbers=layout(spec.axes),
    )


def to_input(y: Array, kernel: Array, spec: Spec) -> Array:
    """``y, kernel -> x``: the transpose of `forward` in ``x``."""
    if not spec.axes:
        return _product("ngo,igo->ngi", _by_group(y, spec), _by_group(kernel, spec), y.dtype)
    x = jax.ShapeDtypeStruct((y.shape[0], *spec.space, kernel.shape[-2] * spec.groups), y.dtype)
    (gradient,) = jax.linear_transpose(lambda x: forward(x, kernel, spec), x)(y)
    return gradient  # type: ignore[no-any-return]


def to_kernel(x: Array, y: Array, spec: Spec) -> Array:
    """``x, y -> kernel``: the transpose of `forward` in the kernel, summed and returned in `acc`."""
    if not spec.axes:
        return _product("ngi,ngo->igo", _by_group(x, spec), _by_group(y, spec), acc(x.dtype))
    axes, wide = spec.axes, acc(x.dtype)
    channels_in, channels_out, space = axes + 1, axes + 1, tuple(range(1, axes + 1))
    ends = zip(spec.space, spec.padding, spec.reach, spec.out_space, spec.stride, strict=True)
    # channels take the place of the batch, and the output's gradient that of the kernel
    return lax.conv_general_dilated(
        x,
        y,
        window_strides=spec.dilation,
        padding=[(a, (o - 1) * s + r - n - a) for n, (a, _), r, o, s in ends],
        rhs_dilation=spec.stride,
        batch_group_count=spec.groups,
        dimension_numbers=lax.ConvDimensionNumbers(
            (channels_in, 0, *space), (channels_out, 0, *space), (axes, axes + 1, *range(axes))
        ),
        preferred_element_type=wide,
    )


def layout(axes: int) -> tuple[str, str, str]:
    """Channels last, kernels (space..., in, out)."""
    space = "DHW"[-axes:]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def _by_group(a: Array, spec: Spec) -> Array:
    return a.reshape(a.shape[0], spec.groups, a.shape[1] // spec.groups)


def _product(subscripts: str, a: Array, b: Array, dtype: np.dtype) -> Array:
    narrow = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    wide = acc(np.dtype(narrow))
    product = jnp.einsum(subscripts, a.astype(narrow), b.astype(narrow), preferred_element_type=wide)
    return product.astype(dtype).reshape(product.shape[0], -1)
