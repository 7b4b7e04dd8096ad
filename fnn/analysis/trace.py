"""A profile that reads like the model."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_MARKS = ("ThreadpoolListener::", "end: ")
"""Events by which the tracer marks its own work."""


class TraceError(ValueError):
    """A folder for a trace cannot be used."""


def make_folder(folder: Path) -> None:
    """Make the folder of a trace, if it is not there.

    Raises:
        TraceError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TraceError(f"{folder}: cannot be made: {error.strerror}") from None


def trace(run: Callable[[], Any], folder: Path, program: Any) -> Path:
    """Profile a call of ``run``, which runs a compiled program, and name what it did after the layers.

    JAX's own trace of a CPU knows nothing but the names that XLA gave the operations it fused, such as
    ``broadcast_multiply_fusion.7``; here they are ``forward/conv1/conv_general_dilated`` and
    ``backward/conv1/...``. XLA's name stays in an event's arguments, as ``hlo_op``.

    Args:
        run: What is profiled; it should end when the device is done.
        folder: Where ``plugins/profile/<time>/`` is written, for TensorBoard.
        program: What ``jax.jit(...).lower(...).compile()`` gave.

    Returns:
        The file for https://ui.perfetto.dev, ``perfetto_trace.json.gz``.

    Raises:
        TraceError: The folder cannot be made.
    """
    make_folder(folder)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's calls would hide the model's
    with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
        run()
    file = max(folder.glob("plugins/profile/*/perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    with gzip.open(file, "rt", encoding="utf-8") as read:
        content = json.load(read)
    content["traceEvents"] = _named(content["traceEvents"], scopes(program.as_text()))
    with gzip.open(file, "wt", encoding="utf-8") as write:
        json.dump(content, write)
    return file


def _named(events: list[Any], names: dict[str, str]) -> list[Any]:
    kept = [event for event in events if not event.get("name", "").startswith(_MARKS)]
    for event in kept:
        scope = names.get(event.get("args", {}).get("hlo_op", ""))
        if scope is not None:
            event["name"] = readable(scope)
            event["args"]["op_name"] = scope
    return kept


def scopes(hlo: str) -> dict[str, str]:
    """The scope in which each instruction of a compiled program was traced.

    An instruction that XLA made by fusing others and gave no scope has that of the last one in it.

    Args:
        hlo: The program's text.

    Example:
        >>> scopes('''
        ... %fused.1 (p: f32[2]) -> f32[2] {
        ...   ROOT %add.3 = f32[2]{0} add(%p, %p), metadata={op_name="jit(f)/dense1/add"}
        ... }
        ... ENTRY %main (p: f32[2]) -> f32[2] {
        ...   ROOT %fusion.7 = f32[2]{0} fusion(%p), kind=kLoop, calls=%fused.1
        ... }
        ... ''')["fusion.7"]
        'jit(f)/dense1/add'
    """
    found: dict[str, str] = {}
    last: dict[str, str] = {}
    computation = ""
    for line in hlo.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            computation = head[1]
        if instruction := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = ", line):
            own = re.search(r'op_name="([^"]*)"', line)
            called = re.search(r"calls=%?([\w.-]+)", line)
            scope = own[1].replace("\\'", "'") if own else last.get(called[1]) if called else None
            if scope:
                found[instruction[1]] = last[computation] = scope
    return found


def readable(scope: str) -> str:
    """A scope of JAX's without its transformations, but which pass it belongs to.

    Example:
        >>> readable("jit(step)/jvp(conv1)/conv_general_dilated")
        'forward/conv1/conv_general_dilated'
        >>> readable("jit(step)/transpose(jvp(residual1))/body/conv2/mul")
        'backward/residual1/body/conv2/mul'
    """
    direction = "backward" if "transpose(" in scope else "forward" if "jvp(" in scope else ""
    parts = [re.sub(r"\w+\(|\)", "", part) for part in scope.split("/") if not part.startswith("jit(")]
    return "/".join(part for part in (direction, *parts) if part)
