"""Which kernels are active here, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax

from fnn.kernels import lowering
from fnn.kernels.choice import requested
from fnn.kernels.native import build as native_build
from fnn.kernels.native import loader


@dataclass(frozen=True)
class Status:
    """What `status` finds.

    Attributes:
        active: ``onednn``, ``jax`` or ``xla``: what a convolution in float32 takes here.
        reason: Why.
        native: The file of the native part, or None.
        onednn: The version of oneDNN, or None.
        threads: Into how many pieces native work is cut.
    """

    active: str
    reason: str
    native: str | None
    onednn: str | None
    threads: int


def status() -> Status:
    """Which kernels are active here, and why.

    Raises:
        KernelError: ``FNN_KERNELS`` names no kernels.

    Example:
        >>> import fnn
        >>> fnn.kernels.status().active in ("onednn", "jax", "xla")
        True
    """
    choice, platform = requested(), jax.default_backend()
    native = loader.native() if platform == "cpu" else None
    if platform != "cpu":
        active, reason = "xla", f"XLA's own kernels on {platform}"
    elif choice.kernels in ("jax", "xla"):
        active, reason = choice.kernels, "asked for"
    else:
        active, reason = "onednn" if native else "jax", loader.reason()
    file, onednn = (str(native.file), native.onednn) if native else (None, None)
    return Status(active, reason, file, onednn, lowering.pieces(choice))


def fast_bfloat16() -> bool:
    """Whether bfloat16 is faster than float32 here: on accelerators, and with AVX512-BF16 or AMX.

    Example:
        >>> import fnn
        >>> fnn.kernels.fast_bfloat16() in (True, False)
        True
    """
    return jax.default_backend() != "cpu" or (status().active == "onednn" and loader.has_bfloat16())


def fallbacks() -> dict[str, str]:
    """Convolutions lowered for a CPU in this process that native kernels did not take, and why not."""
    return dict(lowering.fallbacks)


def build() -> Path:
    """Build the native part anew; processes that have not loaded it yet use it.

    Raises:
        BuildError: Something is missing, or the compiler refuses.
    """
    return native_build.build()
