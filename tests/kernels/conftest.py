"""Every form of the kernels that can be had here."""

from __future__ import annotations

import pytest

from fnn import kernels
from fnn.kernels.native import library

FORMS = ("onednn", "jax", "xla")


@pytest.fixture(params=FORMS)
def form(request):
    """The name of a form, which is used in the test."""
    if request.param == "onednn" and not library.available():
        pytest.skip(library.reason())
    with kernels.use(request.param, threads=2):
        yield request.param
