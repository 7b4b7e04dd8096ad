"""A training run as a child process: one that begins anew, or one forked after everything was imported."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import jax.numpy  # noqa: F401 -- imported here, so that the forked children have it
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
    """A server that has imported everything, and forks a child in milliseconds."""

    def __init__(self) -> None:
        os.environ.update(ONE_THREAD)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__])

    def forked(self, arguments: list[str], said: Path) -> BaseProcess:
        """A child that trains."""
        child = self.context.Process(target=_train, args=(arguments, str(said)))
        child.start()
        return child


def _train(arguments: list[str], said: str) -> None:
    status = Path(f"/proc/{os.getppid()}/status").read_text()
    assert "Threads:\t1\n" in status, "forked from a process with more than one thread"
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["train.py", *arguments]
    train_script()
