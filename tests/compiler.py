"""How much work XLA is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

FLAG = "jax_disable_most_optimizations"


def always_quick() -> None:
    """From now on programs are compiled soon, whatever they take; in commands that tests start, too."""
    os.environ[FLAG.upper()] = "1"
    jax.config.update(FLAG, True)


@contextmanager
def quick() -> Iterator[None]:
    """Inside, programs are compiled soon, whatever they then take."""
    jax.config.update(FLAG, True)
    yield
    jax.config.update(FLAG, os.environ.get(FLAG.upper()) == "1")
