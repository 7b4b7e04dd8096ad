"""docs/own_parts.md: what it shows works as it says, from an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import fnn

ROOT = Path(fnn.__file__).parents[1]
PAGE = (ROOT / "docs" / "own_parts.md").read_text()


def block(kind, n=0):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, flags=re.M | re.S)[n]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_parts.py").write_text(block("python"))
    (folder / "waves.yaml").write_text(block("yaml"))
    return folder


def ran(home, *command):
    made = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=home, env=made, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_train_resume_evaluate_and_debug(home):
    pytest.importorskip("tensorboardX")
    train, resume, evaluate, debug = (shlex.split(line, comments=True) for line in block("bash").splitlines())
    fnn_command = [sys.executable, "-c", "from fnn.cli import main; main()"]
    ran(home, *fnn_command, *train[1:])
    summary = json.loads((home / "run" / "summary.json").read_text())
    assert summary["test"]["rmse"] < 0.2  # the noise is 0.1
    assert f"rmse {summary['test']['rmse']:.4f}" in ran(home, *fnn_command, *resume[1:])
    assert f"rmse {summary['test']['rmse']:.4f}" in ran(home, *fnn_command, *evaluate[1:])
    assert "fourier1" in ran(home, *fnn_command, *debug[1:])
    kept = {entry.name for entry in (home / "run").iterdir()}
    assert {"metrics.jsonl", "tensorboard", "checkpoints", "model.safetensors"} <= kept


def test_the_python_does_what_it_says(home):
    (home / "script.py").write_text(block("python", 1))
    assert ran(home, sys.executable, "script.py") == "True (1, 16)\n"
    assert (
        ran(home, sys.executable, "script.py") == "True (1, 16)\n"
    )  # a finished run is returned as it ended


def test_the_layer_keeps_the_laws(home, monkeypatch):
    import jax.numpy as jnp

    monkeypatch.syspath_prepend(home)
    import my_parts

    fnn.testing.check_layer(my_parts.fourier(8), jnp.ones((4, 3)))
