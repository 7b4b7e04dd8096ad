"""Which kernels are used: by platform, by the environment, or as a ``with`` block says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax

from fnn.kernels.native import loader

CHOICES = ("auto", "onednn", "jax", "xla")
_PLAIN = "plain"  # no choice of a user's: it is for programs that are written down


class KernelError(ValueError):
    """Kernels were asked for that do not exist or cannot be had here."""


class Choice(NamedTuple):
    """What is asked for; a part of the key under which a program is traced and compiled.

    Attributes:
        kernels: ``auto`` takes the fastest there is; ``jax`` and ``xla`` need nothing native.
        threads: Into how many pieces native work is cut; None: one a processor that the process may use.
    """

    kernels: str = "auto"
    threads: int | None = None


_context = jax.make_user_context(default_value=None)
_environment = os.environ.get("FNN_KERNELS") or "auto"  # read once: it is in no program's key


def requested() -> Choice:
    """What is asked for here: by `use`, else by the environment variable ``FNN_KERNELS`` as it was when
    fnn was imported, else ``auto``.

    Raises:
        KernelError: ``FNN_KERNELS`` names no kernels.
    """
    return _context.value or Choice(_known(_environment, "FNN_KERNELS"))


@contextmanager
def use(kernels: str = "auto", *, threads: int | None = None) -> Iterator[None]:
    """Choose the kernels of all that is traced inside, by ``jax.jit`` or otherwise.

    Args:
        kernels: ``"auto"`` (the fastest there is), ``"onednn"`` (native, on x86-64 processors), ``"jax"``
            (pure JAX, shaped for processors) or ``"xla"`` (XLA's own).
        threads: Into how many pieces native work is cut. The pieces decide the last bits of a result, the
            threads that take them do not. None: one a processor that the process may use.

    Raises:
        KernelError: There are no such kernels, or ``"onednn"`` cannot be had here; the message says why.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> with fnn.kernels.use("xla"):
        ...     y, _ = fnn.max_pool(2).apply({}, {}, jnp.ones((1, 4, 4, 1)))
    """
    if kernels == "onednn" and not loader.available():
        raise KernelError(f"kernels: onednn cannot be had here: {loader.reason()}")
    with _context(Choice(_known(kernels, "kernels"), threads)):
        yield


@contextmanager
def plain() -> Iterator[None]:
    """Trace JAX's own operations alone, no primitive of fnn: for what reads a program and knows no others.

    Values are those of ``use("xla")``; gradients may be slower, and sum in narrower types.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> with fnn.kernels.plain():
        ...     program = jax.make_jaxpr(fnn.max_pool(3, 1).apply)({}, {}, jnp.ones((1, 3, 3, 1)))
        >>> sorted({equation.primitive.name for equation in program.eqns})
        ['max', 'slice']
    """
    with _context(Choice(_PLAIN)):
        yield


def is_plain() -> bool:
    """Whether `plain` is in force here."""
    return requested().kernels == _PLAIN


def _known(kernels: str, what: str) -> str:
    if kernels not in CHOICES:
        raise KernelError(f"{what}: expected one of {', '.join(CHOICES)}, got {kernels!r}")
    return kernels


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
