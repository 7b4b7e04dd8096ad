"""How fast `fnn predict` goes through a folder of photographs, and where the time goes.

python -m benchmarks.predicting MODEL.safetensors [--pictures 1000]

The photographs are crops of two that come with scikit-learn, with noise, as JPEGs of 500 × 375. Milliseconds
are of all processors together, and depend little on what else the machine does; pictures/s are by the clock.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fnn import kernels
from fnn.commands.predict import classifier, find_pictures, predict
from fnn.data.pictures import read_picture
from fnn.experiment.saved import read_saved

SIZE = (500, 375)
SAMPLE = 64
"""Pictures whose parts are timed one by one."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a weights file or a run's folder")
    parser.add_argument("--pictures", type=int, default=1000, metavar="N", help="default: 1000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.pictures)
        for row in measure(options.model, Path(folder)):
            print(row, flush=True)


def make(folder: Path, n: int) -> None:
    """Write so many photographs, the same ones every time."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for i in range(n):
        whole = photographs[i % len(photographs)]
        height = int(whole.height * rng.uniform(0.6, 0.95))
        width = height * SIZE[0] // SIZE[1]
        left, top = rng.integers(whole.width - width), rng.integers(whole.height - height)
        part = whole.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        noisy = np.asarray(part, np.int16) + rng.integers(-8, 9, (*SIZE[::-1], 1))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{i:05}.jpg", quality=90)


def measure(model: Path, folder: Path) -> list[str]:
    """The rows of a report."""
    files = find_pictures([folder])
    saved = read_saved(model)
    way, classify = saved.preprocessing, classifier(saved)
    assert way is not None
    some = files[:SAMPLE]
    decoded = [read_picture(file, way.channels) for file in some]
    batch = np.stack([way.prepare(picture) for picture in decoded])[:32]
    classify(batch)
    parts = {
        "decoding": used(lambda: [read_picture(file, way.channels) for file in some]) / len(some),
        "scaling": used(lambda: [way.prepare(picture) for picture in decoded]) / len(some),
        "the model": used(lambda: classify(batch)) / len(batch),
    }
    begin = time.perf_counter()
    busy = used(lambda: list(predict(model, files)), rounds=1)
    seconds = time.perf_counter() - begin
    rows = [f"{name:12} {1e3 * value:.1f} ms a picture" for name, value in parts.items()]
    rows.append(f"{'all':12} {1e3 * busy / len(files):.1f} ms a picture on {kernels.processors()} processors")
    rows.append(f"{'in a process':12} {len(files) / seconds:.1f} pictures/s, compilation included")
    command = [sys.executable, "-c", "from fnn.cli import main; main()", "predict", str(model), str(folder)]
    begin = time.perf_counter()
    subprocess.run([*command, "--csv"], check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    return [
        *rows,
        f"{'the command':12} {len(files) / seconds:.1f} pictures/s, start-up included ({seconds:.1f} s)",
    ]


def used(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of processor time, the least of a few rounds."""
    least = float("inf")
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_SELF)
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


if __name__ == "__main__":
    main()
