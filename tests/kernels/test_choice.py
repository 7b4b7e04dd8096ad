"""Which kernels are used, and that the choice is a part of jit's key."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from fnn import kernels
from fnn.kernels import KernelError, Spec
from fnn.kernels.native import loader

SPEC = Spec((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
X, KERNEL = jnp.ones((2, 6, 6, 8)), jnp.ones((3, 3, 8, 8))


def test_a_choice_is_traced_anew_and_cached_apart():
    traced = []

    @jax.jit
    def f(x):
        traced.append(kernels.requested().kernels)
        return kernels.conv(x, KERNEL, SPEC)

    for _ in range(2):
        f(X)
        with kernels.use("xla"):
            f(X)
        with kernels.use("jax"):
            f(X)
    assert traced == ["auto", "xla", "jax"]


def test_the_choice_decides_what_is_compiled():
    def text(name):
        with kernels.use(name):
            return jax.jit(lambda x, k: kernels.conv(x, k, SPEC)).lower(X, KERNEL).as_text()

    assert "fnn_conv" not in text("xla") and "fnn_conv" not in text("jax")
    if loader.available():
        assert "fnn_conv_forward_v1" in text("onednn") and "fnn_conv_forward_v1" in text("auto")


def test_the_innermost_choice_holds_and_ends():
    with kernels.use("xla", threads=3):
        assert kernels.requested() == ("xla", 3) and kernels.status().active == "xla"
        with kernels.use("jax"):
            assert kernels.requested() == ("jax", None)
        assert kernels.requested().kernels == "xla"
    assert kernels.requested().kernels == os.environ.get("FNN_KERNELS", "auto")


def test_unknown_kernels():
    with (
        pytest.raises(KernelError, match="expected one of auto, onednn, jax, xla, got 'cuda'"),
        kernels.use("cuda"),
    ):
        pass


@pytest.mark.cpu
def test_native_kernels_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr(loader, "_load", lambda: "it was not built")
    with (
        pytest.raises(KernelError, match="onednn cannot be had here: it was not built"),
        kernels.use("onednn"),
    ):
        pass
    assert kernels.status().active == "jax"


@pytest.mark.parametrize(
    ("value", "said"),
    [("xla", "xla"), ("", "auto"), ("mkl", "FNN_KERNELS: expected one of auto, onednn, jax")],
)
def test_the_environment(value, said):
    script = (
        "import fnn\ntry: print(fnn.kernels.requested().kernels)\nexcept ValueError as error: print(error)"
    )
    environment = {**os.environ, "FNN_KERNELS": value, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(said), done.stderr
