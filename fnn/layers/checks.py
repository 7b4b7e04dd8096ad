"""What layers ask of their arguments and inputs, in one wording."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from fnn.layer import LayerError

_AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


LARGEST = 2**31 - 1
"""Of a size: JAX counts along an axis in int32."""

UNROLLED = 4096
"""Pieces that a layer's program may be written out in; more would take minutes to compile."""


def positive(kind: str, **arguments: int) -> None:
    """Refuse an argument that is not a positive whole number, or larger than any axis can be."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
            raise ValueError(f"{kind}: {name} must be a positive whole number, got {value!r}")
        if operator.index(value) > LARGEST:
            raise ValueError(f"{kind}: {name} must be below 2**31, as the length of any axis, got {value!r}")


def few(kind: str, **arguments: int) -> None:
    """Refuse more pieces than a layer's program should be written out in."""
    for name, value in arguments.items():
        if value > UNROLLED:
            raise LayerError(f"{kind} writes out its {name}: expected at most {UNROLLED}, got {value}")


def sizes(kind: str, **arguments: int | Sequence[int] | None) -> None:
    """Refuse an argument that is neither a positive whole number nor a sequence of such."""
    for name, value in arguments.items():
        if isinstance(value, Sequence) and len(value) not in _AXES:
            raise ValueError(f"{kind}: {name} must have 1, 2 or 3 numbers, one a spatial axis, got {value!r}")
        for number in value if isinstance(value, Sequence) else () if value is None else (value,):
            positive(kind, **{name: number})


def fraction(kind: str, **arguments: float) -> None:
    """Refuse an argument outside 0..1."""
    for name, value in arguments.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{kind}: {name} must lie in 0..1, got {value!r}")


def per_axis(kind: str, name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One positive number an axis, from one for all or a sequence."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes:
        raise LayerError(f"expected {name} to have {axes} numbers, one a spatial axis, got {values}")
    positive(kind, **{name: min(values)})
    return values


def spatial_axes(x: Any, kernel: int | Sequence[int]) -> int:
    """The number of spatial axes of ``x``: 1, 2 or 3, and as many as the kernel has.

    Raises:
        LayerError: The rank of ``x`` is another.
    """
    _need_array(x)
    axes = len(kernel) if isinstance(kernel, Sequence) else x.ndim - 2
    if axes not in _AXES or x.ndim != axes + 2:
        wanted = axes if isinstance(kernel, Sequence) and axes in _AXES else 2
        raise LayerError(
            f"expected an input of rank {wanted + 2} (batch, {_AXES[wanted]}, channels), got {x.shape}"
        )
    return axes


def need_floating(x: Any) -> None:
    """Refuse integers: a kernel cast to them would be lost."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise LayerError(f"expected a floating-point input, got {x.dtype}: x.astype(jnp.float32)")


def need_rank(x: Any, least: int) -> None:
    """Refuse an input of fewer axes."""
    _need_array(x)
    if x.ndim < least:
        raise LayerError(f"expected an input of rank {least} or more (batch, ..., channels), got {x.shape}")


def _need_array(x: Any) -> None:
    if not hasattr(x, "ndim"):
        raise LayerError(f"expected an array, got a {type(x).__name__}: jnp.asarray(x)")


def need_channels(x: Any, channels: int) -> None:
    """Refuse an input whose last axis is not what the parameters were made for."""
    if x.shape[-1] != channels:
        raise LayerError(
            f"expected {channels} channels on the last axis, as in its parameters, got {x.shape}"
        )
