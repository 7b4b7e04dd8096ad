"""The rows of a comparison, their ratios, and the table."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TypedDict

from benchmarks.peers import PEERS

HEADS = ("peer", "ms/step", "spread", "ratio to fnn", "")
WIDTHS = (14, 11, 22, 14)


class Row(TypedDict):
    """One peer in one setting; where there is no figure, the note says why."""

    job: str
    dtype: str
    mode: str
    peer: str
    ms_per_step: float | None
    spread: tuple[float, float] | None
    ratio_to_fnn: float | None
    note: str


def make_row(
    setting: tuple[str, str, str], peer: str, times: Mapping[str, Sequence[float]], note: str = ""
) -> Row:
    """Median and range over the rounds, and the median of the ratios to fnn, round by round.

    Args:
        setting: Job, dtype and mode.
        peer: Whose row it is.
        times: Milliseconds of a step by peer, one a round.
        note: Why there is no figure.
    """
    job, dtype, mode = setting
    middle = spread = ratio = None
    own, fnns = times.get(peer, ()), times.get("fnn", ())
    if own and not note:
        middle, spread = statistics.median(own), (min(own), max(own))
        if len(fnns) == len(own):
            ratio = statistics.median(a / b for a, b in zip(own, fnns, strict=True))
    return Row(
        job=job,
        dtype=dtype,
        mode=mode,
        peer=peer,
        ms_per_step=middle,
        spread=spread,
        ratio_to_fnn=ratio,
        note=note,
    )


def table(rows: Iterable[Row]) -> str:
    """The rows below a head line for each setting."""
    lines = []
    for setting, group in _by_setting(rows):
        lines += ["", "  ".join(setting)]
        lines += ["  " + _aligned(cells) for cells in (HEADS, *map(_cells, group, _marks(group)))]
    return "\n".join(lines[1:])


def markdown(rows: Iterable[Row]) -> str:
    """The rows as one Markdown table."""
    lines = [("job", "dtype", "mode", *HEADS), ("---",) * 3 + ("---", "---:", "---:", "---:", "---")]
    for setting, group in _by_setting(rows):
        lines += [(*setting, *cells) for cells in map(_cells, group, _marks(group))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(peers: Iterable[str], device: str = "cpu") -> str:
    """Processor or GPU, cores and the versions of everything that was measured."""
    names = dict.fromkeys(["fnn", "jax", "jaxlib", "optax", *(PEERS[peer].package for peer in peers)])
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    gpu = f"{graphics_card()}, " if device == "gpu" else ""
    return f"{gpu}{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}\n{versions}"


def graphics_card() -> str:
    """The names of the machine's NVIDIA GPUs."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    return ", ".join(listing.stdout.splitlines())


def processor() -> str:
    """The processor's name."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _by_setting(rows: Iterable[Row]) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
    for setting, group in groupby(rows, lambda row: (row["job"], row["dtype"], row["mode"])):
        yield setting, list(group)


def _marks(group: Sequence[Row]) -> list[str]:
    """What stands behind each row: its note, or that it is the best of its kind."""
    best: dict[str, tuple[float, str]] = {}
    for row in group:
        kind = PEERS[row["peer"]].kind
        if row["ms_per_step"] is not None and kind != "fnn":
            best[kind] = min(best.get(kind, (float("inf"), "")), (row["ms_per_step"], row["peer"]))
    marks = {peer: f"best {kind} peer" for kind, (_, peer) in best.items()}
    return [row["note"] or marks.get(row["peer"], "") for row in group]


def _cells(row: Row, mark: str) -> tuple[str, ...]:
    figures = ["", "", ""]
    if row["ms_per_step"] is not None and row["spread"] is not None:
        figures = [_short(row["ms_per_step"]), " – ".join(map(_short, row["spread"])), ""]
    if row["ratio_to_fnn"] is not None:
        figures[2] = f"{row['ratio_to_fnn']:.2f}"
    return (row["peer"], *figures, mark)


def _short(value: float) -> str:
    """Four significant digits."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(value)))}f}"


def _aligned(cells: Sequence[str]) -> str:
    name, *figures, mark = cells
    if not any(figures):
        return f"{name:{WIDTHS[0]}}  {mark}"
    columns = [f"{text:>{width}}" for text, width in zip(figures, WIDTHS[1:], strict=True)]
    return f"{name:{WIDTHS[0]}}{''.join(columns)}  {mark}".rstrip()
