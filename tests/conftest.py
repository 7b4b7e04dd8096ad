"""What all tests share: JAX's strict modes, the precision of oracles, the data sets, the registry."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import jax
import pytest

from fnn.registry import registry

TESTS = Path(__file__).parent
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit it
    _CACHE = tempfile.TemporaryDirectory(prefix="fnn-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name
# What one test compiles, another finds. A folder for each process: JAX reads files that are half written.
jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(dir=os.environ["XDG_CACHE_HOME"]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
# Not where optax updates parameters: its Adam and its cosine schedules need the standard promotion.
STRICT = {
    "layers",
    "metrics",
    "models",
    "test_capture.py",
    "test_combine.py",
    "test_contract.py",
    "test_layer.py",
    "test_losses.py",
    "test_luma.py",
    "test_repeat.py",
}


@pytest.fixture(autouse=True)
def strict(request: pytest.FixtureRequest) -> Iterator[None]:
    """Around layers, models, losses and metrics no dtype and no rank is promoted unasked."""
    if request.path.relative_to(TESTS).parts[0] not in STRICT:
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """Products are made in full float32 on every device, for comparisons with what others compute."""
    with jax.default_matmul_precision("highest") if jax.default_backend() != "cpu" else nullcontext():
        yield


@pytest.fixture(scope="module")
def quick_compiler() -> Iterator[None]:
    """For modules that compile much and run each program once, on a few numbers."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # another module's bits are those of the usual compiler


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = {group: dict(items) for group, items in registry.items()}
    yield
    for group, items in before.items():
        registry[group].clear()
        registry[group].update(items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need data sets are skipped without them, those of what holds on CPUs alone elsewhere."""
    if item.get_closest_marker("cpu") and jax.default_backend() != "cpu":
        pytest.skip(f"holds on CPUs alone, and JAX runs on {jax.default_backend()}")
    folder = os.environ.get("FNN_DATA")
    if item.get_closest_marker("data") and not (folder and Path(folder).is_dir()):
        found = f"is no folder: {folder}" if folder else "is not set"
        pytest.skip(f"needs the data sets under $FNN_DATA, which {found}")
