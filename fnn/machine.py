"""How much memory there is: what no array of a run can be larger than."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax


def memory() -> int:
    """Bytes of the machine's memory, or of the container's where that has less; much where nobody says.

    Example:
        >>> from fnn.machine import memory
        >>> memory() > 2**20
        True
    """
    known = []
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        known += [int(limit)] if limit.isdecimal() else []
    except OSError:  # no container of this kind
        pass
    return min((n for n in known if n > 0), default=sys.maxsize)


def device_memory() -> int:
    """Bytes that the first device of JAX has; on a CPU those of the machine."""
    statistics = jax.devices()[0].memory_stats() or {}
    return int(statistics.get("bytes_limit", memory()))


def in_bytes(n: float) -> str:
    """A number of bytes for a message.

    Example:
        >>> from fnn.machine import in_bytes
        >>> in_bytes(1536), in_bytes(1000), in_bytes(25e9), in_bytes(4e30)
        ('1.5 KiB', '1000 B', '23.3 GiB', '3.5e+12 EiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if n < 1024:
            return f"{n:.3g} {unit}" if n < 999.5 else f"{n:.0f} {unit}"
        n /= 1024
    return f"{n:.2g} EiB"
