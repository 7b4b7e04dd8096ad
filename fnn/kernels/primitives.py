"""Convolution as three primitives, each bilinear, each the transpose of the others.

So every transformation of JAX works to any order: forward and reverse mode, gradients of gradients,
``vmap`` over either operand or both, ``scan``, ``remat``. What runs is chosen when a program is lowered.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad

from fnn.kernels import lowering
from fnn.kernels.binding import define
from fnn.kernels.spec import Spec, acc

Role = str
"""An array of a convolution: ``x``, ``w`` (the kernel) or ``y``."""


def _make(role: Role, left: Role, right: Role) -> Primitive:
    """The primitive ``left, right -> role``."""
    return define(
        f"conv_{lowering.NAMES[role]}",
        functools.partial(_shape, role),
        functools.partial(_batch, role, left, right),
        lowering.default(role),
        lowering.cpu(role),
    )


def _shape(role: Role, left: Any, right: Any, *, spec: Spec, choice: Any) -> Any:
    """The result's shape and type; all else is that of the left operand."""
    if role == "y":
        return left.update(shape=(left.shape[0], *spec.out_space, right.shape[-1]), weak_type=False)
    if role == "x":
        channels = right.shape[-2] * spec.groups
        return left.update(shape=(left.shape[0], *spec.space, channels), weak_type=False)
    shape = (*spec.window, left.shape[-1] // spec.groups, right.shape[-1])
    return left.update(shape=shape, dtype=acc(left.dtype), weak_type=False)


def _batch(
    role: Role,
    left: Role,
    right: Role,
    primitive: Primitive,
    operands: Sequence[Array],
    dims: Sequence[int | None],
    *,
    spec: Spec,
    choice: Any,
) -> tuple[Array, int]:
    """vmap: the mapped axis is folded into an axis that behaves like it.

    With x and y mapped it is more of the batch; x and the kernel, more input channels; y and the kernel,
    more output channels; all three, more groups.
    """
    mapped = {role} | {r for r, d in zip((left, right), dims, strict=True) if d is not None}
    n = next(a.shape[d] for a, d in zip(operands, dims, strict=True) if d is not None)
    folded = [
        a if d is None else _fold(jnp.moveaxis(a, d, 0), *_place(r, mapped, spec))
        for r, a, d in zip((left, right), operands, dims, strict=True)
    ]
    inner = spec.times(n) if len(mapped) == 3 else spec
    y = primitive.bind(*folded, spec=inner, choice=choice)
    return _unfold(y, n, *_place(role, mapped, spec)), 0


def _place(role: Role, mapped: set[Role], spec: Spec) -> tuple[int, int]:
    """The axis of an array into which a mapped one is folded, and into how many groups that is split."""
    if mapped == {"x", "y"}:
        return 0, 1
    if mapped == {"x", "w"}:
        return (-1, spec.groups) if role == "x" else (-2, 1)
    return -1, spec.groups if mapped == {"y", "w"} else 1


def _fold(a: Array, axis: int, groups: int) -> Array:
    """The leading axis into another one, inside of each of its groups."""
    n, *shape = a.shape
    axis %= len(shape)
    size = shape[axis]
    split = a.reshape(n, *shape[:axis], groups, size // groups, *shape[axis + 1 :])
    return jnp.moveaxis(split, 0, axis + 1).reshape(*shape[:axis], n * size, *shape[axis + 1 :])


def _unfold(a: Array, n: int, axis: int, groups: int) -> Array:
    """The inverse of `_fold`."""
    axis %= a.ndim
    shape, size = a.shape, a.shape[axis] // n
    split = a.reshape(*shape[:axis], groups, n, size // groups, *shape[axis + 1 :])
    return jnp.moveaxis(split, axis + 1, 0).reshape(n, *shape[:axis], size, *shape[axis + 1 :])


forward_p = _make("y", "x", "w")
input_p = _make("x", "y", "w")
kernel_p = _make("w", "x", "y")

# parameters of the rules: the cotangent, then the primitive's own operands
ad.defbilinear(
    forward_p,
    lambda ct, x, w, **params: input_p.bind(ct, w, **params),
    lambda ct, x, w, **params: kernel_p.bind(x, ct, **params),
)
ad.defbilinear(
    input_p,
    lambda ct, y, w, **params: forward_p.bind(ct, w, **params),
    lambda ct, y, w, **params: kernel_p.bind(ct, y, **params),
)
ad.defbilinear(
    kernel_p,
    lambda ct, x, y, **params: input_p.bind(y, ct, **params),
    lambda ct, x, y, **params: forward_p.bind(x, ct, **params),
)
