"""Mean and spread of a config's test figures over seeds, each run a process of its own.

python -m benchmarks.seeds configs/digits_cnn.yaml --seeds 5 [dotted.key=value ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (default: 5)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an override, for every run"
    )
    options = parser.parse_args()
    for config in options.configs:
        runs = [run(config, seed, options.set) for seed in range(options.seeds)]
        print(f"{config.stem}  ({len(runs)} seeds{''.join(', ' + text for text in options.set)})")
        for name in runs[0][0]:
            print(f"  {name:10} {spread([figures[name] for figures, _ in runs])}")
        print(f"  {'seconds':10} {spread([seconds for _, seconds in runs])}  (whole process)", flush=True)


def run(config: Path, seed: int, overrides: list[str]) -> tuple[dict[str, float], float]:
    """The test figures of one run and the seconds of its process, start-up and compilation included."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "train.py", str(config), f"seed={seed}", *overrides, "--out", out]
        begin = time.perf_counter()
        first_start = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
        subprocess.run(command, check=True, capture_output=True, env=first_start)
        seconds = time.perf_counter() - begin
        return json.loads((Path(out) / "summary.json").read_text())["test"], seconds


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (least to most)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}  ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
