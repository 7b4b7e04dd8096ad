"""What random numbers cost by JAX's own program and by fnn's: python -m benchmarks.drawing [ROUNDS].

Seconds to compile a draw and microseconds to make it, the two forms in turn, each the median of the rounds.
Both give the same bits, which is checked. What is kept of earlier compilations is left aside.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.kernels import quick_key

DRAWS = {
    "kernel 3 × 3 × 8 × 16": functools.partial(jax.random.normal, shape=(3, 3, 8, 16)),
    "kernel 3 × 3 × 512 × 512": functools.partial(jax.random.normal, shape=(3, 3, 512, 512)),
    "dropout 128 × 1024": functools.partial(jax.random.bernoulli, p=0.5, shape=(128, 1024)),
    "dropout 128 × 32 × 32 × 64": functools.partial(jax.random.bernoulli, p=0.5, shape=(128, 32, 32, 64)),
    "order of 60,000": functools.partial(jax.random.permutation, x=60_000),
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    jax.config.update("jax_enable_compilation_cache", False)
    titles = (f"{title:>20}{'fnn':>8}{'ratio':>8}" for title in ("to compile, s: JAX", "to draw, µs: JAX"))
    print(f"{'':<28}{''.join(titles)}")
    for name, draw in DRAWS.items():
        (compile_jax, compile_fnn), (run_jax, run_fnn) = measure(draw, rounds)
        compiling = f"{compile_jax:>20.2f}{compile_fnn:>8.2f}{compile_jax / compile_fnn:>8.1f}"
        drawing = f"{1e6 * run_jax:>20.0f}{1e6 * run_fnn:>8.0f}{run_jax / run_fnn:>8.1f}"
        print(f"{name:<28}{compiling}{drawing}", flush=True)


def measure(draw: Callable[..., Any], rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds to compile and to draw, each by JAX and by fnn.

    Raises:
        AssertionError: They do not draw the same.
    """
    forms = (lambda key: draw(key), lambda key: draw(quick_key(key)))
    key = jax.random.key(0)
    compiled, seconds = ([[], []] for _ in range(2))
    for _ in range(rounds):
        jax.clear_caches()
        programs = []
        for form, times in zip(forms, compiled, strict=True):
            lowered = jax.jit(form).lower(key)
            begin = time.perf_counter()
            programs.append(lowered.compile())
            times.append(time.perf_counter() - begin)
        made = [jax.block_until_ready(program(key)) for program in programs]
        assert jnp.array_equal(*made)
        for program, times in zip(programs, seconds, strict=True):
            times.append(least(program, key))
    return tuple(map(statistics.median, compiled)), tuple(map(statistics.median, seconds))


def least(program: Callable[..., Any], key: Any, times: int = 10) -> float:
    """The seconds of the fastest of some calls."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        jax.block_until_ready(program(key))
        found.append(time.perf_counter() - begin)
    return min(found)


if __name__ == "__main__":
    main()
