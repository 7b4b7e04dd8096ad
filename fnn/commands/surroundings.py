"""With what a command runs, and on what: versions, device, processor."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jax

from fnn import kernels
from fnn.version import __version__

PACKAGES = ("jax", "jaxlib", "optax", "numpy")


def surroundings() -> dict[str, Any]:
    """``versions`` and ``device``, as a run's summary says them."""
    device = jax.devices()[0]
    return {
        "versions": {**versions(), "git": _git()},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cpus": kernels.processors(),
            "machine": platform.machine(),
        },
    }


def versions() -> dict[str, str]:
    """Of fnn, of Python and of the packages that a result depends on; what is missing is ``missing``."""
    found = {"fnn": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def processor(file: Path = Path("/proc/cpuinfo")) -> tuple[str, frozenset[str]]:
    """The CPU's model and flags in the file; without it, what Python knows and no flags."""
    model, flags = platform.processor() or platform.machine(), frozenset[str]()
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name == "model name":
                model = value
            elif name in ("flags", "Features"):
                flags = frozenset(value.split())
    return model, flags


def process_age() -> float | None:
    """Seconds since this process was started, to a hundredth; None where the system does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # no Linux
        return None


def peak_memory() -> tuple[float | None, Literal["process", "device"]]:
    """The most MiB in use so far: of the device where it counts them, else of the process, where known."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return statistics["peak_bytes_in_use"] / 2**20, "device"
    try:
        import resource
    except ImportError:  # no Unix
        return None, "process"
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "process"


def _git() -> dict[str, Any] | None:
    """The revision of the checkout that fnn comes from, and whether it is clean; None outside of one."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return None
    try:
        revision = subprocess.run(
            ["git", "-C", top, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        )
        changes = subprocess.run(
            ["git", "-C", top, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": revision.stdout.strip(), "clean": not changes.stdout.strip()}
