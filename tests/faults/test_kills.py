"""A run that is killed again and again ends as one that was let alone; ``python -m tests.faults``: more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 16


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_one_that_was_not():
    command = [sys.executable, "-m", "tests.faults", "--kills", str(KILLS), "--seed", "1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=root)
    assert done.returncode == 0, done.stderr + done.stdout
    found = {name: int(count) for name, count in re.findall(r"^(\D+?) +(\d+)$", done.stdout, re.MULTILINE)}
    assert sum(found.values()) >= KILLS
    assert found["save"] >= KILLS // 6
