"""One peer, one job, one dtype, one mode, timed in this process: prints a line of JSON.

python -m benchmarks.worker lenet torch --dtype bfloat16 --seconds 3

With ``--expect FILE`` nothing is timed unless the peer's logits agree with those in the file, which
``--save FILE`` writes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.jobs import DEVICES, DTYPES, JOBS, MODES, Run
from benchmarks.peers import PEERS, prepare

BOUNDS = {
    ("cpu", "float32"): 1e-4,
    ("gpu", "float32"): 5e-3,
    ("cpu", "bfloat16"): 0.05,
    ("gpu", "bfloat16"): 0.05,
}
"""The largest difference of logits that is agreement, as a share of the largest logit; on a GPU products of
float32 are made in TF32, which has 10 bits of mantissa, by all."""
PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}
BLOCK = 0.05
"""Seconds of a block of calls, which are dispatched without waiting: a tiny step is over before the next."""
WARM_UP, LEAST = 2, 3
"""Steps before the timing and, at the least, in it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    parser.add_argument("--mode", choices=MODES, default=MODES[0])
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="to time after the warm-up (default: 3)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the logits, time nothing")
    parser.add_argument("--expect", type=Path, metavar="FILE", help="logits that must agree")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = PLATFORMS[options.device]
    if kernels := PEERS[options.peer].kernels:
        os.environ["FNN_KERNELS"] = kernels
    run = prepare(options.peer, JOBS[options.job], options.dtype, options.mode, options.device)
    logits = run.logits()
    if options.save:
        np.save(options.save, logits)
        print(json.dumps({"saved": str(options.save)}))
        return
    if options.expect:
        error = difference(logits, np.load(options.expect))
        if not error <= BOUNDS[options.device, options.dtype]:
            print(json.dumps({"disagrees": error}))
            return
    print(json.dumps({"ms_per_step": measure(run, options.seconds)}))


def difference(logits: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest expected logit."""
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def measure(run: Run, seconds: float) -> float:
    """Milliseconds of a step: the median over blocks of calls, each block waited for."""
    run.call(max(1, WARM_UP // run.steps))
    first = _time(run, 1)
    calls = max(1, round(BLOCK / first))
    blocks = [first] if calls == 1 else []
    while len(blocks) * calls * run.steps < LEAST or sum(blocks) < seconds:
        blocks.append(_time(run, calls))
    return 1000 * statistics.median(blocks) / (calls * run.steps)


def _time(run: Run, calls: int) -> float:
    begin = time.perf_counter()
    run.call(calls)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
