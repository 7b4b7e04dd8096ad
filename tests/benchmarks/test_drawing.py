"""benchmarks.drawing: both forms are timed, and compared."""

from __future__ import annotations

import jax
import pytest

from benchmarks.drawing import measure


def test_both_forms_are_timed():
    compiled, drawn = measure(lambda key: jax.random.bits(key, (3,)), rounds=1)
    assert min(*compiled, *drawn) > 0


def test_other_bits_are_noticed():
    with pytest.raises(AssertionError):
        measure(lambda key: jax.random.key_impl(key) == "threefry2x32", rounds=1)
