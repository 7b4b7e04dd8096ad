"""Floating-point operations, counted without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from fnn import kernels


def flops(function: Callable[..., Any], *args: Any) -> float:
    """The floating-point operations of one call, as XLA counts them.

    A multiplication and an addition are two. A scan counts in all its steps. Kernels that are not XLA's,
    whose work it does not see, count as XLA's do.

    Args:
        function: Arrays in, arrays out.
        args: Its arguments, or their shapes and dtypes.

    Example:
        >>> import jax.numpy as jnp
        >>> flops(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 4)))
        48.0
    """
    with kernels.use("xla"):
        return _all(jax.make_jaxpr(function)(*args))


def _all(closed: ClosedJaxpr) -> float:
    """XLA counts the body of a scan once: it gives way to as many of them as there are steps."""
    total = _counted(jaxpr_as_fun(closed), closed.in_avals)
    for scan in _scans(closed.jaxpr):
        inputs = [v.aval for v in scan.invars]
        total -= _counted(lambda *args, scan=scan: scan.primitive.bind(*args, **scan.params), inputs)
        total += scan.params["length"] * _all(scan.params["jaxpr"])
    return total


def _counted(function: Callable[..., Any], inputs: Any) -> float:
    with _on_cpu():
        lowered = jax.jit(function).lower(*(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in inputs))
        return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def _on_cpu() -> AbstractContextManager[None]:
    """XLA counts nothing for a GPU. Where ``JAX_PLATFORMS`` leaves the CPU out there is nobody to count."""
    try:
        device: AbstractContextManager[None] = jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return nullcontext()
    return device


def _scans(jaxpr: Jaxpr) -> Iterator[Any]:
    """The scans of a program and of the programs that it calls, but not those inside of another scan."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
            continue
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from _scans(value.jaxpr if isinstance(value, ClosedJaxpr) else value)


def _is_program(value: Any) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))
