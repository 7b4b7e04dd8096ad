"""A data set that stays on disk goes through every command as one in memory does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fnn
from fnn.choices import ConfigError
from fnn.commands.bench import bench
from fnn.commands.debug import debug
from fnn.commands.evaluate import evaluate_run
from fnn.data import DataError
from fnn.experiment import check, read
from fnn.training import RunFolder, Stopped

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes, of dark and of bright pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for part, n in (("train", 10), ("test", 3)):
        for name, low in (("dark", 0), ("bright", 128)):
            (root / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = RNG.integers(low, low + 128, (5, 6, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def experiment(pictures, stream, **train):
    source = {"image_folder": {"path": str(pictures), "size": 4, "stream": stream}}
    return check(
        {
            "data": {"source": source, "validation": 0.2},
            "model": ["flatten", {"dense": 2}],
            "optimizer": {"sgd": 0.1},
            "train": {"epochs": 3, "batch_size": 4, "checkpoint": {"every": 1, "spacing": 0.0}, **train},
        }
    )


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("on_disk") / "run"
    return fnn.train(experiment(pictures, True), folder=lambda: RunFolder.create(folder, "run"))


def test_it_is_the_same_run_as_in_memory(pictures, run):
    assert run.summary["test"]["accuracy"] == 1.0
    assert read(run.folder / "config.yaml").train.execution.mode == "step"
    same = fnn.train(experiment(pictures, False, execution={"mode": "step"}))
    for name in ("params_sha256", "test"):
        assert same.summary[name] == run.summary[name]


def test_a_run_that_is_stopped_within_an_epoch_is_resumed_to_the_same_bits(pictures, run, tmp_path):
    def folder():
        return RunFolder.create(tmp_path / "cut", "run")

    asked = iter([False, False, False])  # before the first step, and after the first and the fifth
    with pytest.raises(Stopped):
        fnn.train(experiment(pictures, True), folder=folder, stopped=lambda: next(asked, True))
    step = json.loads((tmp_path / "cut" / "summary.json").read_text())["step"]
    assert step % 4, "it was to stop within an epoch"
    resumed = fnn.train(
        experiment(pictures, True), folder=lambda: RunFolder.resume(tmp_path / "cut"), resume=True
    )
    assert resumed.summary["params_sha256"] == run.summary["params_sha256"]


def test_a_picture_that_cannot_be_read_is_named_and_the_run_goes_on_once_it_can(pictures, run, tmp_path):
    copy = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    broken = copy / "test" / "dark" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    settings, out = experiment(copy, True), tmp_path / "run"
    with pytest.raises(DataError, match=rf"^{broken}: expected a whole picture"):
        fnn.train(settings, folder=lambda: RunFolder.create(out, "run"))
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    broken.write_bytes(whole)
    resumed = fnn.train(settings, folder=lambda: RunFolder.resume(out), resume=True)
    for name in ("params_sha256", "test"):
        assert resumed.summary[name] == run.summary[name]


def test_its_parts_are_evaluated_as_the_run_itself_did(run):
    assert evaluate_run(run.folder) == run.summary["test"]
    last = [record for record in run.log if record["split"] == "validation"][-1]
    assert evaluate_run(run.folder, "validation") == {name: last[name] for name in ("loss", "accuracy")}


def test_its_weights_say_how_a_picture_becomes_an_input(run):
    from fnn.experiment.saved import read_saved

    saved = read_saved(run.folder)
    assert saved.classes == ("bright", "dark")
    assert (saved.preprocessing.size, saved.preprocessing.short_side) == ((4, 4), 4)
    assert len(saved.preprocessing.mean) == 3
    assert 100 < saved.preprocessing.mean[0] < 155


def test_a_step_of_it_is_taken_apart(run):
    report = debug(run.folder, step=6)
    assert (report.step, len(report.batch), report.findings.fault) == (6, 4, None)


@pytest.mark.slow
def test_its_step_is_measured(pictures):
    assert bench(experiment(pictures, True), steps=5).batch_size == 4


def test_a_compiled_loop_over_it_is_refused(pictures):
    wrong = experiment(pictures, True, execution={"mode": "scan"})
    with pytest.raises(ConfigError, match="mode: expected step, as the training part stays on disk"):
        fnn.train(wrong)
