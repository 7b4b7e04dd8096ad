"""What it takes to train on small picture files, in memory and read ahead of the step.

python -m benchmarks.reading --pictures 60000 --side 32

Writes JPEG files of noise into a folder that is removed afterwards, and trains LeNet on them, 128 a batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from PIL import Image

import fnn
from fnn.data import Dataset, image_folder
from fnn.training import Recipe, initial_state
from fnn.training.feed import Feed, Plan, make_feed

CLASSES = 10
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=60_000, metavar="N", help="files (default: 60,000)")
    parser.add_argument("--side", type=int, default=32, metavar="PIXELS", help="of a picture (default: 32)")
    parser.add_argument("--size", type=int, default=32, metavar="PIXELS", help="of an input (default: 32)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="that are timed (default: 100)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.pictures, options.side)
        for stream in (False, True):
            print(f"{'on disk' if stream else 'in memory'}: {measure(folder, options, stream)}", flush=True)


def write(folder: Path, count: int, side: int) -> None:
    """Pictures of smooth noise, about as large as photographs of their side are."""
    rng = np.random.default_rng(0)
    coarse = max(1, side // 4)
    for label in range(CLASSES):
        (folder / str(label)).mkdir()
    for i in range(count):
        pixels = rng.integers(0, 256, (coarse, coarse, 3), np.uint8)
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / str(i % CLASSES) / f"{i:06}.jpg", quality=90)


def measure(folder: str, options: argparse.Namespace, stream: bool) -> str:
    """The seconds until the first step is done, compilation apart, and what the steps after it wait for."""
    begin, busy = time.perf_counter(), time.process_time()
    data = image_folder(folder, size=options.size, stream=stream)
    normalize = fnn.data.fit_normalizer(data.train.inputs)
    read, read_busy = time.perf_counter() - begin, time.process_time() - busy
    feed, state = prepare(data, normalize, options.steps)
    begin = time.perf_counter()
    state, _ = feed.advance(state, 0, 1)
    first = read + time.perf_counter() - begin
    waiting = Waiting(getattr(feed, "reading", iter(())))
    feed.reading = waiting  # type: ignore[attr-defined]
    begin, busy = time.perf_counter(), time.process_time()
    feed.advance(state, 1, options.steps)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    feed.close()
    each, each_busy = (1000 * s / options.steps for s in (seconds, busy))
    start = f"first step after {first:.1f} s ({read_busy:.1f} s of CPU)"
    share = f"{100 * waiting.seconds / seconds:.0f} % of the time waiting for data"
    return f"{start}, then {each:.1f} ms a step ({each_busy:.1f} ms of CPU), {share}"


def prepare(data: Dataset, normalize: Any, steps: int) -> tuple[Feed, Any]:
    """LeNet and what feeds it, compiled."""
    recipe = Recipe(
        model=fnn.models.lenet(CLASSES),
        optimizer=optax.with_extra_args_support(optax.adam(1e-3)),
        loss=fnn.losses.cross_entropy,
        penalty=lambda params: 0.0,
        metrics={},
        normalize=normalize,
    )
    example = jax.ShapeDtypeStruct((BATCH, *data.train.inputs.shape[1:]), np.uint8)
    state = initial_state(recipe, jax.random.key(0), example)
    plan = Plan(0, len(data.train), BATCH, epochs=1 + (steps + 1) * BATCH // len(data.train))
    return make_feed(recipe, state, data.train, jax.random.key(1), plan, "step", plan.epochs), state


class Waiting:
    """Adds up the seconds in which the next batch was waited for."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __next__(self) -> Any:
        begin = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            self.seconds += time.perf_counter() - begin

    def close(self) -> None:
        self.batches.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
