"""fnn.commands.timing: how many steps are timed, in what pieces, and what is made of the clock."""

from __future__ import annotations

import pytest

from fnn.commands import timing
from fnn.commands.timing import matrix_peak, time_steps


@pytest.fixture
def machine(monkeypatch):
    """A clock that only the steps move, by so many seconds each, and the calls that were made."""

    class Machine:
        now, each, calls = 0.0, 0.01, ()

        def run(self, carry, n):
            self.now += n * self.each
            self.calls += (n,)
            return carry + n

    machine = Machine()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: machine.now)
    return machine


@pytest.mark.parametrize("steps", [1, 3, 5, 7, 100, 1000])
def test_as_many_steps_are_timed_as_were_asked_for(machine, steps):
    found, carry = time_steps(machine.run, 0, steps)
    timed = machine.calls[-len(found.samples_ms) :]
    assert sum(timed) == found.steps == steps
    assert min(timed) >= 1
    assert max(timed) - min(timed) <= 1
    assert found.samples_ms == pytest.approx([10.0] * len(timed))
    assert carry == sum(machine.calls), "each call goes on where the last one ended"


@pytest.mark.parametrize("each", [1e-5, 1e-3, 0.1, 20.0])
def test_by_default_they_take_about_three_seconds_and_are_at_least_five(machine, each):
    machine.each = each
    found, _ = time_steps(machine.run, 0)
    assert found.steps == max(5, round(3 / each))
    assert 5 <= len(found.samples_ms) <= 50
    assert sum(machine.calls[: -len(found.samples_ms)]) * each < max(0.7, 2 * each), "the warm-up is short"


def test_a_slow_first_call_is_not_timed(machine):
    def run(carry, n):
        machine.now += 10.0 if not machine.calls else 0.0
        return machine.run(carry, n)

    found, _ = time_steps(run, 0, 20)
    assert found.samples_ms == pytest.approx([10.0] * len(found.samples_ms))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_peak_is_that_of_the_best_size(monkeypatch, dtype):
    monkeypatch.setattr(timing, "_SIZES", (8, 256))
    peak = matrix_peak(dtype)
    assert (peak.dtype, peak.size) == (dtype, 256)
    assert 0.1 < peak.gflop_per_second < 1e6


def test_a_size_that_would_take_long_is_not_tried(monkeypatch):
    monkeypatch.setattr(timing, "_SIZES", (64, 10**9))
    monkeypatch.setattr(timing, "_PRODUCT", 0.0)
    assert matrix_peak("float32").size == 64
