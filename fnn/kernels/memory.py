"""Freed memory is kept for the next step, where JAX runs on CPUs alone.

XLA asks for the memory of a step's inner values anew at each step, and glibc gives large pieces back to the
system when they are freed: then every page of them is fetched, and cleared, at every step. That costs a
network of convolutions a fifth to a half of its time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import metadata

import jax

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of malloc.h


def keep_freed_memory() -> str:
    """Tell glibc to keep freed memory, as ``MALLOC_MMAP_MAX_=0`` and its like in the environment would.

    Only once, when fnn is imported, and best before JAX has started its threads. ``FNN_KEEP_MEMORY=0``
    prevents it, and so does a setting of malloc in the environment. A process then keeps what it needed at
    its peak until it ends.

    Returns:
        What was done, for `fnn doctor`.
    """
    if os.environ.get("FNN_KEEP_MEMORY") == "0":
        return "given back to the system: FNN_KEEP_MEMORY is 0"
    own = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if own:
        return f"as {own[0]} says"
    if _accelerated():
        return "given back to the system, as JAX does not run on CPUs alone"
    mallopt = _mallopt()
    if mallopt is None:
        return "left to the system, whose C library is not glibc"
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 1 << 26), (_ARENA_MAX, 1)):
        mallopt(option, value)
    return "kept for the next step"


def _accelerated() -> bool:
    """Whether JAX may find an accelerator; it is not started to find out."""
    platforms = getattr(jax.config, "jax_platforms", None)
    if platforms:
        return not str(platforms).startswith("cpu")
    return bool(metadata.entry_points(group="jax_plugins"))


def _mallopt() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library.mallopt if hasattr(library, "gnu_get_libc_version") else None


kept = keep_freed_memory()
"""What was done when fnn was imported."""
