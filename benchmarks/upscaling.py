"""How fast `fnn upscale` enlarges a photograph, and in how much memory.

python -m benchmarks.upscaling [--model MODEL] [--megapixels 1]

The photograph is one that comes with scikit-learn, scaled, with noise, from a PNG to a PNG. Without a model
it is the one for scale 2 that comes with fnn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fnn.commands.enlarging import enlarger
from fnn.commands.picture_output import write_picture
from fnn.commands.tiles import in_tiles
from fnn.data.pictures import load_picture
from fnn.experiment.saved import read_saved
from fnn.pretrained import shipped

LAUNCH = """
import resource, subprocess, sys
command = [sys.executable, "-c", "from fnn.cli import main; main()", *sys.argv[1:]]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""A process has the peak of the one that started it, at least: this one is small."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, metavar="MODEL", help="a weights file or a run's folder")
    parser.add_argument("--megapixels", type=float, default=1.0, metavar="N", help="default: 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or shipped(2)
        for row in measure(model, draw(Path(folder) / "in.png", options.megapixels)):
            print(row, flush=True)


def draw(file: Path, megapixels: float) -> Path:
    """The same photograph every time, of 4 : 3."""
    from sklearn.datasets import load_sample_image

    height = round((1e6 * megapixels * 3 / 4) ** 0.5)
    size = (round(height * 4 / 3), height)
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    pixels = np.asarray(photograph.resize(size, Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).integers(-4, 5, pixels.shape)
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(file)
    return file


def measure(model: Path, picture: Path) -> list[str]:
    """The rows of a report."""
    target = picture.with_name("out.png")
    way = enlarger(read_saved(model), model)
    source = load_picture(picture)
    large = in_tiles(source, way.scale, way.enlarge, way.reach)
    works = {
        "reading": lambda: load_picture(picture),
        "enlarging": lambda: in_tiles(source, way.scale, way.enlarge, way.reach),
        "writing": lambda: write_picture(target, large),
    }
    parts = {name: least(work) for name, work in works.items()}
    parts["all"] = tuple(map(sum, zip(*parts.values(), strict=True)))
    rows = [f"{source.width} × {source.height} to {large.width} × {large.height}, compiled before:"]
    rows += [row(name, *seconds) for name, seconds in parts.items()]
    tiny = picture.with_name("tiny.png")
    source.resize((8, 8)).save(tiny)
    rows.append("the command, from start to end:")
    for name, file, kept in (
        ("a tiny one", tiny, False),
        ("the picture", picture, False),
        ("once more", picture, True),
    ):
        clock, processors, peak = command(model, file, target, kept)
        note = "what XLA compiled is there" if kept else "all is compiled"
        rows.append(f"{row(name, clock, processors)}, {peak / 2**20:.0f} MiB; {note}")
    return rows


def row(name: str, clock: float, processors: float) -> str:
    """Seconds of both kinds."""
    return f"  {name:12} {clock:5.2f} s by the clock, {processors:5.2f} s of processors"


def least(work: Callable[[], object], rounds: int = 3) -> tuple[float, float]:
    """Seconds by the clock, and of all processors; the least of a few rounds."""
    found = []
    for _ in range(rounds):
        clock, processors = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - clock, time.process_time() - processors))
    return tuple(map(min, zip(*found, strict=True)))


def command(model: Path, source: Path, target: Path, kept: bool) -> tuple[float, float, int]:
    """Seconds by the clock and of all processors, and the peak memory in bytes, of ``fnn upscale``.

    Args:
        model, source, target: What it is given.
        kept: Whether what XLA compiled is kept from another time.
    """
    arguments = ["upscale", str(source), str(target), "--run", str(model), "--overwrite"]
    environment = os.environ if kept else os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    for _ in range(1 + kept):
        begin = time.perf_counter()
        start = [sys.executable, "-c", LAUNCH, *arguments]
        done = subprocess.run(start, check=True, env=environment, stdout=subprocess.PIPE, text=True)
        clock = time.perf_counter() - begin
    processors, peak = done.stdout.split()
    return clock, float(processors), 1024 * int(peak)


if __name__ == "__main__":
    main()
