"""fnn and its peers side by side: interleaved rounds, every measurement in a process of its own.

python -m benchmarks.compare --jobs lenet,resnet18 --peers linen,torch --json rows.json

Needs the extra [peers]. The ratio is the peer's time over fnn's, round by round, the median: above 1, fnn is
faster. A peer whose logits differ from fnn's, with the same weights and inputs, is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.jobs import DEVICES, DTYPES, JOBS, MODES
from benchmarks.peers import PEERS, modes
from benchmarks.table import Row, machine, make_row, markdown, table
from fnn.kernels import CHOICES
from fnn.trees import near


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.list:
        print(f"jobs: {', '.join(JOBS)}\npeers: {', '.join(PEERS)}")
        return
    jobs = _choose("job", options.jobs, JOBS)
    dtypes, chosen_modes = _choose("dtype", options.dtypes, DTYPES), _choose("mode", options.modes, MODES)
    peers = _choose("peer", ",".join(dict.fromkeys(["fnn", *options.peers.split(",")])), PEERS)
    _need(peers)
    if options.kernels:
        os.environ["FNN_KERNELS"] = options.kernels
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs:
            expected = Path(folder) / f"{job}.npy"
            try:
                _run(["--save", str(expected), "--device", options.device, job, "fnn"])
            except NotMeasuredError as why:
                _stop(f"fnn itself has no logits for {job}: {why}")
            for setting in [(job, d, m) for d in dtypes for m in chosen_modes if m in JOBS[job].modes]:
                rows += compare(setting, peers, expected, options)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=2) + "\n")
    print((markdown if options.markdown else table)(rows), machine(peers, options.device), sep="\n\n")


def compare(
    setting: tuple[str, str, str], peers: Iterable[str], expected: Path, options: argparse.Namespace
) -> list[Row]:
    """A row for each peer; one that could not be measured in a round is not tried in the next.

    Args:
        setting: Job, dtype and mode.
        peers: Their names; those without the mode are left out.
        expected: The file of the logits that all must have.
        options: Of the command line: rounds, seconds, limit.
    """
    job, dtype, mode = setting
    peers = [peer for peer in peers if mode in modes(peer, JOBS[job])]
    common = ["--dtype", dtype, "--mode", mode, "--device", options.device]
    common += ["--seconds", str(options.seconds), "--expect", str(expected)]
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    notes: dict[str, str] = {}
    for n in range(options.rounds):
        for peer in peers:
            if peer in notes:
                continue
            _progress(f"{job} {dtype} {mode}, round {n + 1} of {options.rounds}: {peer}")
            try:
                times[peer].append(_run([*common, job, peer], options.limit)["ms_per_step"])
            except NotMeasuredError as why:
                notes[peer] = str(why)
    _progress("")
    return [make_row(setting, peer, times, notes.get(peer, "")) for peer in peers]


class NotMeasuredError(Exception):
    """A peer was not measured; the text says why."""


def _run(arguments: list[str], limit: float | None = None) -> dict[str, Any]:
    """What a worker prints. It is stopped, with its own children, after ``limit`` seconds."""
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as worker:
        try:
            out, err = worker.communicate(timeout=limit)
        except BaseException as error:
            os.killpg(worker.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NotMeasuredError(f"> {limit:g} s") from None
            raise
    if worker.returncode:
        raise NotMeasuredError(f"failed: {(err.strip().splitlines() or ['without a word'])[-1][:75]}")
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    if "disagrees" in answer:
        raise NotMeasuredError(f"logits differ by {answer['disagrees']:.2g} of the largest")
    return answer


def _choose(what: str, text: str, known: Iterable[str]) -> list[str]:
    """The names in a comma-separated text."""
    names = text.split(",")
    for name in names:
        if name not in known:
            _stop(f"unknown {what} {name!r}; nearest: {near(name, known, most=1)}")
    return names


def _need(peers: Iterable[str]) -> None:
    for peer in peers:
        try:
            metadata.version(PEERS[peer].package)
        except metadata.PackageNotFoundError:
            _stop(f"the peer {peer} needs {PEERS[peer].package}: pip install 'fnn[peers]'")


def _stop(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(2)


def _progress(text: str) -> None:
    """One line that is written over, on a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--jobs", default=",".join(JOBS), help="comma-separated (default: all)")
    add("--peers", default=",".join(PEERS), help="comma-separated (default: all); fnn is always among them")
    add("--dtypes", default=",".join(DTYPES), help="comma-separated (default: both)")
    add("--modes", default=",".join(MODES), help="comma-separated (default: both)")
    add("--device", choices=DEVICES, default=DEVICES[0], help="for all alike (default: cpu)")
    add("--rounds", type=int, default=3, help="in each, every peer is measured once (default: 3)")
    add("--seconds", type=float, default=3.0, help="timed in a measurement, after its warm-up (default: 3)")
    add("--limit", type=float, default=300.0, help="seconds that its whole process may take (default: 300)")
    add("--kernels", choices=CHOICES, help="what the peer fnn takes (default: as the environment says)")
    add("--json", type=Path, metavar="FILE", help="write the rows to a file, too")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--list", action="store_true", help="print the names of jobs and peers")
    return parser


if __name__ == "__main__":
    main()
