"""fnn.training.loggers.wandb: what wandb is told, and what it writes itself where it is installed."""

from __future__ import annotations

import json
import struct
import time

import pytest

import fnn
from fnn.training import Loggers, LoggerWarning, RunFolder
from fnn.training.loggers import wandb

ANY_NOISE = pytest.mark.filterwarnings("ignore")  # other people's libraries


class Fake:
    """As much of wandb as is used; ``runs`` notes what each was given."""

    def __init__(self, install, step=0):
        self.runs = []
        install("wandb", init=self.init, Settings=dict)
        self.start = step

    def init(self, **given):
        self.runs.append(FakeRun(given, self.start))
        return self.runs[-1]


class FakeRun:
    def __init__(self, given, step):
        self.given, self.step, self.logged, self.summary, self.code = given, step, [], {}, None

    def log(self, figures, step):
        assert step >= self.step, "wandb drops what comes before its last step"
        self.step = step
        self.logged.append((step, figures))

    def finish(self, exit_code):
        self.code = exit_code


def test_what_a_run_tells(install, about, told):
    fake = Fake(install)
    told(wandb("digits", tags=["a"], group="g"), about(config={"seed": 3}))
    (run,) = fake.runs
    assert len(run.given.pop("id")) == 32
    assert run.given == {
        "project": "digits",
        "tags": ["a"],
        "group": "g",
        "name": "digits-1",
        "dir": str(about().folder),
        "config": {"seed": 3},
        "resume": "allow",
        "allow_val_change": True,
        "reinit": "create_new",
        "settings": {"console": "off"},
    }
    assert run.logged == [
        (2, {"train/epoch": 1, "train/loss": 0.5, "train/accuracy": 0.25}),
        (2, {"validation/epoch": 1, "validation/loss": float("inf"), "validation/accuracy": 0.75}),
        (4, {"train/epoch": 2, "train/loss": 0.125, "train/accuracy": 1.0}),
        (4, {"test/loss": 0.375}),
    ]
    assert run.summary == {
        "status": "completed", "step": 4, "epoch": 2, "params": 7, "params_sha256": "abc",
    }  # fmt: skip
    assert run.code == 0


def test_a_run_that_ends_early_is_not_finished_well(install, about, told):
    fake = Fake(install)
    told(wandb(name="mine"), about(folder=None), summary={"status": "interrupted", "step": 4, "epoch": 2})
    (run,) = fake.runs
    assert (run.given["name"], run.given["dir"], run.code) == ("mine", None, 1)
    assert run.summary == {"status": "interrupted", "step": 4, "epoch": 2}
    assert len(run.logged) == 3


def test_a_run_that_goes_on_is_the_same_one(install, about, told):
    fake = Fake(install)
    told(wandb(), about())
    told(wandb(), about(step=1))
    told(wandb(), about())
    first, same, new = (run.given["id"] for run in fake.runs)
    assert first == same != new


def test_what_wandb_has_already_is_not_logged_again(install, about, told):
    fake = Fake(install, step=3)
    told(wandb(), about(step=1))
    assert [step for step, _ in fake.runs[0].logged] == [4, 4]


def test_a_wandb_that_fails_is_a_warning(install, about):
    class Refusing(Fake):
        def init(self, **given):
            raise ConnectionError("no API key")

    Refusing(install)
    with pytest.warns(LoggerWarning, match="wandb failed .* begin: ConnectionError: no API key"):
        Loggers({"wandb": wandb()}, about()).__enter__()
    assert not (about().folder / "loggers.json").exists()


def chunks(data):
    """The records of a file of wandb's: LevelDB's log format below a head of 7 bytes."""
    at, parts = 7, []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + length > len(data):
            return  # not written to its end yet
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def written(file):
    """The records of a file; the last are written by a process of wandb's after ``finish`` came back."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 20
    while True:
        records = [Record.FromString(chunk) for chunk in chunks(file.read_bytes())]
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.01)


@pytest.fixture
def offline(here, monkeypatch):
    """The real library, without a network."""
    library = pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(here / "home"))
    return library


@ANY_NOISE
def test_wandb_itself_writes_every_number(offline, experiment, here):
    run = fnn.train(
        experiment({"wandb": {"project": "p", "tags": ["t"]}}), folder=lambda: RunFolder.create("run", "a")
    )
    (file,) = here.glob("run/wandb/offline-run-*/*.wandb")
    records = written(file)
    begun = next(record.run for record in records if record.HasField("run"))
    known = json.loads((here / "run/loggers.json").read_text())
    assert (begun.run_id, begun.project, begun.display_name) == (known["wandb"], "p", "run")
    assert list(begun.tags) == ["t"]
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["optimizer"] == {"sgd": 0.5}

    found = {}
    for record in records:
        for item in record.history.item if record.HasField("history") else ():
            name = item.key or "/".join(item.nested_key)
            if not name.startswith("_"):
                found[name, record.history.step.num] = json.loads(item.value_json)
    assert found == {
        (f"{entry['split']}/{name}", entry["step"]): pytest.approx(value)
        for entry in [*run.log, {"split": "test", "step": 6, **run.summary["test"]}]
        for name, value in entry.items()
        if name not in ("split", "step", "confusion")
    }
    assert [file.name for file in here.iterdir() if file.name != "home"] == ["run"]


@ANY_NOISE
def test_a_run_of_wandbs_that_the_user_has_open_stays_open(offline, experiment, here):
    mine = offline.init(project="mine", dir=str(here))
    fnn.train(experiment({"wandb": {"project": "p"}}))
    assert offline.run is mine
    mine.log({"x": 1.0})
    mine.finish()
