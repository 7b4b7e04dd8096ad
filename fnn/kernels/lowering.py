"""What a convolution becomes when a program is lowered: a native call, a pure-JAX form, or XLA's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.interpreters import mlir

from fnn.kernels import blocks, portable, xla
from fnn.kernels.blocks import Blocks
from fnn.kernels.choice import Choice, processors
from fnn.kernels.native import loader
from fnn.kernels.native.loader import Work
from fnn.kernels.spec import Spec, acc
from fnn.kernels.windows import window_slices

NAMES = {"y": "forward", "x": "input", "w": "kernel"}
"""The three directions, by what they make."""

OPERANDS = {"y": ("x", "w", "y"), "x": ("y", "w", "x"), "w": ("x", "y", "w")}
"""Each direction's operands, and its result."""

XLA = {"y": xla.forward, "x": xla.to_input, "w": xla.to_kernel}
JAX = {"y": portable.forward, "x": portable.to_input, "w": portable.to_kernel}

FLOATS = (np.float32, jax.numpy.bfloat16)
"""What native convolutions, pooling and sums by channel take."""

_FEW_POSITIONS = 16

fallbacks: dict[str, str] = {}
"""Convolutions that native kernels were wanted for and that took another form on a CPU, and why."""


def default(role: str) -> Any:
    """The lowering for GPUs, TPUs and all else."""
    return _lower(XLA[role])


def cpu(role: str) -> Any:
    """The lowering for CPUs."""
    native = jax.ffi.ffi_lowering(loader.target(f"conv_{NAMES[role]}"))
    rows = mlir.lower_fun(functools.partial(_rows, role), multiple_results=False)
    products = mlir.lower_fun(_products, multiple_results=False)
    blocked = mlir.lower_fun(functools.partial(_blocked, role), multiple_results=False)
    forms = {"xla": _lower(XLA[role]), "jax": _lower(JAX[role])}

    def rule(ctx: Any, left: Any, right: Any, *, spec: Spec, choice: Choice) -> Any:
        form, why = _form(ctx, role, spec, choice)
        if form != "onednn":
            if why:
                fallbacks[f"{NAMES[role]}: {ctx.avals_in[0].dtype}, {spec}"] = why
            return forms[form](ctx, left, right, spec=spec, choice=choice)
        if not spec.axes:
            return rows(ctx, left, right, spec=spec, choice=choice)
        if role == "w" and _in_products(ctx.avals_in[0].dtype, spec):
            return products(ctx, left, right, spec=spec, choice=choice)
        if made := _blocks(ctx, role, spec, choice):
            return blocked(ctx, left, right, spec=spec, made=made, choice=choice)
        return native(ctx, left, right, **attributes(spec, choice))

    return rule


def _lower(form: Callable[..., Any]) -> Any:
    return mlir.lower_fun(lambda a, b, *, spec, choice: form(a, b, spec), multiple_results=False)


def _in_products(dtype: np.dtype, spec: Spec) -> bool:
    """oneDNN's kernel gradient in bfloat16 wants room: on 4 × 4 it is six times slower than products."""
    return dtype == jax.numpy.bfloat16 and spec.groups == 1 and math.prod(spec.out_space) <= _FEW_POSITIONS


def _products(x: Array, y: Array, *, spec: Spec, choice: Choice) -> Array:
    """The gradient of a kernel as a product of matrices for each cell of its window."""
    rows = y.reshape(-1, y.shape[-1])
    cells = window_slices(x, spec.window, spec.stride, spec.padding, 0.0, spec.dilation)
    product = functools.partial(_rows, "w", spec=Spec((), (), (), (), ()), choice=choice)
    made = [product(cell.reshape(-1, x.shape[-1]), rows) for cell in cells]
    return jax.numpy.stack(made).reshape(*spec.window, x.shape[-1], y.shape[-1])


def _blocks(ctx: Any, role: str, spec: Spec, choice: Choice) -> Blocks | None:
    """How the native convolution makes several pixels at once, if that is faster and oneDNN takes it."""
    batch, inputs, outputs = _sizes(ctx, role)
    made = blocks.in_blocks(role, spec, inputs, outputs)
    if made is None:
        return None
    channels = (outputs, inputs * made.pixels) if role == "x" else (inputs, outputs * made.pixels)
    direction = NAMES["w" if role == "w" else "y"]
    work = Work(direction, ctx.avals_in[0].dtype, batch, *channels, made.spec, pieces(choice))
    return None if loader.refuses(work) else made


def _blocked(role: str, left: Array, right: Array, *, spec: Spec, made: Blocks, choice: Choice) -> Array:
    form = {"y": blocks.forward, "x": blocks.to_input, "w": blocks.to_kernel}[role]
    return form(left, right, spec, made, functools.partial(_native, choice=choice))


def _native(role: str, left: Array, right: Array, spec: Spec, *, choice: Choice) -> Array:
    """The native call, inside of a function of JAX that is lowered."""
    call = jax.ffi.ffi_call(loader.target(f"conv_{NAMES[role]}"), _result(role, (left, right), spec))
    made: Array = call(left, right, **attributes(spec, choice))
    return made


def _rows(role: str, left: Array, right: Array, *, spec: Spec, choice: Choice) -> Array:
    """A product of matrices as a native convolution over rows, with a window of one."""
    arrays = dict(zip(OPERANDS[role], (left, right), strict=False))
    batch = (arrays["x"] if "x" in arrays else arrays["y"]).shape[0]
    line = _line(spec, batch, choice)
    count = batch // line.space[0]
    a, b = (a[None] if r == "w" else a.reshape(count, *line.space, -1) for r, a in arrays.items())
    made = _native(role, a, b, line, choice=choice)
    return made[0] if role == "w" else made.reshape(batch, -1)


def _line(spec: Spec, batch: int, choice: Choice) -> Spec:
    """The geometry of such a convolution: examples that are its pieces, if they are of one size."""
    count = pieces(choice)
    rows = batch // count if batch % count == 0 else batch
    return Spec((rows,), (1,), (1,), ((0, 0),), (1,), spec.groups)


def _result(role: str, operands: tuple[Array, Array], spec: Spec) -> jax.ShapeDtypeStruct:
    left, right = operands
    if role == "y":
        return jax.ShapeDtypeStruct((left.shape[0], *spec.out_space, right.shape[-1]), left.dtype)
    if role == "x":
        return jax.ShapeDtypeStruct((left.shape[0], *spec.space, right.shape[-2] * spec.groups), left.dtype)
    shape = (*spec.window, left.shape[-1] // spec.groups, right.shape[-1])
    return jax.ShapeDtypeStruct(shape, acc(left.dtype))


def attributes(spec: Spec, choice: Choice) -> dict[str, Any]:
    """What a native convolution is told beside its arrays."""
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
    if other := not_native(ctx, choice):
        return other
    batch, inputs, outputs = _sizes(ctx, role)
    if not spec.axes:
        spec = _line(spec, batch, choice)
        batch //= spec.space[0]
    dtype = ctx.avals_in[0].dtype
    if dtype == jax.numpy.bfloat16 and not loader.has_bfloat16():
        return "jax", "this processor has no units for bfloat16"
    why = loader.refuses(Work(NAMES[role], dtype, batch, inputs, outputs, spec, pieces(choice)))
    return ("jax", why) if why else ("onednn", "")


def _sizes(ctx: Any, role: str) -> tuple[int, int, int]:
    """Examples, and the channels of ``x`` and ``y``."""
    shapes = [aval.shape for aval in (*ctx.avals_in, *ctx.avals_out)]
    arrays = dict(zip(OPERANDS[role], shapes, strict=True))
    return arrays["x"][0], arrays["x"][-1], arrays["y"][-1]


def not_native(ctx: Any, choice: Choice, dtypes: Sequence[Any] = FLOATS) -> tuple[str, str] | None:
    """Which form an operation takes on a CPU if nothing can be native, and why, if that was wanted."""
    if choice.kernels in ("xla", "jax"):
        return choice.kernels, ""
    module = ctx.module_context
    if getattr(module.lowering_parameters, "for_export", False):
        return "xla", "an exported program holds nothing that is native to this machine"
    if getattr(module.axis_context, "num_devices", 1) > 1:
        return "xla", "jit over several devices leaves the partitioning to XLA; shard_map does not"
    shapes = [aval.shape for aval in (*ctx.avals_in, *ctx.avals_out)]
    if not all(isinstance(n, int) for shape in shapes for n in shape):
        return "xla", "a dimension is symbolic"
    if any(0 in shape for shape in shapes):
        return "xla", "an array is empty"
    dtype = ctx.avals_in[0].dtype
    if dtype not in dtypes:
        return "xla", f"{dtype} is none of {', '.join(np.dtype(native).name for native in dtypes)}"
    return None if loader.available() else ("jax", loader.reason())
