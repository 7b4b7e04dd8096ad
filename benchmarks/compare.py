"""Training steps of fnn and its peers, side by side, in interleaved rounds of processes of their own.

python -m benchmarks.compare --jobs digits_mlp --peers haiku,linen --rounds 5

Needs the extra [peers]. The ratio is the peer's time over fnn's, round by round: above 1, fnn is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks.peers import JOBS, PEERS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", default=",".join(JOBS), help="comma-separated (default: all)")
    parser.add_argument("--peers", default=",".join(p for p in PEERS if p != "fnn"), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to a file, too")
    options = parser.parse_args()
    peers = ["fnn", *options.peers.split(",")]
    rows = [row for job in options.jobs.split(",") for row in compare(job, peers, options.rounds)]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "optax", "flax", "dm-haiku"))
    print(f"{os.cpu_count()} CPUs, {platform.processor() or platform.machine()}, {versions}")
    print(f"{'job':12} {'peer':8} {'ms/step':>9} {'spread':>17} {'ratio to fnn':>13}")
    for row in rows:
        low, high = row["spread"]
        ratio = row["ratio_to_fnn"]
        print(
            f"{row['job']:12} {row['peer']:8} {row['ms_per_step']:9.4f} {low:8.4f}-{high:.4f} {ratio:13.3f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def compare(job: str, peers: list[str], rounds: int) -> list[dict[str, object]]:
    """A row for each peer: median and spread over the rounds, and the median ratio to fnn, round by round."""
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            times[peer].append(_run(job, peer))
    return [
        {
            "job": job,
            "dtype": "float32",
            "mode": "dispatched",
            "peer": peer,
            "ms_per_step": statistics.median(values),
            "spread": [min(values), max(values)],
            "ratio_to_fnn": statistics.median(p / f for p, f in zip(values, times["fnn"], strict=True)),
        }
        for peer, values in times.items()
    ]


def _run(job: str, peer: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", job, peer], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["ms_per_step"])


if __name__ == "__main__":
    main()
