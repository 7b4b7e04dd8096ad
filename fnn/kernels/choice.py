"""Which kernels are used: by platform, by the environment, or as a ``with`` block says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax

CHOICES = ("auto", "onednn", "jax", "xla")
"""``auto`` takes the fastest there is; ``jax`` and ``xla`` need nothing native."""

_context = jax.make_user_context(default_value=None)


@contextmanager
def use(kernels: str) -> Iterator[None]:
    """Force the kernels of everything that is traced inside; part of the key of ``jax.jit``."""
    with _context(kernels):
        yield


def requested() -> str:
    """What is asked for here: by `use`, else by the environment variable ``FNN_KERNELS``, else ``auto``."""
    return _context.value or os.environ.get("FNN_KERNELS", "auto")


@dataclass(frozen=True)
class Status:
    """What `status` finds.

    Attributes:
        active: ``onednn``, ``jax`` or ``xla``: what a convolution takes here.
        reason: Why.
        native: The file of the native part, or None.
        onednn: The version of oneDNN, or None.
        threads: Into how many pieces native work is cut.
    """

    active: str
    reason: str
    native: str | None
    onednn: str | None
    threads: int


def status() -> Status:
    """Which kernels are active here, and why."""
    return Status("xla", "no native part yet", None, None, 1)
