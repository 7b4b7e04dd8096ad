"""What the primitives of the kernels share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from fnn.kernels.choice import is_plain


def define(
    name: str, shape: Callable[..., Any], batch: Callable[..., Any], default: Any, cpu: Any
) -> Primitive:
    """A primitive with one result.

    Args:
        name: As it reads in a jaxpr and in a profile.
        shape: The abstract evaluation.
        batch: The rule of vmap, with the primitive before its usual arguments.
        default: The lowering for GPUs, TPUs and all else.
        cpu: The lowering for CPUs.
    """
    primitive = Primitive(name)
    primitive.def_impl(functools.partial(_run, primitive))
    primitive.def_abstract_eval(shape)
    batching.primitive_batchers[primitive] = functools.partial(batch, primitive)
    mlir.register_lowering(primitive, default)
    mlir.register_lowering(primitive, cpu, platform="cpu")
    return primitive


def _run(primitive: Primitive, *operands: Array, **params: Any) -> Any:
    return _compiled(primitive, tuple(params.items()))(*operands)


@functools.cache
def _compiled(primitive: Primitive, params: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(functools.partial(primitive.bind, **dict(params)))


def mapped_first(operands: Sequence[Array], dims: Sequence[int | None]) -> list[Array]:
    """The operands of a rule of vmap, all with the mapped axis in front."""
    n = next(a.shape[d] for a, d in zip(operands, dims, strict=True) if d is not None)
    return [
        jnp.broadcast_to(a, (n, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(operands, dims, strict=True)
    ]


def vary_alike(*arrays: Array) -> list[Array]:
    """Inside of ``shard_map``: what is the same on all devices is made to vary over those of the others."""
    own = [_varying(a) for a in arrays]
    every = frozenset[Any]().union(*own)
    return [
        lax.pcast(a, tuple(every - axes), to="varying") if every - axes else a
        for a, axes in zip(arrays, own, strict=True)
    ]


def _varying(a: Array) -> frozenset[Any]:
    """The axes of a mesh over which an array varies; the name of this is none of JAX's public ones."""
    manual = getattr(jax.typeof(a), "mat", None)
    return frozenset(getattr(manual, "varying", ()))


def explicit(*arrays: Array) -> bool:
    """Whether XLA's operations are traced in place of the primitives: `plain` programs have these alone.

    And where an array's type says how it is sharded, they carry that on; primitives do not.
    """
    if is_plain():
        return True
    shardings = (getattr(jax.typeof(a), "sharding", None) for a in arrays)
    return any(axis is not None for s in shardings for axis in getattr(s, "spec", ()))
