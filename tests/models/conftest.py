"""What tests of whole models share."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compiler() -> Iterator[None]:
    """Deep networks are compiled here, and each runs once on a few pictures."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
