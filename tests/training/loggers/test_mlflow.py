"""fnn.training.loggers.mlflow: what MLflow is told, and what its database holds where it is installed."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace

import pytest

import fnn
from fnn.training import Loggers, LoggerWarning, RunFolder
from fnn.training.loggers import mlflow
from fnn.training.loggers.mlflow import parameters


class FakeClient:
    """As much of MLflow's client as is used, with MLflow's own refusals."""

    def __init__(self):
        self.experiments, self.runs, self.calls, self.uris = {}, {}, [], []

    def __call__(self, tracking_uri):
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name):
        assert name not in self.experiments
        self.experiments[name] = f"e{len(self.experiments)}"
        return self.experiments[name]

    def create_run(self, experiment, run_name, tags):
        run = SimpleNamespace(
            info=SimpleNamespace(run_id=f"r{len(self.runs)}"),
            experiment=experiment, name=run_name, tags=dict(tags), params={}, metrics=[], status="RUNNING",
        )  # fmt: skip
        self.runs[run.info.run_id] = run
        return run

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        run = self.runs[run_id]
        for key, value in params:
            assert key not in run.params, "parameters are fixed"
            assert re.fullmatch(r"[\w.\-/ ]+", key)
            run.params[key] = value
        run.metrics += [(key, step, value) for key, value, _, step in metrics]

    def get_metric_history(self, run_id, key):
        return [SimpleNamespace(step=s) for k, s, _ in self.runs[run_id].metrics if k == key]

    def set_tag(self, run_id, key, value):
        self.runs[run_id].tags[key] = value

    def update_run(self, run_id, status):
        self.runs[run_id].status = status

    set_terminated = update_run


@pytest.fixture
def fake(install, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    client = FakeClient()
    entities = SimpleNamespace(
        Metric=lambda key, value, timestamp, step: (key, value, timestamp, step),
        Param=lambda key, value: (key, value),
    )
    install("mlflow", MlflowClient=client, entities=entities)
    return client


def test_what_a_run_tells(fake, about, told, here):
    told(mlflow("digits", uri="sqlite:///a.db"), about(config={"seed": 3, "train": {"epochs": 2}}))
    assert fake.uris == ["sqlite:///a.db"]
    assert fake.experiments == {"digits": "e0"}
    run = fake.runs["r0"]
    assert (run.experiment, run.name, run.status) == ("e0", "digits-1", "FINISHED")
    assert run.params == {"seed": "3", "train.epochs": "2"}
    assert run.metrics == [
        ("train/epoch", 2, 1.0), ("train/loss", 2, 0.5), ("train/accuracy", 2, 0.25),
        ("validation/epoch", 2, 1.0), ("validation/loss", 2, math.inf), ("validation/accuracy", 2, 0.75),
        ("train/epoch", 4, 2.0), ("train/loss", 4, 0.125), ("train/accuracy", 4, 1.0),
        ("test/loss", 4, 0.375),
    ]  # fmt: skip
    assert run.tags == {
        "fnn.folder": str(here / "run"),
        "fnn.status": "completed",
        "fnn.step": "4",
        "fnn.epoch": "2",
        "fnn.params": "7",
        "fnn.params_sha256": "abc",
    }


@pytest.mark.parametrize(
    ("status", "word"), [("interrupted", "KILLED"), ("diverged", "FAILED"), ("failed", "FAILED")]
)
def test_how_a_run_ended_is_said_in_mlflows_words(fake, about, told, status, word):
    told(mlflow(name="mine"), about(folder=None), summary={"status": status, "step": 4, "epoch": 2})
    assert (fake.runs["r0"].status, fake.runs["r0"].name) == (word, "mine")
    assert "fnn.folder" not in fake.runs["r0"].tags


def test_the_experiment_is_that_of_the_environment_where_none_is_named(fake, about, told, monkeypatch):
    told(mlflow(), about())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    told(mlflow(), about())
    told(mlflow(), about())
    told(mlflow("other"), about())
    assert list(fake.experiments) == ["Default", "mine", "other"]
    assert [run.experiment for run in fake.runs.values()] == ["e0", "e1", "e1", "e2"]


def test_a_run_that_goes_on_is_the_same_one_and_has_no_point_twice(fake, about, told):
    def record(step, loss):
        return {"step": step, "split": "train", "loss": loss}

    early = {"status": "interrupted", "step": 3, "epoch": 1}
    told(mlflow(), about(), [record(step, 1.0) for step in (1, 2, 3)], early)
    again = about(step=1, config={"seed": 1})  # parameters are fixed
    told(mlflow(), again, [record(step, 1.0) for step in (2, 3, 4)])
    (run,) = fake.runs.values()
    assert run.metrics == [*(("train/loss", step, 1.0) for step in (1, 2, 3, 4)), ("test/loss", 4, 0.375)]
    assert (run.status, run.params) == ("FINISHED", {"seed": "0"})
    told(mlflow(), about())
    assert len(fake.runs) == 2


def test_parameters_are_short_and_few_at_a_time(fake, about, told):
    config = {f"p{i}": i for i in range(250)} | {"model": ["relu"] * 200, "name": "x" * 600}
    told(mlflow(), about(config=config))
    params = fake.runs["r0"].params
    assert len(params) == 252
    assert params["p249"] == "249"
    assert params["model"] == json.dumps(["relu"] * 200)[:500]
    assert params["name"] == "x" * 500


def test_patterns_are_no_names_of_parameters():
    assert parameters({"a": {"b": {"c": 1}}, "d": {}, "e": {"*/kernel": 0.5}, "f": "é"}) == {
        "a.b.c": "1",
        "d": "{}",
        "e": '{"*/kernel": 0.5}',
        "f": "é",
    }


def test_an_mlflow_that_fails_is_a_warning(fake, about):
    def refuse(*arguments, **named):
        raise ConnectionError("no server")

    fake.log_batch = refuse
    with pytest.warns(LoggerWarning, match="mlflow failed .* begin: ConnectionError: no server"):
        Loggers({"mlflow": mlflow()}, about()).__enter__()


@pytest.mark.filterwarnings("ignore")  # other people's libraries
def test_mlflow_itself_holds_every_number(experiment, about, told, here):
    library = pytest.importorskip("mlflow", reason="needs mlflow")
    uri = f"sqlite:///{here}/runs.db"
    wanted = experiment(
        {"mlflow": {"experiment": "x", "uri": uri}},
        train={"epochs": 2, "batch_size": 4, "log_every": 1, "l2": {"*/kernel": 0.01}},
    )
    run = fnn.train(wanted, folder=lambda: RunFolder.create("run", "a"))
    client = library.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("x").experiment_id])
    known = json.loads((here / "run/loggers.json").read_text())
    assert (found.info.run_id, found.info.run_name, found.info.status) == (known["mlflow"], "run", "FINISHED")
    assert found.data.params["optimizer.sgd"] == "0.5"
    assert found.data.params["train.l2"] == '{"*/kernel": 0.01}'
    assert found.data.tags["fnn.params_sha256"] == run.summary["params_sha256"]
    stored = {
        (name, point.step): point.value
        for name in found.data.metrics
        for point in client.get_metric_history(found.info.run_id, name)
    }
    assert stored == {
        (f"{entry['split']}/{name}", entry["step"]): value
        for entry in [*run.log, {"split": "test", "step": 6, **run.summary["test"]}]
        for name, value in entry.items()
        if name not in ("split", "step", "confusion")
    }

    logger = mlflow("x", uri=uri)  # the same run goes on from step 5
    told(logger, about(step=5), [entry for entry in run.log if entry["step"] > 5], run.summary)
    assert len(client.search_runs([found.info.experiment_id])) == 1
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]
