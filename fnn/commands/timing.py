"""Clocks: what a step costs, and what a matrix product could do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fnn import kernels

Run = Callable[[Any, int], Any]
"""``(carry, n) -> carry``: n steps, until the device is done."""

_WARM_UP = 0.3  # seconds
_TIMED = 3.0  # seconds of steps, unless their number is given
_SAMPLE = 0.05  # seconds, of which the clock and the wait for the device are a small part
_SAMPLES = 5, 50  # at least, at most
_SIZES = (1024, 2048, 4096, 8192)
_PRODUCT = 0.25  # seconds: a matrix product that would take longer is not tried


@dataclass(frozen=True)
class Timing:
    """How long steps took.

    Attributes:
        steps: How many were timed, in pieces of about 50 ms.
        samples_ms: Milliseconds a step, of each piece.
    """

    steps: int
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class Peak:
    """The best rate of a product of two square matrices, ``size`` × ``size``."""

    dtype: str
    size: int
    gflop_per_second: float


def time_steps(run: Run, carry: Any, steps: int | None = None) -> tuple[Timing, Any]:
    """Time steps, many at a time, after a warm-up that is not timed.

    Args:
        run: What is timed.
        carry: What it begins with.
        steps: How many are timed; by default as many as about 3 seconds take, and at least 5.

    Returns:
        The timing, and what the last step left.
    """
    n = 1
    while True:
        seconds, carry = _clock(run, carry, n)
        if seconds > _WARM_UP / 2:
            break
        n *= 2
    if steps is None:
        steps = max(_SAMPLES[0], round(_TIMED * n / seconds))
    wanted = round(steps * seconds / n / _SAMPLE)
    pieces = min(steps, max(_SAMPLES[0], min(_SAMPLES[1], wanted)))
    samples = []
    for size in np.diff(np.arange(pieces + 1) * steps // pieces).tolist():
        seconds, carry = _clock(run, carry, size)
        samples.append(1000 * seconds / size)
    return Timing(steps, tuple(samples)), carry


def matrix_peak(dtype: str) -> Peak:
    """Multiply square matrices, larger ones while they are quick, each ten times; the best rate is kept."""
    product = jax.jit(kernels.product)
    best = Peak(dtype, 0, 0.0)
    for size in _SIZES:
        x = jax.random.normal(jax.random.key(0), (size, size), dtype)
        jax.block_until_ready(product(x, x))  # compiles
        seconds = min(_clock(lambda y, n: jax.block_until_ready(product(y, y)), x, 1)[0] for _ in range(10))
        best = max(best, Peak(dtype, size, 2e-9 * size**3 / seconds), key=lambda peak: peak.gflop_per_second)
        if 8 * seconds > _PRODUCT:
            break
    return best


def _clock(run: Run, carry: Any, n: int) -> tuple[float, Any]:
    begin = time.perf_counter()
    carry = run(carry, n)
    return time.perf_counter() - begin, carry
