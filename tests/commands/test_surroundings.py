"""fnn.commands.surroundings: what a machine says of itself, and what is said where it is silent."""

from __future__ import annotations

import platform
import sys
import time
from importlib import metadata
from pathlib import Path

import jax
import pytest

from fnn.commands import surroundings

CPUINFO = """\
processor\t: 0
model name\t: A Processor: of 2026
flags\t\t: fpu avx2 avx512f

processor\t: 1
model name\t: A Processor: of 2026
flags\t\t: fpu avx2 avx512f
"""


def test_the_processor_is_read_from_cpuinfo(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert surroundings.processor(tmp_path / "cpuinfo") == (
        "A Processor: of 2026",
        {"fpu", "avx2", "avx512f"},
    )


def test_an_arm_processor_says_features(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")
    model, flags = surroundings.processor(tmp_path / "cpuinfo")
    assert model in (platform.processor(), platform.machine())
    assert flags == {"fp", "asimd", "sve"}


def test_without_cpuinfo_it_is_what_python_knows(tmp_path):
    model, flags = surroundings.processor(tmp_path / "none")
    assert model in (platform.processor(), platform.machine())
    assert flags == frozenset()


def test_a_package_that_is_not_there_is_missing(monkeypatch):
    def version(name):
        if name == "optax":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    found = surroundings.versions()
    assert (found["optax"], found["jax"]) == ("missing", "1.2.3")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells it")
def test_the_age_of_the_process_grows_with_the_clock():
    first = surroundings.process_age()
    time.sleep(0.05)
    assert 0.04 < surroundings.process_age() - first < 5
    assert 0 < first < time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_a_proc_folder_the_age_is_not_known(monkeypatch):
    def read_text(self, **options):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "read_text", read_text)
    assert surroundings.process_age() is None


def test_the_memory_of_a_device_that_counts_it_comes_first(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 3 * 2**20}

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    assert surroundings.peak_memory() == (3.0, "device")


@pytest.mark.cpu
def test_the_memory_of_a_cpu_is_the_processs():
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    memory, of = surroundings.peak_memory()
    assert of == "process"
    assert 64 < memory < 64 * 1024


@pytest.mark.cpu
def test_without_the_module_resource_the_memory_is_not_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert surroundings.peak_memory() == (None, "process")
