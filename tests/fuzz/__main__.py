"""``python -m tests.fuzz --examples 10000``: mutated configs and overrides, each a run or a clear error."""

from __future__ import annotations

import argparse
import faulthandler
import resource
import sys
from pathlib import Path

from tests.fuzz.campaign import Report, campaign

MEMORY = 12 << 30
"""Bytes of address space beyond what JAX takes at its start: so too much is an error, and no dead machine."""


shown: set[str] = set()
"""Signatures of the failures that were printed."""


def main() -> int:
    """The command; 1 if a config failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--train-every", type=int, default=50, help="train one right one in so many for real; 0: none"
    )
    parser.add_argument("--messages", type=Path, help="write a sample of the clear errors there")
    options = parser.parse_args()
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, resource.RLIM_INFINITY))
    report = campaign(options.examples, options.seed, options.train_every, on_batch=progress)
    if options.messages:
        lines = "\n".join(sorted(report.messages.values())) + "\n"
        options.messages.write_text(lines, "utf-8", "backslashreplace")
    print(f"\n{summary(report)}")
    return 1 if report.failures else 0


def progress(report: Report) -> None:
    """A line on standard error; a new failure at once."""
    for signature, details in report.failures.items():
        if signature not in shown:
            print(f"\n======== {signature}\n{details}", flush=True)
    shown.update(report.failures)
    print(summary(report), file=sys.stderr, flush=True)


def summary(report: Report) -> str:
    """How many ended how."""
    names = {
        "traced": "traced up to the training step",
        "ran": "trained",
        "diverged": "diverged, exit code 1",
        "refused": "refused with a clear error, exit code 2",
        "failed": "failed",
    }
    parts = [f"{report.counts[kind]:,} {name}" for kind, name in names.items()]
    return f"{report.examples:,} examples in {report.seconds:.0f} s: {', '.join(parts)}"


def _address_space() -> int:
    import jax

    jax.devices()
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
