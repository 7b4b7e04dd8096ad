"""A training run as a child process: one that begins anew, or one forked after everything was imported."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import jax
import jax.numpy  # imported here, so that the forked children have it
import orbax.checkpoint  # noqa: F401

import fnn.commands.train
from fnn.cli import train_script

ROOT = Path(fnn.commands.train.__file__).parents[2]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A process that is forked must have no other thread; JAX starts its own in the children."""


def spawned(arguments: list[str], said: Path) -> subprocess.Popen[bytes]:
    """A process that begins with Python's own start."""
    with said.open("wb") as out:
        command = [sys.executable, str(ROOT / "train.py"), *arguments]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


class Forks:
    """A server that has imported everything, and forks a child in milliseconds.

    Args:
        compiled: A folder where the children find what one of them has compiled.
    """

    def __init__(self, compiled: Path) -> None:
        self.compiled = compiled
        os.environ.update(ONE_THREAD)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__])

    def forked(self, arguments: list[str], said: Path) -> BaseProcess:
        """A child that trains."""
        child = self.context.Process(target=_train, args=(arguments, str(said), str(self.compiled)))
        child.start()
        return child


def _train(arguments: list[str], said: str, compiled: str) -> None:
    status = Path(f"/proc/{os.getppid()}/status").read_text()
    assert "Threads:\t1\n" in status, "forked from a process with more than one thread"
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    faulthandler.register(signal.SIGUSR1)
    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    sys.argv = ["train.py", *arguments]
    train_script()
