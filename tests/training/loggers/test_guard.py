"""fnn.training.loggers.guard: in which order loggers are called, and that none of them stops a run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import fnn
from fnn import document
from fnn.experiment import read
from fnn.training import DivergedError, Loggers, LoggerWarning, RunFolder, RunInfo, Stopped

CALLS = ("begin", "record", "end")
RUN = RunInfo("a", None, {"seed": 0})


class Noting:
    """Notes its calls; raises an exception in some of them."""

    def __init__(self, fails=(), error=None):
        self.calls, self.fails, self.error = [], fails, error or RuntimeError("no\nnetwork")

    def _note(self, call, what):
        self.calls.append((call, what))
        if call in self.fails:
            raise self.error

    def begin(self, run):
        self._note("begin", run)

    def record(self, record):
        self._note("record", record)

    def end(self, summary):
        self._note("end", summary)


def record(step):
    return {"step": step, "epoch": 1, "split": "train", "loss": 0.5}


def ended(error):
    """What a logger is told at the end of a run that an exception ends after a record."""
    logger = Noting()
    with pytest.raises(type(error)), Loggers({"noting": logger}, RUN) as loggers:
        loggers.record(record(3))
        raise error
    return logger.calls[-1]


@pytest.fixture
def registered(registered):
    """Loggers of these tests, known to configs as ``first``, ``noting`` and ``last``."""
    made = {"first": Noting(), "noting": Noting(), "last": Noting()}
    for name, logger in made.items():

        def constructor(logger=logger):
            return logger

        constructor.__name__ = constructor.__qualname__ = name
        fnn.register(group="logger")(constructor)
    return made


# ---------------------------------------------------------------- the calls


def test_a_run_is_told_from_its_beginning_to_its_end(registered, experiment):
    wanted = experiment("noting", train={"epochs": 2, "batch_size": 4, "log_every": 2})
    heard = []

    def on_log(record):
        written = Path("runs/mine/metrics.jsonl").read_text().splitlines()
        heard.append((len(written), len(registered["noting"].calls), record))

    Path("runs").mkdir()
    run = fnn.train(wanted, folder=lambda: RunFolder.create("runs/mine", "a"), on_log=on_log)
    (first, about), *records, (last, summary) = registered["noting"].calls
    assert (first, last, {call for call, _ in records}) == ("begin", "end", {"record"})
    assert (about.name, about.folder, about.step) == ("mine", Path("runs/mine"), 0)
    written = read("runs/mine/config.yaml")
    assert about.config == written.model_dump()
    assert about.config["train"]["execution"]["mode"] != "auto"
    assert [record for _, record in records] == run.log
    assert summary == run.summary == json.loads(Path("runs/mine/summary.json").read_text())
    assert heard == [(i, i + 1, entry) for i, entry in enumerate(run.log, start=1)], "metrics.jsonl is first"


@pytest.mark.parametrize(("source", "name"), [("digits.yaml", "digits"), (None, "run")])
def test_without_a_folder_a_run_has_the_name_of_its_config(registered, experiment, source, name):
    wanted = experiment("noting")
    if source is not None:
        Path(source).write_text(document.write(wanted.model_dump()))
        wanted = read(source)
    registered["noting"].fails, registered["noting"].error = ["begin"], KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):  # before anything is compiled
        fnn.train(wanted)
    ((_, about),) = registered["noting"].calls
    assert (about.name, about.folder) == (name, None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DivergedError("the loss is nan", step=3), "diverged"),
        (KeyboardInterrupt(), "interrupted"),
        (Stopped(step=3), "interrupted"),
        (SystemExit(143), "interrupted"),
        (OSError("no space left on device"), "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_run_that_ends_early_says_how(error, status):
    assert ended(error) == ("end", {"status": status, "step": 3, "epoch": 1})


def test_the_end_is_told_once():
    logger = Noting(["end"], KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Loggers({"noting": logger}, RUN) as loggers:
        loggers.end({"status": "completed"})
    assert [call for call, _ in logger.calls] == ["begin", "end"]


# ---------------------------------------------------------------- those that fail


def go(loggers):
    """A run of three records."""
    with Loggers(loggers, RUN) as told:
        for step in (1, 2, 3):
            told.record(record(step))
        told.end({"status": "completed"})


@pytest.mark.parametrize(("call", "heard"), [("begin", 1), ("record", 2), ("end", 5)])
def test_a_logger_that_fails_is_one_warning_and_is_not_called_again(call, heard):
    broken, last = Noting([call]), Noting()
    with pytest.warns(LoggerWarning) as caught:
        go({"broken": broken, "last": last})
    (warning,) = caught
    assert str(warning.message) == (
        f"the logger broken failed and is not called again, the run goes on; {call}: RuntimeError: no network"
    )
    assert [name for name, _ in last.calls] == ["begin", "record", "record", "record", "end"]
    assert broken.calls == last.calls[:heard]


def test_those_that_fail_in_every_call_change_no_bit_of_a_run(registered, experiment):
    plain = fnn.train(experiment())
    for name, call in zip(registered, CALLS, strict=True):
        registered[name].fails = [call]
    with pytest.warns(LoggerWarning) as caught:
        run = fnn.train(experiment("first", "noting", "last"))
    assert [str(w.message).split()[2] for w in caught] == ["first", "noting", "last"]
    assert run.summary["params_sha256"] == plain.summary["params_sha256"]
    assert run.summary["test"] == plain.summary["test"]
    assert [entry["loss"] for entry in run.log] == [entry["loss"] for entry in plain.log]


def test_a_logger_that_changes_what_it_is_given_changes_nothing():
    class Spoiling(Noting):
        def begin(self, run):
            run.config.clear()

        def record(self, record):
            record["confusion"][0].clear()
            record.clear()

        end = record

    last, given = Noting(), {**record(1), "confusion": [[1]]}
    with Loggers({"spoiling": Spoiling(), "last": last}, RunInfo("a", None, {"seed": 0})) as loggers:
        loggers.record(given)
        loggers.end(given)
    assert [what for _, what in last.calls] == [RunInfo("a", None, {"seed": 0}), given, given]
    assert given == {**record(1), "confusion": [[1]]}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_inside_of_a_logger_is_the_runs(call):
    with (
        pytest.raises(KeyboardInterrupt),
        Loggers({"noting": Noting([call], KeyboardInterrupt())}, RUN) as loggers,
    ):
        loggers.record(record(1))
        loggers.end({"status": "completed"})


def test_without_loggers_nothing_is_told_and_listeners_are():
    heard = []
    with warnings.catch_warnings(), Loggers({}, RUN) as loggers:
        warnings.simplefilter("error")
        loggers.before(heard.append)(record(1))
        loggers.before(None)(record(2))
        loggers.end({})
    assert heard == [record(1)]
