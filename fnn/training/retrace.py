"""What is traced again after it should be compiled once and for all."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

_MISS = re.compile(
    r"for (\S+) defined at (.+?):\d+\n\s*all previously seen cache keys differ.*?:\n(.*)", re.S
)
_JAX = str(Path(jax.__file__).parent)


class RetraceWarning(UserWarning):
    """A function is traced and compiled again, which costs time at every new form of its arguments."""


def _warn(line: str) -> None:
    warnings.warn(line, RetraceWarning, stacklevel=2)


@contextmanager
def watch_retraces(tell: Callable[[str], None] = _warn) -> Iterator[bool]:
    """Tell of each function that is traced again, once, with what changed in which argument.

    Functions of JAX itself are left out: they are small, and meet many shapes.

    Args:
        tell: Gets a line for each function; by default it becomes a warning.

    Warns:
        RetraceWarning: Something was traced again.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> double = jax.jit(lambda x: 2 * x)
        >>> _ = double(jnp.ones(3))
        >>> with watch_retraces(print):
        ...     _ = double(jnp.ones(4))
        <lambda> is compiled again: at x, now f32[4] and before f32[3]
    """
    handler, logger = _Misses(tell), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.explain_cache_misses(True):
            yield True
    finally:
        logger.removeHandler(handler)


class _Misses(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.tell = tell
        self.seen: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        found = _MISS.search(record.getMessage())
        if found is None or found[2].startswith(_JAX) or (found[1], found[2]) in self.seen:
            return
        self.seen.add((found[1], found[2]))
        changes = [line.strip(" *") for line in found[3].splitlines() if line.strip().startswith("*")]
        what = "; ".join(changes) or " ".join(found[3].split())
        self.tell(f"{found[1]} is compiled again: {what}")
