"""Builds the native part. Needs nothing but Python, so that ``setup.py`` can use it before fnn is there."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = HERE / "fnn_native.so"
SOURCES = ("channels.cc", "convolution.cc", "plan.cc", "pooling.cc", "threefry.cc")
SYSTEM = Path("/usr/include")
WHEELS = ("onednn-cpu-gomp", "onednn-devel-cpu-gomp")


class BuildError(ValueError):
    """The native part cannot be built; one line says what is missing."""


def supported() -> bool:
    """Whether this platform is one that the native part is for."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def build(output: Path = OUTPUT) -> Path:
    """Compile the native part.

    A compiler is taken from ``$CXX``, else ``c++``; oneDNN 3.2 or newer from ``$ONEDNN_ROOT``, else from its
    wheels, else from the system; XLA's headers from jaxlib.

    Args:
        output: The shared library; it is replaced at once, so that a running process keeps the old one.

    Raises:
        BuildError: Something is missing, or the compiler refuses.
    """
    if not supported():
        raise BuildError(f"the native part is for Linux on x86-64, not {sys.platform} {platform.machine()}")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise BuildError("no C++ compiler was found: install g++ 11 or newer, or set CXX")
    libraries = [str(file) for file in onednn_libraries()[:1]] or ["-ldnnl"]
    folders = [argument for folder in _headers() for argument in ("-isystem", str(folder))]
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        made = Path(scratch) / output.name
        flags = ["-std=c++20", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-fopenmp"]
        sources = [str(HERE / source) for source in SOURCES]
        command = [compiler, *flags, *folders, *sources, "-o", str(made), *libraries]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"{compiler} failed: {_first_error(done.stderr)}")
        os.replace(made, output)
    return output


def onednn_libraries() -> list[Path]:
    """oneDNN's shared libraries, the preferred first; empty: whatever the system has."""
    root = os.environ.get("ONEDNN_ROOT")
    if root is not None:
        files = [file for sub in ("lib", "lib64", ".") for file in (Path(root) / sub).glob("libdnnl.so.3*")]
    else:
        files = _of_wheels("libdnnl.so.3")
    return sorted(files, key=lambda file: len(file.name))


def _headers() -> list[Path]:
    jaxlib = importlib.util.find_spec("jaxlib")
    if jaxlib is None or not jaxlib.submodule_search_locations:
        raise BuildError("jaxlib was not found, whose headers are needed")
    xla = Path(jaxlib.submodule_search_locations[0]) / "include"
    root = os.environ.get("ONEDNN_ROOT")
    onednn = [Path(root) / "include"] if root else [file.parents[2] for file in _of_wheels("/dnnl/dnnl.hpp")]
    if not onednn and not (SYSTEM / "oneapi" / "dnnl" / "dnnl.hpp").exists():
        raise BuildError(
            "oneDNN's headers were not found: pip install onednn-devel-cpu-gomp, or set ONEDNN_ROOT"
        )
    return [xla, *onednn]


def _of_wheels(end: str) -> list[Path]:
    """Files of oneDNN's wheels whose path ends so."""
    found = []
    for wheel in WHEELS:
        try:
            files = metadata.distribution(wheel).files or []
        except metadata.PackageNotFoundError:
            continue
        found += [Path(str(file.locate())).resolve() for file in files if str(file).endswith(end)]
    return found


def _first_error(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()
    return lines[0].strip() if lines else "it said nothing"
