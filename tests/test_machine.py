"""fnn.machine: how much memory there is."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import pytest

from fnn import machine


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux")
def test_memory_is_at_most_what_the_kernel_says():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert 2**20 < machine.memory() <= 1024 * int(total.split()[1])


@pytest.mark.parametrize(("text", "wanted"), [("1048576\n", 2**20), ("max\n", 2**40)])
def test_a_container_may_have_less(monkeypatch, text, wanted):
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 2**20)
    monkeypatch.setattr(machine.Path, "read_text", lambda path, encoding: text)
    assert machine.memory() == wanted


def test_much_where_nobody_says(monkeypatch):
    def missing(path, encoding):
        raise FileNotFoundError(path)

    monkeypatch.delattr(machine.os, "sysconf")
    monkeypatch.setattr(machine.Path, "read_text", missing)
    assert machine.memory() == sys.maxsize


def test_a_device_says_its_own(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 5, "bytes_in_use": 1}

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    assert machine.device_memory() == 5
