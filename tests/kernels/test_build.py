"""Building the native part: what is missing is one clear line, and a failure leaves the old build."""

from __future__ import annotations

import pytest

from fnn.kernels.native import build
from fnn.kernels.native.build import BuildError

pytestmark = pytest.mark.skipif(not build.supported(), reason="the native part is for Linux on x86-64")


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(
        BuildError, match=r"no C\+\+ compiler was found: install g\+\+ 11 or newer, or set CXX"
    ):
        build.build(tmp_path / "native.so")
    assert not list(tmp_path.iterdir())


def test_without_onednns_headers(monkeypatch, tmp_path):
    monkeypatch.delenv("ONEDNN_ROOT", raising=False)
    monkeypatch.setattr(build, "WHEELS", ())
    monkeypatch.setattr(build, "SYSTEM", tmp_path)
    with pytest.raises(BuildError, match="headers were not found: pip install onednn-devel-cpu-gomp"):
        build.build(tmp_path / "native.so")


def test_a_compiler_that_refuses(monkeypatch, tmp_path):
    (tmp_path / "include").mkdir()
    monkeypatch.setenv("ONEDNN_ROOT", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    (tmp_path / "native.so").write_text("the old one")
    with pytest.raises(BuildError, match="false failed"):
        build.build(tmp_path / "native.so")
    assert (tmp_path / "native.so").read_text() == "the old one"


def test_another_platform(monkeypatch, tmp_path):
    monkeypatch.setattr(build.platform, "machine", lambda: "aarch64")
    with pytest.raises(BuildError, match="for Linux on x86-64, not linux aarch64"):
        build.build(tmp_path / "native.so")
