"""How fast `fnn upscale` enlarges a photograph, and in how much memory.

python -m benchmarks.upscaling [--model MODEL] [--megapixels 1]

The photograph is one that comes with scikit-learn, scaled, with noise, from a PNG to a PNG. Without a model
it is an ESPCN for scale 2 with drawn weights, which take as long as trained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fnn.commands.enlarging import enlarger
from fnn.commands.picture_output import write_picture
from fnn.commands.tiles import in_tiles
from fnn.data.pictures import load_picture
from fnn.experiment import build_model
from fnn.experiment.saved import read_saved
from fnn.training.weights import save_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, metavar="MODEL", help="a weights file or a run's folder")
    parser.add_argument("--megapixels", type=float, default=1.0, metavar="N", help="default: 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make_model(Path(folder) / "model.safetensors")
        for row in measure(model, draw(Path(folder) / "in.png", options.megapixels)):
            print(row, flush=True)


def make_model(file: Path) -> Path:
    """An ESPCN for luma and scale 2."""
    config = {"espcn": {"scale": 2}}
    params, state = build_model(config).init(jax.random.key(0), jnp.zeros((1, 17, 17, 1)))
    metadata = {
        "config": json.dumps({"model": config}),
        "input": "[17, 17, 1]",
        "normalize": '{"mean": [0.0], "std": [255.0]}',
        "scale": "2",
    }
    file.write_bytes(save_weights(params, state, metadata))
    return file


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
    parts = {
        "reading": least(lambda: load_picture(picture)),
        "enlarging": least(lambda: in_tiles(source, way.scale, way.enlarge, way.reach)),
        "writing": least(lambda: write_picture(target, large)),
    }
    sizes = " to ".join(f"{one.width} × {one.height}" for one in (source, large))
    rows = [f"{name:12} {seconds:.2f} s" for name, seconds in parts.items()]
    rows.append(f"{'all':12} {sum(parts.values()):.2f} s, {sizes}, compiled before")
    tiny = picture.with_name("tiny.png")
    source.resize((8, 8)).save(tiny)
    runs = {"a tiny one": (tiny, False), "the command": (picture, False), "again": (picture, True)}
    for name, (file, kept) in runs.items():
        seconds, peak = command(model, file, target, kept)
        note = "programs kept from before" if kept else "compiled anew"
        rows.append(f"{name:12} {seconds:.2f} s from start to end, {peak / 2**20:.0f} MiB, {note}")
    return rows


def least(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds by the clock, the least of a few rounds."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def command(model: Path, source: Path, target: Path, kept: bool) -> tuple[float, int]:
    """Seconds and peak memory in bytes of ``fnn upscale``; whether XLA's programs are kept from before."""
    start = "from fnn.cli import main; main()"
    arguments = [sys.executable, "-c", start, "upscale", str(source), str(target), "--run", str(model)]
    environment = os.environ if kept else os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    if kept:
        subprocess.run([*arguments, "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    begin = time.perf_counter()
    with subprocess.Popen([*arguments, "--overwrite"], env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - begin, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
