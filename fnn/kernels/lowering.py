"""What a convolution becomes when a program is lowered: a native call, a pure-JAX form, or XLA's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.interpreters import mlir

from fnn.kernels import portable, xla
from fnn.kernels.choice import Choice, processors
from fnn.kernels.native import library
from fnn.kernels.spec import Spec

NAMES = {"y": "forward", "x": "input", "w": "kernel"}
"""The three directions, by what they make."""

OPERANDS = {"y": ("x", "w", "y"), "x": ("y", "w", "x"), "w": ("x", "y", "w")}
"""Each direction's operands, and its result."""

XLA = {"y": xla.forward, "x": xla.to_input, "w": xla.to_kernel}
JAX = {"y": portable.forward, "x": portable.to_input, "w": portable.to_kernel}

fallbacks: dict[str, str] = {}
"""Convolutions that native kernels were wanted for and that took another form on a CPU, and why."""


def default(role: str) -> Any:
    """The lowering for GPUs, TPUs and all else."""
    return _lower(XLA[role])


def cpu(role: str) -> Any:
    """The lowering for CPUs."""
    native = jax.ffi.ffi_lowering(library.target(NAMES[role]))
    forms = {"xla": _lower(XLA[role]), "jax": _lower(JAX[role])}

    def rule(ctx: Any, left: Any, right: Any, *, spec: Spec, choice: Choice) -> Any:
        form, why = _form(ctx, role, spec, choice)
        if form != "onednn":
            if why:
                fallbacks[f"{NAMES[role]}: {ctx.avals_in[0].dtype}, {spec}"] = why
            return forms[form](ctx, left, right, spec=spec, choice=choice)
        if not spec.axes:
            return as_rows(ctx, left, right, spec=spec, choice=choice)
        return native(ctx, left, right, **_attributes(spec, choice))

    return rule


def _lower(form: Callable[..., Any]) -> Any:
    return mlir.lower_fun(lambda a, b, *, spec, choice: form(a, b, spec), multiple_results=False)


def _attributes(spec: Spec, choice: Choice) -> dict[str, Any]:
    before, after = zip(*spec.padding, strict=True)
    numbers = {"stride": spec.stride, "before": before, "after": after, "dilation": spec.dilation}
    return {
        **{name: np.array(values, np.int64) for name, values in numbers.items()},
        "groups": np.int64(spec.groups),
        "pieces": np.int64(pieces(choice)),
    }


def pieces(choice: Choice) -> int:
    """Into how many pieces native work is cut."""
    return choice.threads or processors()


def _form(ctx: Any, role: str, spec: Spec, choice: Choice) -> tuple[str, str]:
    """Which form a convolution takes on a CPU, and why not the native one, if that was wanted."""
    if choice.kernels in ("xla", "jax"):
        return choice.kernels, ""
    module = ctx.module_context
    if module.lowering_parameters.for_export:
        return "xla", "an exported program holds nothing that is native to this machine"
    if getattr(module.axis_context, "num_devices", 1) > 1:
        return "xla", "jit over several devices leaves the partitioning to XLA; shard_map does not"
    shapes = [aval.shape for aval in (*ctx.avals_in, *ctx.avals_out)]
    if not all(isinstance(n, int) for shape in shapes for n in shape):
        return "xla", "a dimension is symbolic"
    if any(0 in shape for shape in shapes):
        return "xla", "an array is empty"
    dtype = ctx.avals_in[0].dtype
    if dtype not in (np.float32, jax.numpy.bfloat16):
        return "xla", f"{dtype} is neither float32 nor bfloat16"
    if not library.available():
        return "jax", library.reason()
    arrays = dict(zip(OPERANDS[role], shapes, strict=True))
    batch, inputs, outputs = *arrays["x"][:: len(arrays["x"]) - 1], arrays["y"][-1]
    why = library.refuses(NAMES[role], dtype, batch, inputs, outputs, spec, pieces(choice))
    return ("jax", why) if why else ("onednn", "")
