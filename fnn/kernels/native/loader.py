"""Loads the native part, if it was built, and checks it once."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.kernels import xla
from fnn.kernels.native.build import OUTPUT, onednn_libraries
from fnn.kernels.spec import Spec

_ROLES = ("forward", "input", "kernel")
_CONVOLUTIONS = tuple(f"conv_{role}" for role in _ROLES)
_CHANNELS = ("channel_moments", "channel_sums", "channel_total")
_TARGETS = (*_CONVOLUTIONS, "conv_packed", "pool_pick", "pool_place", *_CHANNELS, "threefry")
_PLATFORM = "cpu"


class Native(NamedTuple):
    """The loaded native part.

    Attributes:
        file: Its shared library.
        onednn: The version of oneDNN.
        functions: The shared library.
    """

    file: Path
    onednn: str
    functions: ctypes.CDLL


def target(primitive: str) -> str:
    """The name under which XLA knows a kernel; with a version, as compiled programs are cached by it."""
    return f"fnn_{primitive}_v1"


@functools.cache
def _load() -> Native | str:
    """The native part, or why it cannot be had."""
    if not OUTPUT.exists():
        return "the native part was not built: fnn doctor --build"
    try:
        for file in onednn_libraries():  # where the loader would not look
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(file))
                break
        functions = ctypes.CDLL(str(OUTPUT))
        version = functions.fnn_onednn_version()
        _ = (
            functions.fnn_bfloat16,
            functions.fnn_conv_plan,
            functions.fnn_conv_pack,
        )  # an older build lacks some
        for name in map(target, _TARGETS):
            handler = jax.ffi.pycapsule(getattr(functions, name))
            jax.ffi.register_ffi_target(name, handler, platform=_PLATFORM)
    except (OSError, AttributeError) as error:
        return f"the native part cannot be loaded: {error}"
    native = Native(OUTPUT, f"{version // 1000}.{version % 1000}", functions)
    return _wrong() or native


def _wrong() -> str:
    """Compare the three directions with XLA's on a small case; what is wrong with them, or nothing."""
    spec = Spec((5, 4), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2), 2)
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(shape, np.float32) for shape in ((3, 5, 4, 4), (3, 2, 2, 6)))
    attributes = {
        "stride": np.array(spec.stride),
        "before": np.array([1, 0]),
        "after": np.array([1, 1]),
        "dilation": np.array(spec.dilation),
        "groups": np.int64(2),
        "pieces": np.int64(2),
    }

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        y = xla.forward(x, kernel, spec)
        results, operands = (y, x, kernel), ((x, kernel), (y, kernel), (x, y))
        wanted = (y, xla.to_input(y, kernel, spec), xla.to_kernel(x, y, spec))
        targets = zip(_CONVOLUTIONS, results, strict=True)
        calls = [jax.ffi.ffi_call(target(name), like) for name, like in targets]
        return [(call(*ab, **attributes), w) for call, ab, w in zip(calls, operands, wanted, strict=True)]

    try:
        with jax.default_device(jax.devices(_PLATFORM)[0]), jax.ensure_compile_time_eval():
            pairs = both(x, kernel)
            good = all(np.allclose(got, wanted, rtol=1e-4, atol=1e-4) for got, wanted in pairs)
    except (RuntimeError, ValueError) as error:
        return f"the native part failed its check: {error}"
    return "" if good else "the native part failed its check: other values than XLA's"


def available() -> bool:
    """Whether the native part can be used here."""
    return isinstance(_load(), Native)


def reason() -> str:
    """Why the native part cannot be used, or what it is."""
    found = _load()
    return found if isinstance(found, str) else f"oneDNN {found.onednn}, checked against XLA"


def native() -> Native | None:
    """The native part, if it can be used here."""
    found = _load()
    return found if isinstance(found, Native) else None


@dataclass(frozen=True)
class Work:
    """A convolution, as the native part is asked about it.

    Attributes:
        role: ``forward``, ``input`` or ``kernel``.
        dtype: Of ``x`` and ``y``.
        batch, inputs, outputs: Examples and channels.
        spec: Its geometry, of one spatial axis or more.
        pieces: Into how many the work is cut.
    """

    role: str
    dtype: np.dtype
    batch: int
    inputs: int
    outputs: int
    spec: Spec
    pieces: int

    def numbers(self) -> np.ndarray:
        """All of it in the order of the C functions."""
        spec = self.spec
        before, after = zip(*spec.padding, strict=True)
        lists = (spec.space, spec.out_space, spec.window, spec.stride, before, after, spec.dilation)
        head = (_ROLES.index(self.role), self.dtype != np.float32, self.pieces)
        sizes = (self.batch, self.inputs, self.outputs, spec.groups)
        return np.array([*head, *sizes, *(n for numbers in lists for n in numbers)], np.int64)


def has_bfloat16() -> bool:
    """Whether the native part can be used and this processor computes in bfloat16."""
    found = native()
    return found is not None and bool(found.functions.fnn_bfloat16())


def refuses(work: Work) -> str:
    """Why oneDNN does not take a convolution, or nothing if it does."""
    found = native()
    if found is None:
        return reason()
    text = ctypes.create_string_buffer(256)
    axes, size = ctypes.c_int64(work.spec.axes), ctypes.c_int64(256)
    failed = found.functions.fnn_conv_plan(_pointer(work.numbers()), axes, text, size)
    return text.value.decode() if failed else ""


def pack(work: Work, kernel: np.ndarray) -> np.ndarray | None:
    """A float32 kernel as oneDNN wants it for a forward convolution, in bytes; None: it cannot be had."""
    found = native()
    if found is None or refuses(work):
        return None
    numbers, axes = work.numbers(), ctypes.c_int64(work.spec.axes)
    function = found.functions.fnn_conv_pack
    function.restype = ctypes.c_int64
    packed = np.empty(function(_pointer(numbers), axes, None, None), np.uint8)
    kernel = np.ascontiguousarray(kernel, np.float32)
    done = function(_pointer(numbers), axes, _address(kernel), _address(packed))
    return packed if done else None


def _pointer(numbers: np.ndarray) -> Any:
    return numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))


def _address(array: np.ndarray) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
