"""fnn.training.loggers.interface: numbers by name, ids that a folder keeps, libraries that are not there."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fnn.training import RunInfo
from fnn.training.loggers.interface import outcome, require, scalars


def test_the_numbers_of_a_record_are_named_after_its_split():
    record = {"step": 7, "epoch": 2, "split": "validation", "loss": 0.5, "n": 3, "mae": np.float32(0.25)}
    assert scalars(record) == {
        "validation/epoch": 2.0,
        "validation/loss": 0.5,
        "validation/n": 3.0,
        "validation/mae": 0.25,
    }
    assert {type(value) for value in scalars(record).values()} == {float}


@pytest.mark.parametrize("value", ["text", None, True, [[1, 0], [0, 1]], {"a": 1.0}])
def test_what_is_no_number_is_left_out(value):
    assert scalars({"step": 1, "split": "train", "loss": 0.5, "other": value}) == {"train/loss": 0.5}


def test_numbers_that_are_not_finite_stay():
    found = scalars({"step": 1, "split": "train", "a": math.inf, "b": -math.inf, "c": math.nan})
    assert found["train/a"] == math.inf
    assert found["train/b"] == -math.inf
    assert math.isnan(found["train/c"])


def test_a_summary_without_a_test_part_has_no_figures():
    summary = {"status": "interrupted", "step": 3, "epoch": 1, "versions": {"jax": "0"}}
    assert outcome(summary) == ({}, {"status": "interrupted", "step": 3, "epoch": 1})


def test_an_id_is_recalled_by_the_run_that_goes_on_alone(here):
    RunInfo("a", here, {}).remember("wandb", "w1")
    RunInfo("a", here, {}).remember("mlflow", "m1")
    assert json.loads((here / "loggers.json").read_text()) == {"wandb": "w1", "mlflow": "m1"}
    going_on = RunInfo("a", here, {}, step=5)
    assert (going_on.recall("wandb"), going_on.recall("mlflow")) == ("w1", "m1")
    assert going_on.recall("other") is None
    assert RunInfo("a", here, {}).recall("wandb") is None, "a run that begins anew is another one"
    going_on.remember("wandb", "w2")
    assert json.loads((here / "loggers.json").read_text()) == {"wandb": "w2", "mlflow": "m1"}


def test_without_a_folder_nothing_is_kept(here):
    run = RunInfo("a", None, {}, step=5)
    run.remember("wandb", "w1")
    assert run.recall("wandb") is None
    assert list(here.iterdir()) == []


def test_a_library_that_is_there_is_not_imported(here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    (here / "broken_tracker.py").write_text("raise RuntimeError('imported')\n")
    require("broken_tracker", "wandb")


def test_a_folder_of_the_librarys_name_is_not_the_library(here, monkeypatch):
    """As ``wandb/`` is, which wandb leaves in the folder it was used in."""
    monkeypatch.syspath_prepend(here)
    (here / "left_behind").mkdir()
    with pytest.raises(ValueError, match=r"wandb needs the library left_behind: pip install 'fnn\[wandb\]'$"):
        require("left_behind", "wandb")
