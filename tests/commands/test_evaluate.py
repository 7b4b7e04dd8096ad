"""fnn.commands.evaluate: the figures that the run itself measured, to the last digit."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.commands.evaluate import evaluate_run
from fnn.experiment import check
from fnn.training import RunFolder, Stopped
from fnn.training.weights import WeightsError

EXPERIMENT = check(
    {
        "precision": "bfloat16",
        "data": {"source": "digits", "validation": 0.1},
        "model": ["flatten", {"dense": 16}, "batch_norm", "relu", {"dropout": 0.1}, {"dense": 10}],
        "train": {"epochs": 3, "batch_size": 100, "ema": 0.9, "checkpoint": {"spacing": 0.0}},
    }
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    return fnn.train(EXPERIMENT, folder=lambda: RunFolder.create(folder, "digits"))


def test_the_figures_are_those_of_the_run_to_the_last_digit(run):
    assert evaluate_run(run.folder) == run.summary["test"]
    last = [record for record in run.log if record["split"] == "validation"][-1]
    assert evaluate_run(run.folder, "validation") == {name: last[name] for name in ("loss", "accuracy")}
    assert set(evaluate_run(run.folder, "train")) == {"loss", "accuracy"}


def test_other_data_and_metrics_can_be_asked_for_and_are_normalised_as_the_runs(run):
    figures = evaluate_run(run.folder, overrides=["metrics=[accuracy, top_k]", "data.validation=0.4"])
    assert {name: figures[name] for name in ("loss", "accuracy")} == run.summary["test"]
    assert figures["top_k"] > figures["accuracy"]
    with pytest.raises(ConfigError, match=r"metrics.0: unknown metric 'acuracy'; nearest: accuracy"):
        evaluate_run(run.folder, overrides=["metrics=[acuracy]"])
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        evaluate_run(run.folder, overrides=["model.1.dense=17"])


def test_other_data_need_no_more_of_the_run_than_its_folder(tmp_path):
    rng = np.random.default_rng(0)
    own, other = ({"x": rng.normal(5, scale, size=(40, 3)), "y": np.arange(40) % 2} for scale in (1, 9))
    for name, arrays in (("own", own), ("other", other)):
        arrays = {k: v.astype(np.float32) if k == "x" else v for k, v in arrays.items()}
        np.savez(tmp_path / f"{name}.npz", **arrays, x_test=arrays["x"], y_test=arrays["y"])
    made = check(
        {
            "data": {"source": {"arrays": {"path": str(tmp_path / "own.npz")}}},
            "model": [{"dense": 2}],
            "train": {"epochs": 1, "batch_size": 8},
        }
    )
    layer = fnn.train(made, folder=lambda: RunFolder.create(tmp_path / "run", "own")).params["dense1"]
    (tmp_path / "own.npz").unlink()
    figures = evaluate_run(tmp_path / "run", overrides=[f"data.source.arrays.path={tmp_path / 'other.npz'}"])
    x = (other["x"] - own["x"].mean(0)) / own["x"].std(0)
    answers = np.argmax(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), axis=1)
    assert figures["accuracy"] == pytest.approx(np.mean(answers == other["y"]))


def test_a_run_that_was_stopped_is_evaluated_at_its_newest_checkpoint(run, tmp_path):
    asked = iter([False, False, False])

    def stopped():
        return next(asked, True)

    with pytest.raises(Stopped):
        fnn.train(EXPERIMENT, folder=lambda: RunFolder.create(tmp_path / "cut", "digits"), stopped=stopped)
    step = max(int(folder.name) for folder in (tmp_path / "cut" / "checkpoints").iterdir())
    assert 0 < step < run.summary["step"]
    figures = evaluate_run(tmp_path / "cut", "validation")
    records = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    same = [r for r in records if r["split"] == "validation" and r["step"] == step]
    assert all(figures == {name: r[name] for name in ("loss", "accuracy")} for r in same)
    assert figures != evaluate_run(run.folder, "validation")


def test_what_cannot_be_evaluated_is_one_clear_line(run, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no run: expected config.yaml in it"):
        evaluate_run(tmp_path)
    with pytest.raises(ConfigError, match=r"expected one of the parts train, validation, test, got 'tset'"):
        evaluate_run(run.folder, "tset")
    (tmp_path / "config.yaml").write_text((run.folder / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"there is neither model.safetensors nor a checkpoint yet"):
        evaluate_run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        evaluate_run(tmp_path)
