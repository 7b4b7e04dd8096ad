"""A measurement in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.jobs import Run
from benchmarks.worker import difference, measure


def worker(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_worker_times_only_what_agrees(tmp_path):
    file = tmp_path / "logits.npy"
    worker("digits_mlp", "fnn", "--save", file)
    common = ("digits_mlp", "fnn_xla", "--seconds", 0.01, "--expect", file)
    assert worker(*common, "--mode", "scanned")["ms_per_step"] > 0
    np.save(file, np.load(file) + 1)
    assert list(worker(*common)) == ["disagrees"]


def test_difference_is_a_share_of_the_largest():
    assert difference(np.array([1.0, 3.0]), np.array([1.0, 4.0])) == 0.25


def test_not_a_number_is_no_agreement():
    assert np.isnan(difference(np.array([np.nan]), np.array([1.0])))


@pytest.mark.parametrize(
    ("call_seconds", "steps", "calls"),
    [(1.0, 1, [2, 1, 1, 1]), (1.0, 4, [1, 1]), (0.001, 1, [2, 1, 50]), (0.001, 4, [1, 1, 50])],
)
def test_short_calls_are_timed_in_blocks(monkeypatch, call_seconds, steps, calls):
    clock = [0.0]
    made = []

    def call(n):
        made.append(n)
        clock[0] += n * call_seconds

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    milliseconds = measure(Run(logits=lambda: None, call=call, steps=steps), seconds=0.0)
    assert milliseconds == pytest.approx(1000 * call_seconds / steps)
    assert made == calls
