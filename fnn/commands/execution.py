"""How a run is executed: chosen once, at its start, and obeyed by every run from its ``config.yaml``."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import jax

from fnn import kernels
from fnn.choices import ConfigError
from fnn.data.files import cache_folder
from fnn.experiment.schema import ExecutionSection
from fnn.layer import Layer
from fnn.repeat import slow_in_a_loop

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class ExecutionWarning(UserWarning):
    """A run is not executed as its config says, or there is a faster way."""


def prepare(execution: ExecutionSection) -> None:
    """Set what JAX reads when it starts: the CPUs of this process, the flags of XLA, where programs are kept.

    Where JAX has started already, nothing is done.
    """
    if _started():
        return
    _keep_programs(cache_folder() / "programs")
    if execution.threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: execution.threads])
    flags = os.environ.get("XLA_FLAGS", "")
    if execution.deterministic and DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()


def _keep_programs(folder: Path) -> None:
    """Let XLA keep what it compiles for the next start, unless the user said where to."""
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    with contextlib.suppress(OSError):  # a home that cannot be written
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def resolve(execution: ExecutionSection, model: Layer, on_disk: bool = False) -> ExecutionSection:
    """What the run of a model does: a value for everything that was left open.

    Args:
        execution: What was asked for.
        model: What is trained.
        on_disk: Whether the training part stays on disk, which no compiled loop reads from.

    Raises:
        ConfigError: The kernels that were asked for are not there, or the mode cannot be.

    Warns:
        ExecutionWarning: JAX has other threads than asked for, or a GPU was started without its flag.
    """
    chosen = _kernels(execution.kernels)
    mode = execution.mode
    if mode == "auto":
        with kernels.use(chosen):
            mode = "step" if on_disk or slow_in_a_loop(model) else "scan"
    if on_disk and mode == "scan":
        text = "expected step, as the training part stays on disk (see the source's stream), got scan"
        raise ConfigError(("train", "execution", "mode"), text)
    present = kernels.processors()
    threads = execution.threads or present
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and threads != present:
        _warn(f"threads is {threads}, and JAX runs on {present}")
    if execution.deterministic and not on_cpu and DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        _warn(f"deterministic is true, and JAX was started without {DETERMINISTIC} in XLA_FLAGS")
    return execution.model_copy(update={"mode": mode, "kernels": chosen, "threads": threads})


def warn_of_slow_bfloat16(precision: str) -> None:
    """Say that float32 is faster, if bfloat16 was asked for where no unit computes in it.

    Warns:
        ExecutionWarning: It is so.
    """
    if precision == "bfloat16" and not kernels.fast_bfloat16():
        text = "precision is bfloat16, for which these kernels have no units: float32 is faster"
        warnings.warn(text, ExecutionWarning, stacklevel=3)  # at the call of fnn.train


def _started() -> bool:
    """Whether JAX has its devices already; a JAX that does not say so is taken to have them."""
    try:
        from jax._src.xla_bridge import backends_are_initialized
    except ImportError:
        return True
    return bool(backends_are_initialized())


def _kernels(asked: str) -> str:
    """The kernels that are active, if those are there that are asked for."""
    if asked == "auto":
        return kernels.status().active
    try:
        with kernels.use(asked):
            found = kernels.status()
    except ValueError as error:
        raise ConfigError(("train", "execution", "kernels"), str(error)) from None
    if asked == "onednn" != found.active:
        raise ConfigError(("train", "execution", "kernels"), f"onednn cannot be used: {found.reason}")
    return asked


def _warn(message: str) -> None:
    text = f"train.execution.{message}: the last bits may differ"
    warnings.warn(text, ExecutionWarning, stacklevel=5)  # at the call of fnn.train
