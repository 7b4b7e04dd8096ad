"""fnn debug: a run that diverges is gone through again, to the bit, and what failed first is said."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import cli
from fnn.commands import debug as module
from fnn.commands.debug import DebugError, debug
from fnn.data import Dataset, Split, epoch_order
from fnn.experiment import check
from fnn.training import Checkpoints, CheckpointWarning, DivergedError, RunFolder, inspect
from fnn.training.snapshot import below, take

N, BATCH, AT = 40, 8, 4
ORDER = np.asarray(epoch_order(0, 0, N, BATCH))
BAD = int(ORDER[AT - 1, 5])  # the example that only the step AT sees, in the first epoch


@pytest.fixture(autouse=True)
def parts():
    """A layer and data that a config can name; the tests of this file plant faults with them."""
    fnn.register(fnn.stateless("log", lambda params, x: jnp.log(x)))
    fnn.register(fnn.stateless("root", lambda params, x: jnp.sqrt(x)))

    @fnn.register(group="source")
    def planted(pixel: float = 1.0, target: float = 0.0) -> Dataset:
        """Positive features; one example has a pixel and a target of its own."""
        rng = np.random.default_rng(0)
        x = rng.uniform(0.5, 2, (N, 3)).astype(np.float32)
        y = rng.uniform(-1, 1, (N, 2)).astype(np.float32)
        x[BAD, 1], y[BAD, 0] = pixel, target
        return Dataset(Split(x, y), Split(x[:1], y[:1]))


def experiment(model, source="planted", every=2, **sections):
    given = {
        "data": {"source": source, "normalize": False},
        "model": model,
        "loss": "squared_error",
        "optimizer": {"sgd": 0.01},
    }
    train = {
        "epochs": 2,
        "batch_size": BATCH,
        "log_every": 1,
        "execution": {"mode": sections.pop("mode", "scan")},
        "checkpoint": {"every": every, "spacing": 0, "keep": 9},
    }
    return check({**given, "train": train | sections.pop("train", {}), **sections})


def diverged(folder, *arguments, **sections):
    """Train until the run diverges: the step at which it does."""
    with pytest.raises(DivergedError) as caught:
        fnn.train(experiment(*arguments, **sections), folder=lambda: RunFolder.create(folder, "config"))
    return caught.value.step


FORMS = pytest.mark.parametrize("mode, every", [("scan", 2), ("scan", None), ("step", 2), ("step", None)])


@pytest.mark.slow
@FORMS
def test_a_layer_that_fails_for_one_example_is_named_with_its_index(tmp_path, mode, every):
    """With batch norm above it, in bfloat16, with dropout."""
    model = ["log", {"dense": 4}, "batch_norm", "relu", {"dropout": 0.5}, {"dense": 2}]
    source = {"planted": {"pixel": -1.0}}
    step = diverged(tmp_path / "run", model, source, every, mode=mode, precision="bfloat16")
    report = debug(tmp_path / "run")
    assert (report.step, step, report.epoch) == (AT, AT, 1)
    assert report.replayed_from == (0 if every is None else 2)
    assert report.failure == "the loss is nan"
    assert (report.findings.fault.stage, report.findings.fault.path) == ("forward", "log1")
    assert report.batch == tuple(ORDER[AT - 1].tolist())
    assert report.examples == {"input": (), "activation": (BAD,), "loss": report.batch}
    assert report.notes == ()
    text = str(report)
    assert f"not finite: activation  {BAD}\n" in text
    assert "first: forward" in text
    assert "→ log1" in text


def test_the_state_before_the_step_is_that_of_the_run_to_the_bit(tmp_path, monkeypatch):
    """Replayed from two steps before, it is the one that the run itself saved."""
    model = [{"dense": 4}, "batch_norm", "relu", {"dropout": 0.5}, {"dense": 2}]
    train = {"accumulate": 2, "ema": 0.9, "clip": 1.0}
    made = experiment(model, every=1, mode="step", train=train)
    run = fnn.train(made, folder=lambda: RunFolder.create(tmp_path / "run", "config"))
    saved = Checkpoints(tmp_path / "run" / "checkpoints").newest(before=8)
    arrays = below("train", saved.read())
    for step in (6, 7, 8, 9, 10):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step), ignore_errors=True)
    seen = []
    monkeypatch.setattr(module, "inspect", lambda *given: seen.append(given) or inspect(*given))
    report = debug(tmp_path / "run", step=8)
    assert (saved.step, report.replayed_from, report.epoch, report.failure) == (7, 5, 2, None)
    replayed = take(seen[0][1])
    assert replayed.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(replayed[name], array, err_msg=name)
    record = next(r for r in run.log if r["step"] == 8)
    for name, value in report.findings.scalars.items():
        np.testing.assert_allclose(value, record[name], rtol=1e-5, err_msg=name)
    assert report.findings.fault is None
    assert report.learning_rate == record["learning_rate"]
    assert "everything is finite" in str(report)


@pytest.mark.slow
def test_a_mixed_step_is_replayed_with_its_mixture(tmp_path):
    """The loss of the step is the run's, and a bad example spoils its partner, too."""
    model = [{"dense": 4}, "relu", {"dense": 2}]
    data = {"source": "planted", "normalize": False, "augment": [{"mixup": 1.0}]}
    run = fnn.train(
        experiment(model, data=data), folder=lambda: RunFolder.create(tmp_path / "sound", "config")
    )
    report = debug(tmp_path / "sound", step=8)
    record = next(r for r in run.log if r["step"] == 8)
    for name, value in report.findings.scalars.items():
        np.testing.assert_allclose(value, record[name], rtol=1e-5, err_msg=name)
    data["source"] = {"planted": {"target": float("inf")}}
    assert diverged(tmp_path / "run", model, data=data) == AT
    report = debug(tmp_path / "run")
    assert (report.step, report.findings.fault.stage) == (AT, "loss")
    assert BAD in report.examples["loss"]
    assert len(report.examples["loss"]) <= 2


FAULTS = {
    "data": ([{"dense": 2}], {"planted": {"pixel": np.inf}}, ("input", ""), ("input", "activation", "loss")),
    "loss": ([{"dense": 2}], {"planted": {"target": 1e30}}, ("loss", ""), ("loss",)),
}


@pytest.mark.slow
@FORMS
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["data", "loss"])
def test_a_bad_example_is_found_by_its_index(tmp_path, name, mode, every, precision):
    model, source, (stage, path), places = FAULTS[name]
    step = diverged(tmp_path / "run", model, source, every, mode=mode, precision=precision)
    report = debug(tmp_path / "run")
    assert (report.step, report.findings.fault.stage, report.findings.fault.path) == (AT, stage, path)
    assert {what: found for what, found in report.examples.items() if found} == dict.fromkeys(places, (BAD,))
    assert step == AT


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode, every, precision",
    [
        ("scan", 2, "float32"),
        ("scan", None, "bfloat16"),
        ("step", 2, "bfloat16"),
        ("step", None, "float32"),
    ],
)
def test_a_learning_rate_that_grows_ends_in_an_overflow(tmp_path, mode, every, precision):
    growing = {"exponential_decay": {"init_value": 0.1, "transition_steps": 1, "decay_rate": 100.0}}
    model = [{"dense": 4}, "relu", {"dense": 4}, "relu", {"dense": 2}]
    optimizer = {"sgd": {"learning_rate": growing}}
    step = diverged(tmp_path / "run", model, every=every, mode=mode, precision=precision, optimizer=optimizer)
    report = debug(tmp_path / "run")
    assert (report.step, report.notes) == (step, ())
    assert report.failure is not None
    assert report.findings.fault is not None
    assert report.learning_rate == pytest.approx(0.1 * 100.0 ** (step - 1))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["scan", "step"])
def test_a_gradient_that_fails_alone_is_told_from_the_forward_pass(tmp_path, mode):
    """The root of a product with an example of zeros: its value is 0, its derivative infinite."""
    model = [{"dense": {"features": 2, "bias": False}}, "root", {"dense": 2}]

    @fnn.register(group="source")
    def zeros() -> Dataset:
        x = np.zeros((N, 3), np.float32)
        return Dataset(Split(x, np.ones((N, 2), np.float32)), Split(x[:1], np.ones((1, 2), np.float32)))

    assert diverged(tmp_path / "run", model, "zeros", mode=mode) == 1
    report = debug(tmp_path / "run")
    assert (report.findings.fault.stage, report.findings.fault.path) == ("backward", "root1")
    assert report.replayed_from == 0
    assert report.failure == "the gradient norm is nan"


@pytest.mark.slow
@pytest.mark.parametrize("mode, every", [("scan", 1), ("scan", None), ("step", 1), ("step", None)])
def test_a_schedule_that_becomes_nan_is_the_optimizer_s(tmp_path, mode, every):
    rate = {"exponential_decay": {"init_value": 0.1, "transition_steps": 2, "decay_rate": -0.5}}
    optimizer = {"sgd": {"learning_rate": rate}}
    step = diverged(tmp_path / "run", [{"dense": 2}], every=every, mode=mode, optimizer=optimizer)
    report = debug(tmp_path / "run")
    assert step == report.step == 2
    assert (report.findings.fault.stage, report.findings.fault.path) == ("optimizer", "dense1/bias")
    assert np.isnan(report.learning_rate)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["skip", "rollback"])
def test_a_run_that_leaves_steps_out_is_gone_through_with_them_left_out(tmp_path, how):
    """The bad example is left out; the steps after it are the run's own."""
    model = ["log", {"dense": 4}, "batch_norm", {"dense": 2}]
    made = experiment(model, {"planted": {"pixel": -1.0}}, train={"on_nonfinite": how})
    run = fnn.train(made, folder=lambda: RunFolder.create(tmp_path / "run", "config"))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    failed = debug(tmp_path / "run", step=AT)
    assert failed.findings.fault.path == "log1"
    assert failed.failure is not None
    after = debug(tmp_path / "run", step=AT + 2)
    record = next(r for r in run.log if r["step"] == AT + 2)
    np.testing.assert_allclose(after.findings.scalars["parameter_norm"], record["parameter_norm"], rtol=1e-6)


@pytest.mark.slow
def test_training_examples_that_spoil_the_normalisation_are_named(tmp_path):
    data = {"source": {"planted": {"pixel": np.inf}}, "normalize": True}
    with pytest.warns(RuntimeWarning):
        step = diverged(tmp_path / "run", [{"dense": 2}], data=data)
    with pytest.warns(RuntimeWarning):
        report = debug(tmp_path / "run")
    assert (step, report.findings.fault.stage) == (1, "input")
    assert report.notes == (f"the normalisation is not finite, as these training examples are not: {BAD}",)


@pytest.mark.slow
def test_damaged_checkpoints_and_a_replay_that_does_not_fail_are_said(tmp_path):
    run, model = tmp_path / "run", ["log", {"dense": 2}]
    diverged(run, model, {"planted": {"pixel": -1.0}})
    (run / "checkpoints" / "2" / "manifest.json").unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("-1.0", "1.0"))
    told = []
    with pytest.warns(CheckpointWarning):
        report = debug(run, on_message=told.append)
    assert told == [
        f"{run / 'checkpoints'}: no checkpoint is sound (2: manifest.json is missing); nothing was deleted; "
        "replayed from the beginning"
    ]
    assert (report.replayed_from, report.failure, report.findings.fault) == (0, None, None)
    assert report.notes == ("the run diverged at this step, and the replay does not",)


# ---------------------------------------------------------------- what is typed

CONFIG = """\
data: {source: {planted: {pixel: -1.0}}, normalize: false}
model: [log, {dense: 2}]
loss: squared_error
optimizer: {sgd: 0.01}
train: {epochs: 1, batch_size: 8, checkpoint: {every: 2, spacing: 0}}
"""


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Run ``fnn`` in an empty folder: its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def test_the_line_of_a_run_that_diverged_says_how_to_go_on_and_so_it_does(typed):
    """By a relative path, as is typed; with --json, and beyond the step."""
    Path("config.yaml").write_text(CONFIG)
    Path("nothing_in_it.py").touch()
    code, _, err = typed("train", "config.yaml", "--out", "run", "--import", "nothing_in_it")
    assert code == 1
    line = err.splitlines()[-1]
    assert line.startswith(f"error: the loss is nan at step {AT}: ")
    assert line.endswith("; fnn debug run --import nothing_in_it says where")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    code, out, _ = typed("debug", "run", "--import", "nothing_in_it", "--json")
    found = json.loads(out)
    assert (code, found["step"], found["replayed_from"]) == (0, AT, 2)
    assert found["findings"]["fault"]["path"] == "log1"
    assert found["examples"]["activation"] == [BAD]
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before
    code, _, err = typed("debug", "run", "--step", AT + 1)
    assert code == 2
    last = f"error: run: the loss is nan at step {AT}, before step {AT + 1}: --step {AT} takes that one apart"
    assert err.splitlines()[-1] == last


def summarised(folder, text):
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    if text is not None:
        (folder / "summary.json").write_text(text)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "there is no summary.json, so the run has not ended: --step N takes"),
        ('{"status": "completed", "step": 5}', "the run has not diverged, its status is completed: --step N"),
        ("{", "cannot be read"),
        ('{"status": "diverged", "step": 6}', "expected a step from 1 to 5, got 6"),
    ],
)
def test_a_run_without_such_a_step_is_one_clear_line(typed, tmp_path, text, message):
    summarised(tmp_path / "run", text)
    code, out, err = typed("debug", "run")
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: run")


def test_what_is_no_run_is_one_clear_line(typed, tmp_path):
    code, _, err = typed("debug", "nowhere")
    assert (code, err) == (2, "error: nowhere: holds no run: expected config.yaml in it\n")
    with pytest.raises(DebugError, match="holds no run"):
        debug(tmp_path)
