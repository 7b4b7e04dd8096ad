"""What this machine offers to fnn, and what would make it faster."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from fnn import kernels
from fnn.commands.console import rows
from fnn.commands.surroundings import processor, versions
from fnn.data import data_roots

_INSTRUCTIONS = {"AVX2": "avx2", "AVX-512": "avx512f", "AVX512_BF16": "avx512_bf16", "AMX": "amx_tile"}
"""The sets of instructions that decide the speed, and the processor's flag for each."""


@dataclass(frozen=True)
class Report:
    """What `examine` found; its text is a row for each.

    Attributes:
        findings: By label: a text, several, or some by name.
        advice: What to do for more speed, a line each.
        built: The native part that was built now, or None.
        error: Why it could not be built, or None.
    """

    findings: dict[str, str | list[str] | dict[str, str]]
    advice: list[str]
    built: str | None = None
    error: str | None = None

    def __str__(self) -> str:
        table = [(label, _text(finding)) for label, finding in self.findings.items()]
        table += [("built", self.built)] if self.built is not None else []
        return rows([*table, *(("advice", line) for line in self.advice)])


def examine(build: bool = False) -> Report:
    """Look at the machine. Where something cannot be found out, its line says so and why.

    Args:
        build: Build the native part first.

    Example:
        >>> print(examine().findings["versions"]["fnn"])
        0.1.0
    """
    built = error = None
    if build:
        try:
            built = str(kernels.build())
        except kernels.BuildError as failure:
            error = str(failure)
    findings = {label: _attempt(find) for label, find in _FINDINGS.items()}
    advice = [line for find in (_kernel_advice, _device_advice) if (line := _attempt(find))]
    return Report(findings, advice, built, error)


def _attempt(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except Exception as error:  # whatever is broken, the other lines are worth reading
        return f"unknown: {type(error).__name__} {' '.join(str(error).split())}".rstrip()


def _text(finding: str | list[str] | dict[str, str]) -> str:
    if isinstance(finding, dict):
        return ", ".join(f"{name} {text}" for name, text in finding.items())
    return finding if isinstance(finding, str) else "\n".join(finding)


def _instructions() -> str:
    flags = processor()[1]
    found = [name for name, flag in _INSTRUCTIONS.items() if flag in flags]
    missing = [name for name in _INSTRUCTIONS if name not in found]
    if not found:
        return f"none of {', '.join(missing)}" if flags else "unknown: the system does not list them"
    return ", ".join(found) + (f"; no {', '.join(missing)}" if missing else "")


def _devices() -> str:
    return ", ".join(f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices())


def _kernels() -> str:
    status = kernels.status()
    return f"{status.active}: {status.reason}"


def _threads() -> str:
    status, cpus = kernels.status(), f"{kernels.processors()} of {os.cpu_count()} CPUs may be used"
    return cpus if status.native is None else f"{cpus}, native work is cut into {status.threads} pieces"


def _data() -> list[str]:
    """Each folder that is searched, and the folders in it: a set lies in one of its own name."""
    found = []
    for root in data_roots():
        sets = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        found.append(
            f"{root.absolute()}: {', '.join(sets) or 'no sets' if root.is_dir() else 'no such folder'}"
        )
    return found


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "c++"))


_FINDINGS: dict[str, Callable[[], Any]] = {
    "system": lambda: f"{platform.system()} {platform.release()}, {platform.machine()}",
    "processor": lambda: processor()[0],
    "instructions": _instructions,
    "threads": _threads,
    "versions": lambda: {**versions(), "oneDNN": kernels.status().onednn or "none"},
    "devices": _devices,
    "JAX_PLATFORMS": lambda: os.environ.get("JAX_PLATFORMS") or "not set",
    "kernels": _kernels,
    "native part": lambda: kernels.status().native or "none",
    "freed memory": lambda: kernels.freed_memory,
    "compiler": lambda: _compiler() or "none",
    "data": _data,
}


def _kernel_advice() -> str | None:
    if kernels.status().active == "onednn" or _backend() != "cpu":
        return None
    wish = os.environ.get("FNN_KERNELS", "auto")
    if wish != "auto":
        return f"FNN_KERNELS={wish} decides; unset it for the fastest kernels that there are"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return None
    first = "" if _compiler() else "install a C++ compiler (g++ 11 or newer), or set CXX; then "
    return f"{first}run fnn doctor --build for the fast kernels"


def _device_advice() -> str | None:
    wish, found = os.environ.get("JAX_PLATFORMS"), _backend()
    if found is None and wish:
        return f"JAX cannot use JAX_PLATFORMS={wish}: unset it, or install what it needs"
    if found == "cpu" and not wish and shutil.which("nvidia-smi"):
        return "the NVIDIA GPU is not used: pip install 'jax[cuda13]', or 'jax[cuda12]' with an older driver"
    return None


def _backend() -> str | None:
    """The platform that JAX computes on; None: it finds none."""
    try:
        return jax.default_backend()
    except Exception:  # of various kinds
        return None
