"""Every form of the kernels that can be had here."""

from __future__ import annotations

import pytest

from fnn import kernels
from fnn.kernels.native import loader

SLOW = pytest.mark.slow


@pytest.fixture(params=["onednn", pytest.param("jax", marks=SLOW), pytest.param("xla", marks=SLOW)])
def form(request):
    """The name of a form of the convolution, which is used in the test."""
    yield from _used(request)


@pytest.fixture(params=["onednn", pytest.param("jax", marks=SLOW)])
def native(request):
    """The native form of what has but one other, and that other."""
    yield from _used(request)


def _used(request):
    if request.param == "onednn" and not loader.available():
        pytest.skip(loader.reason())
    with kernels.use(request.param, threads=2):
        yield request.param
