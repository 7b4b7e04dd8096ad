"""What the tests of loggers share: a small experiment, a run's records, libraries that only note calls."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import pytest

from fnn.experiment import check
from fnn.training import RunInfo

RECORDS = [
    {"step": 2, "epoch": 1, "split": "train", "loss": 0.5, "accuracy": 0.25, "confusion": [[1, 0], [0, 1]]},
    {"step": 2, "epoch": 1, "split": "validation", "loss": float("inf"), "accuracy": 0.75},
    {"step": 4, "epoch": 2, "split": "train", "loss": 0.125, "accuracy": 1.0, "confusion": [[1, 0], [0, 1]]},
]
SUMMARY = {
    "status": "completed",
    "step": 4,
    "epoch": 2,
    "test": {"loss": 0.375, "confusion": [[2, 0], [0, 2]]},
    "params": 7,
    "params_sha256": "abc",
    "seconds": {"total": 1.0},
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Whatever a tracker writes unasked is written here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def about(here):
    """A run of a name in a folder, from a step on."""

    def make(step=0, config=None, folder="run"):
        if folder is not None:
            (here / folder).mkdir(exist_ok=True)
        return RunInfo("digits-1", folder and here / folder, config or {"seed": 0}, step)

    return make


@pytest.fixture
def told():
    """Tell a logger of a whole run."""

    def tell(logger, run, records=RECORDS, summary=SUMMARY):
        logger.begin(run)
        for record in records:
            logger.record(record)
        logger.end(summary)

    return tell


@pytest.fixture
def install(monkeypatch):
    """Put a module of these attributes in the place of a library."""

    def put(name, **attributes):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="a test")
        for key, value in attributes.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture(scope="session")
def experiment():
    """A linear model on 16 rows, 4 of them held out: 3 steps an epoch, each logged."""

    def make(*log, **sections):
        given = {
            "data": {"source": {"synthetic": {"shape": [5], "classes": 3, "size": 16}}, "validation": 0.25},
            "model": [{"dense": 3}],
            "metrics": ["accuracy", "confusion"],
            "optimizer": {"sgd": 0.5},
            "train": {"epochs": 2, "batch_size": 4, "log_every": 1},
        }
        return check({**given, "log": list(log), **sections})

    return make
