"""fnn.commands.resume: a run that was interrupted ends as if it never had been, to the bit."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.commands.resume import differences
from fnn.data import Dataset, Split, epoch_order
from fnn.experiment import read
from fnn.training import Checkpoints, CheckpointWarning, DivergedError, RunFolder, Stopped
from fnn.training.checkpoint import CheckpointError
from fnn.training.folder import FolderError
from fnn.training.weights import WeightsError

CONFIGS = Path(fnn.__file__).parents[1] / "configs"
EPOCH, EPOCHS = 6, 3  # 26 rows are 6 whole batches of 4; 2 rows are left out
TIMES = {"seconds", "examples_per_second"}

SGD = {"sgd": {"learning_rate": 0.05, "momentum": 0.9}}
COSINE = {"cosine_decay_schedule": {"init_value": 1e-2, "decay_steps": "100%"}}
SMALL = [{"dense": 3}]
MODEL = [{"dense": 6}, {"batch_norm": {}}, "relu", {"dropout": 0.3}, {"dense": 3}]
FEATURES = {"synthetic": {"shape": [5], "classes": 3, "size": 26}}
PICTURES = {"synthetic": {"shape": [4, 4, 1], "classes": 3, "size": 26}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def experiment(**sections):
    train = {"epochs": EPOCHS, "batch_size": 4, "log_every": 4, "checkpoint": {"every": 5, "spacing": 0}}
    given = {"data": {"source": FEATURES}, "model": SMALL, "optimizer": SGD, **sections}
    given["train"] = {**train, **sections.get("train", {})}
    return fnn.Experiment(**given)


def stop_after(steps):
    """Asked before the first step and after each one: calls do one step, see `pieces`."""
    asked = itertools.count()
    return lambda: next(asked) >= steps


def run(made, out, **options):
    return fnn.train(made, folder=lambda: RunFolder.resume(out), resume=True, **options)


def in_pieces(made, out, stops, monkeypatch, **options):
    """Interrupt a run after so many steps, each time, and then let it end."""
    with monkeypatch.context() as patch:
        patch.setattr("fnn.training.loop.CALL", 0)
        for steps in stops:
            with pytest.raises(Stopped):
                run(made, out, stopped=stop_after(steps), **options)
            assert json.loads((Path(out) / "summary.json").read_text())["status"] == "interrupted"
    return run(made, out, **options)


def records(out):
    lines = (Path(out) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def result(out):
    summary = json.loads((Path(out) / "summary.json").read_text())
    return {k: v for k, v in summary.items() if k not in ("seconds", "versions", "device")}


def same(one, other):
    assert records(one) == records(other)
    assert result(one) == result(other)


def equal_in_pieces(made, stops, monkeypatch, **options):
    whole = fnn.train(made, folder=lambda: RunFolder.create("whole", "x"), **options)
    parts = in_pieces(made, "pieces", stops, monkeypatch, **options)
    same("whole", "pieces")
    assert parts.summary["params_sha256"] == whole.summary["params_sha256"]
    return whole, parts


# ---------------------------------------------------------------- equal to the bit

EVERYTHING = {
    "data": {"source": PICTURES, "augment": [{"shift": 1}, "flip"]},
    "model": ["flatten", *MODEL],
    "optimizer": {"adamw": {"learning_rate": COSINE, "weight_decay": 1e-2}},
}
MIXED = {"source": PICTURES, "augment": ["flip", {"one_of": [{"mixup": 0.4}, "cutmix"]}]}
HELD_OUT = {"source": FEATURES, "validation": 0.3}
BEST = {"best": {"max": "accuracy"}, "patience": 2, "epochs": 5}

FAST = {
    "everything, in the middle of an accumulation": (
        {**EVERYTHING, "train": {"accumulate": 4, "ema": 0.9, "l2": 1e-3, "clip": 1.0}},
        [7, 2],
    ),
    "step by step, with validation and the best epoch": (
        {"data": HELD_OUT, "model": MODEL, "train": {"execution": {"mode": "step"}, **BEST}},
        [6, 3],
    ),
    "mixed examples": ({"data": MIXED, "model": ["flatten", *MODEL], "train": {"ema": 0.9}}, [8, 3]),
    "bfloat16": ({"model": MODEL, "precision": "bfloat16"}, [4]),
    "an optimiser that evaluates elsewhere": (
        {"optimizer": {"schedule_free": {"base_optimizer": {"sgd": 0.05}, "learning_rate": 0.05}}},
        [7],
    ),
    "a line search": ({"optimizer": {"lbfgs": {"memory_size": 3}}}, [5]),
    "patterns, and a random key in the optimiser's state": (
        {
            "optimizer": [
                {"clip_by_global_norm": 1.0},
                {
                    "multi_transform": {
                        "*/bias": {"noisy_sgd": {"learning_rate": 0.05, "key": 3}},
                        "*": {"adam": {"learning_rate": COSINE}},
                    }
                },
            ]
        },
        [11],
    ),
}


@pytest.mark.filterwarnings("ignore:precision is bfloat16")
@pytest.mark.parametrize("sections, stops", FAST.values(), ids=FAST)
def test_a_run_in_pieces_is_the_same_to_the_bit(sections, stops, monkeypatch):
    equal_in_pieces(experiment(**sections), stops, monkeypatch)


# Each has a layer of its own in one model; those after them see all parameters, or the loss.
BY_LAYER = {
    "adabelief": {"adabelief": 1e-2},
    "adadelta": {"adadelta": 1.0},
    "adafactor": {"adafactor": {"learning_rate": 1e-2, "min_dim_size_to_factor": 2}},
    "adagrad": {"adagrad": 0.1},
    "adam": {"adam": {"learning_rate": COSINE}},
    "adamw": {"adamw": {"learning_rate": COSINE, "weight_decay": 1e-2}},
    "add_noise": [{"add_noise": {"eta": 0.01, "gamma": 0.5, "key": 1}}, {"sgd": 0.05}],
    "dog": {"dog": {"init_step": ["heuristic", 1e-2]}},
    "lamb": {"lamb": 1e-2},
    "lion": {"lion": 1e-3},
    "muon": {"muon": 1e-2},
    "prodigy": {"prodigy": {"learning_rate": 1.0, "estim_lr0": 1e-2}},
    "reduce_on_plateau": [{"adam": 1e-2}, {"reduce_on_plateau": {"factor": 0.5, "patience": 2}}],
    "rmsprop": {"rmsprop": {"learning_rate": 1e-2, "momentum": 0.9, "centered": True}},
    "sgd": {"sgd": 0.1},
    "sgd with momentum": {"sgd": {"learning_rate": COSINE, "momentum": 0.9}},
    "sm3": {"sm3": 0.05},
    "yogi": {"yogi": 1e-2},
}
OPTIMIZERS = {
    "lbfgs": {"lbfgs": {}},
    "lookahead": {"lookahead": {"fast_optimizer": {"adam": 1e-2}, "sync_period": 4, "slow_step_size": 0.5}},
    "mechanize": {"mechanize": {"base_optimizer": {"sgd": 0.05}}},
    "sam": {
        "sam": {"optimizer": {"sgd": 0.05}, "adv_optimizer": {"sgd": 0.01}, "sync_period": 2},
    },
    "schedule_free_adamw": {"schedule_free_adamw": {"learning_rate": 1e-2, "warmup_steps": 3}},
    "sophia": {"sophia": 1e-3},
}
SETTINGS = {
    "scan": {},
    "convolution": {"model": [{"conv": {"features": 2, "kernel": 3}}, "relu", *EVERYTHING["model"]]},
    "step": {"train": {"execution": {"mode": "step"}}},
    "bfloat16": {"precision": "bfloat16", "train": {"ema": 0.9}},
    "validation": {"data": {**EVERYTHING["data"], "validation": 0.25}, "train": {**BEST, "ema": 0.5}},
    "skip": {"train": {"on_nonfinite": "skip", "log_every": 1}},
    "accumulate": {"train": {"accumulate": 3, "log_every": "1 epoch"}},
}
CASES = [(optimizer, "scan") for optimizer in OPTIMIZERS]
CASES += [(optimizer, "accumulate") for optimizer in ("lookahead", "sam")]
CASES += [("schedule_free_adamw", setting) for setting in SETTINGS]


def test_the_optimisers_of_the_configs_are_among_them():
    assert {next(iter(read(path).optimizer)) for path in CONFIGS.glob("*.yaml")} <= BY_LAYER.keys()


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_optimiser_is_the_same_to_the_bit(accumulate, monkeypatch):
    layers = {f"residual{i}/*": optimizer for i, optimizer in enumerate(BY_LAYER.values(), start=1)}
    made = experiment(
        model=[*[{"residual": [{"dense": 5}, "tanh"]} for _ in layers], {"dense": 3}],
        optimizer={"multi_transform": {**layers, "*": {"sgd": 0.1}}},
        train={"accumulate": accumulate},
    )
    equal_in_pieces(made, [7], monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:precision is bfloat16")
@pytest.mark.parametrize("optimizer, setting", dict.fromkeys(CASES))
def test_settings_are_the_same_to_the_bit(optimizer, setting, monkeypatch):
    sections = {**EVERYTHING, "optimizer": OPTIMIZERS[optimizer], **SETTINGS[setting]}
    equal_in_pieces(experiment(**sections), [7], monkeypatch)


# ---------------------------------------------------------------- what is killed, and where

STEPS = range(1, 13)


def test_wherever_the_log_was_cut_it_goes_on_without_gap_or_double(here):
    """After a kill the log may be ahead of the newest checkpoint, and its last line torn."""
    made = experiment(train={"log_every": 1})
    fnn.train(made, folder=lambda: RunFolder.create("whole", "x"))
    whole = Path("whole/metrics.jsonl").read_bytes()
    assert [path.name for path in sorted(Path("whole/checkpoints").iterdir())] == ["10", "15"]
    for end in (len(whole) - 5, whole.rindex(b'{"step": 17')):
        Path("whole/summary.json").unlink()
        Path("whole/metrics.jsonl").write_bytes(whole[:end])
        run(made, "whole")
        steps = [record["step"] for record in records("whole")]
        assert steps == list(range(1, EPOCH * EPOCHS + 1))


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew_and_says_so(monkeypatch):
    made = experiment(train={"checkpoint": {"every": None}})
    whole = fnn.train(made, folder=lambda: RunFolder.create("whole", "x"))

    def killed(record):
        if record["step"] == 8:
            raise SystemExit

    with pytest.raises(SystemExit):
        run(made, "pieces", on_log=killed)
    assert [record["step"] for record in records("pieces")] == [4, 8]
    said = []
    again = run(made, "pieces", on_message=said.append)
    assert said == ["pieces: there is no checkpoint yet: beginning at step 0"]
    same("whole", "pieces")
    assert again.summary["params_sha256"] == whole.summary["params_sha256"]


def test_a_folder_in_which_nothing_was_written_but_the_config_is_a_runs(here):
    """Nothing may be there before the config: a process can be killed between any two writes."""
    written = []

    class Spy(RunFolder):
        def write(self, name, content):
            written.append((name, sorted(path.name for path in self.path.iterdir())))
            super().write(name, content)

    Path("run").mkdir()
    fnn.train(experiment(), folder=lambda: Spy.resume("run"), resume=True)
    assert written[0] == ("config.yaml", [])


@fnn.register(group="logger")
class Writing:
    """A logger that writes where no config is yet, if it may."""

    def begin(self, run):
        self.there = sorted(path.name for path in run.folder.iterdir())
        (run.folder / "mine.txt").write_text(" ".join(self.there))

    def record(self, record):
        pass

    def end(self, summary):
        pass


def test_a_logger_begins_where_there_is_a_config(here):
    fnn.register(Writing, group="logger")
    run(experiment(log=["Writing"]), "run")
    assert Path("run/mine.txt").read_text() == "config.yaml"


def test_what_killed_processes_left_is_cleared(here):
    made = experiment()
    in_first = Path("run")
    in_first.mkdir()
    (in_first / ".config.yaml.abcd1234").write_text("seed")
    run(made, "run")
    whole = result("run")
    Path("run/summary.json").unlink()
    torn = [".summary.json.abcd1234", ".model.safetensors._bcd123x", ".metrics.jsonl.12345678"]
    for name in torn:
        (in_first / name).write_bytes(b"half")
    (in_first / ".config.yaml.swp").write_bytes(b"of an editor")
    saving = Path("run/checkpoints/.12.saving.orbax-checkpoint-tmp")
    saving.mkdir()
    (saving / "half").write_bytes(b"half")
    Path("run/checkpoints/kept by hand").mkdir()
    run(made, "run", stopped=lambda: False)
    assert result("run") == whole
    left = {path.name for path in in_first.rglob("*")}
    assert left & {*torn, ".config.yaml.abcd1234"} == set()
    assert {".config.yaml.swp", "kept by hand"} <= left


# ---------------------------------------------------------------- a run that has ended


def test_a_run_that_has_ended_is_returned_as_it_ended():
    made = experiment(train={"ema": 0.9})
    first = fnn.train(made, folder=lambda: RunFolder.create("run", "x"))
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    again = run(made, "run")
    assert again.summary == json.loads(Path("run/summary.json").read_text())
    assert fnn.digest(again.params, again.state) == first.summary["params_sha256"]
    assert [record["step"] for record in again.log] == [record["step"] for record in first.log]
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    Path("run/model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"run/model\.safetensors"):
        run(made, "run")


def test_more_epochs_go_on_from_where_the_run_ended():
    """With a schedule that does not depend on the length of the run it ends as if it had been so long."""
    every = {"checkpoint": {"every": "1 epoch", "spacing": 0}, "log_every": "1 epoch"}
    long = experiment(train={**every, "epochs": EPOCHS + 2})
    fnn.train(long, folder=lambda: RunFolder.create("whole", "x"))
    run(experiment(train=every), "pieces")
    said = []
    run(long, "pieces", on_message=said.append)
    assert said == [f"pieces: going on from step {EPOCH * EPOCHS}"]
    same("whole", "pieces")
    assert "epochs: 5\n" in Path("pieces/config.yaml").read_text()


def test_more_epochs_that_are_interrupted_have_not_ended():
    """The summary of the shorter run must not pass for that of the longer one."""
    run(experiment(), "run")
    long = experiment(train={"epochs": EPOCHS + 2})

    def killed(record):
        raise SystemExit

    with pytest.raises(SystemExit):
        run(long, "run", on_log=killed)
    assert not Path("run/summary.json").exists()
    assert run(long, "run").summary["epoch"] == EPOCHS + 2


def test_fewer_epochs_than_are_done_are_refused(monkeypatch):
    with pytest.raises(Stopped):
        in_pieces(experiment(), "run", [13], monkeypatch, on_message=lambda text: None)
        raise Stopped(0)
    Path("run/summary.json").unlink()
    before = Path("run/metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"train\.epochs: expected at least 3: step 15 of run is done"):
        run(experiment(train={"epochs": 1}), "run")
    assert Path("run/metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"status": "completed"', "\x00\xff", "3"])
def test_a_summary_that_cannot_be_read_is_as_none(text):
    made = experiment()
    whole = run(made, "run").summary["params_sha256"]
    Path("run/summary.json").write_text(text)
    assert run(made, "run").summary["params_sha256"] == whole


# ---------------------------------------------------------------- another config


def test_what_was_chosen_at_the_start_stays_chosen(monkeypatch):
    chosen = {"mode": "step", "kernels": "xla"}
    made = experiment(train={"execution": chosen})
    with pytest.raises(Stopped):
        run(made, "run", stopped=stop_after(0))
    monkeypatch.setattr("fnn.commands.execution.slow_in_a_loop", None)  # what would choose
    run(experiment(), "run")
    execution = read("run/config.yaml").train.execution
    assert (execution.mode, execution.kernels) == ("step", "xla")


def test_a_changed_config_is_refused_with_every_difference():
    run(experiment(), "run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    changed = experiment(seed=1, model=[{"dense": 4}], train={"l2": 0.1, "execution": {"mode": "step"}})
    with pytest.raises(ConfigError) as caught:
        run(changed, "run")
    assert str(caught.value) == (
        "run began with another config: seed: 0 -> 1; model.0.dense: 3 -> 4; train.l2: 0.0 -> 0.1; "
        "train.execution.mode: 'scan' -> 'step'; --fork goes on all the same"
    )
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_what_decides_no_bit_may_change(monkeypatch):
    whole = fnn.train(experiment())
    with pytest.raises(Stopped):
        in_pieces(experiment(), "run", [7], monkeypatch, on_message=lambda text: None)
        raise Stopped(0)
    Path("run/summary.json").unlink()
    changed = experiment(train={"log_every": 3, "checkpoint": {"every": "50%", "spacing": 0, "keep": 1}})
    assert run(changed, "run").summary["params_sha256"] == whole.summary["params_sha256"]


def test_fork_goes_on_with_another_config(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fnn.training.loop.CALL", 0)
        with pytest.raises(Stopped):
            run(experiment(), "run", stopped=stop_after(7))
    slower = {"sgd": {"learning_rate": 0.001, "momentum": 0.9}}
    changed = experiment(optimizer=slower, metrics=["accuracy", "confusion"], train={"log_every": 6})
    said = []
    forked = run(changed, "run", fork=True, on_message=said.append)
    assert said == ["run: going on from step 7"]
    assert forked.summary["params_sha256"] != fnn.train(experiment()).summary["params_sha256"]
    assert [record["step"] for record in records("run")] == [4, 12, 18]
    assert "confusion" in records("run")[-1]
    assert read("run/config.yaml").optimizer == slower


def test_a_fork_to_another_model_is_refused_with_every_array(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fnn.training.loop.CALL", 0)
        with pytest.raises(Stopped):
            run(experiment(), "run", stopped=stop_after(7))
    with pytest.raises(CheckpointError) as caught:
        run(experiment(model=[{"dense": {"features": 4, "bias": False}}]), "run", fork=True)
    assert str(caught.value).startswith("run/checkpoints/7: is of another model or optimizer: unknown ")
    for part in (
        "unknown params/dense1/bias",
        "params/dense1/kernel: expected float32[5, 4], got float32[5, 3]",
    ):
        assert part in str(caught.value)


def test_tuples_and_lists_are_one_in_a_config():
    made = experiment(data={"source": {"synthetic": {"shape": (5,), "classes": 3, "size": 26}}})
    run(made, "run")
    assert run(made, "run").summary["status"] == "completed"
    assert list(differences({"a": (1, 2)}, {"a": [1, 2]})) == []
    assert list(differences({"a": [1, 2]}, {"a": [1, 3]})) == ["a.1: 2 -> 3"]
    assert list(differences({"a": [1]}, {"a": [1, 3]})) == ["a: [1] -> [1, 3]"]
    assert list(differences({"a": 1}, {"b": 1})) == ["a: 1 -> nothing", "b: nothing -> 1"]


def test_the_order_of_patterns_is_a_difference():
    """The first that matches wins."""
    before = {"optimizer": {"multi_transform": {"*/bias": "sgd", "*": "adam"}}}
    now = {"optimizer": {"multi_transform": {"*": "adam", "*/bias": "sgd"}}}
    assert list(differences(before, now)) == ["optimizer.multi_transform: */bias before * -> * before */bias"]
    assert list(differences({"a": {"x": 1, "y": [{"z": 2}]}}, {"a": {"y": [{"z": 2}], "x": 1}})) == []


def test_a_folder_that_holds_something_else_is_refused():
    Path("home").mkdir()
    Path("home/letter.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"^home holds no run: expected config\.yaml, found letter\.txt$"):
        run(experiment(), "home")
    assert [path.name for path in Path("home").iterdir()] == ["letter.txt"]


def test_a_config_that_is_damaged_is_named():
    run(experiment(), "run")
    Path("run/config.yaml").write_text("seed: [\n")
    with pytest.raises(ConfigError, match=r"run/config\.yaml:\d"):
        run(experiment(), "run")


def test_a_log_that_is_damaged_is_named():
    run(experiment(), "run")
    Path("run/summary.json").unlink()
    good = Path("run/metrics.jsonl").read_bytes()
    Path("run/metrics.jsonl").write_bytes(good.replace(b'{"step": 8', b'{"step\x00 8'))
    with pytest.raises(FolderError, match=r"^run/metrics\.jsonl:2: is no record of a run$"):
        run(experiment(), "run")


# ---------------------------------------------------------------- damaged checkpoints


def test_a_run_goes_on_from_an_older_checkpoint_where_the_newest_is_damaged(here):
    made = experiment()
    whole = run(made, "run")
    records_before = records("run")
    assert Checkpoints(Path("run/checkpoints")).steps() == [10, 15]
    array = max(Path("run/checkpoints/15/ocdbt.process_0/d").iterdir(), key=lambda path: path.stat().st_size)
    damaged = bytearray(array.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    array.write_bytes(damaged)
    Path("run/summary.json").unlink()
    said = []
    with pytest.warns(
        CheckpointWarning, match=r"^run/checkpoints/15 is damaged: .* is not as it was written$"
    ):
        again = run(made, "run", on_message=said.append)
    assert said == ["run: going on from step 10"]
    assert again.summary["params_sha256"] == whole.summary["params_sha256"]
    assert records("run") == records_before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(Path("run/checkpoints")).newest().step == 15


def test_where_no_checkpoint_is_sound_nothing_is_deleted(here):
    run(experiment(), "run")
    for step in (10, 15):
        Path(f"run/checkpoints/{step}/manifest.json").unlink()
    Path("run/summary.json").unlink()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    error = (
        r"^run/checkpoints: no checkpoint is sound \(15: manifest\.json is missing; "
        r"10: manifest\.json is missing\); nothing was deleted$"
    )
    with pytest.warns(CheckpointWarning), pytest.raises(CheckpointError, match=error):
        run(experiment(), "run")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


# ---------------------------------------------------------------- steps that are not finite

SEED = 5


def with_inf(bad):
    """Data whose examples ``bad`` have an infinite input."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(26, 5)).astype(np.float32), rng.integers(0, 3, 26).astype(np.int32)
    x[list(bad)] = np.inf
    test = Split(rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32))
    return Dataset(Split(x, y), test, classes=("a", "b", "c"))


def by_hand(data, params, every=None, rate=0.1):
    """Gradient descent in NumPy: a step that is not finite is left out; with ``every`` the run goes back."""
    w, b = (np.asarray(params["dense1"][name], np.float64) for name in ("kernel", "bias"))
    base, losses, bad = (w, b), [], []
    for step in range(EPOCH * EPOCHS):
        rows = np.asarray(epoch_order(SEED, step // EPOCH, 26, 4))[step % EPOCH]
        x, y = data.train.inputs[rows].astype(np.float64), data.train.targets[rows]
        if not np.isfinite(x).all():
            bad.append(step + 1)
            if every is not None:
                w, b = base
        else:
            z = x @ w + b
            p = np.exp(z - z.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            losses.append(-np.log(p[np.arange(4), y]).mean())
            error = (p - np.eye(3)[y]) / 4
            w, b = w - rate * x.T @ error, b - rate * error.sum(0)
        if every is not None and (step + 1) % every == 0:
            base = (w, b)
    return w, b, losses, bad


def not_finite(action, **train):
    return experiment(
        seed=SEED,
        data={"source": "digits", "normalize": False},
        optimizer={"sgd": 0.1},
        train={"on_nonfinite": action, "log_every": 1, "checkpoint": {"every": 4, "spacing": 0}, **train},
    )


def first_params(made, data):
    """What the run begins with."""
    seen = []

    def stop(train_state, *rest):
        seen.append(jax.tree.map(np.asarray, train_state.params))
        raise Stopped(0)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("fnn.training.keeper.Keeper.begin", lambda self, *given: stop(*given))
        fnn.train(made, data=data)
    return seen[0]


@pytest.mark.parametrize("action, every", [("skip", None), ("rollback", 4)])
def test_steps_that_are_not_finite_are_left_out_as_in_numpy(action, every, monkeypatch):
    data, made = with_inf([3, 11]), not_finite(action)
    w, b, losses, bad = by_hand(data, first_params(made, data), every)
    assert len(bad) >= 3, "the seed leaves the bad examples out"
    said = []
    ended = fnn.train(made, data=data, folder=lambda: RunFolder.create("whole", "x"), on_message=said.append)
    np.testing.assert_allclose(ended.params["dense1"]["kernel"], w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ended.params["dense1"]["bias"], b, rtol=1e-4, atol=1e-5)
    log = records("whole")
    assert [record["step"] for record in log] == list(range(1, EPOCH * EPOCHS + 1))
    assert [record["step"] for record in log if record["loss"] is None] == bad
    np.testing.assert_allclose([r["loss"] for r in log if r["loss"] is not None], losses, rtol=1e-4)
    if action == "skip":
        assert ended.summary["skipped"] == len(bad) == log[-1]["skipped"]
        assert said == []
    else:
        assert len(said) == len(bad)
        back = bad[0] - 1 - (bad[0] - 1) % 4
        assert said[0].endswith(
            f"at step {bad[0]}: try a smaller learning rate, or train.clip: back to step {back}; "
            "the batches since then are left out"
        )
    # interrupted on both sides of the first bad step, and right after it
    for i, stops in enumerate([[bad[0] - 1, 2], [bad[0]]]):
        in_pieces(made, f"pieces{i}", stops, monkeypatch, data=data, on_message=lambda text: None)
        same("whole", f"pieces{i}")


def test_after_a_step_that_was_skipped_a_record_is_the_same_in_pieces(monkeypatch):
    """Records over many steps, resumed where the next step is one that is skipped, and saved again there."""
    data = with_inf([3, 11])
    made = not_finite("skip", log_every=9, checkpoint={"every": 1, "spacing": 0}, ema=0.9)
    *_, bad = by_hand(data, first_params(made, data))
    fnn.train(made, data=data, folder=lambda: RunFolder.create("whole", "x"))
    in_pieces(made, "pieces", [bad[0] - 1, 1, 1], monkeypatch, data=data)
    same("whole", "pieces")


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_the_average_counts_the_steps_that_were_made(action):
    """A step that is left out is no value of the average, nor of its correction."""
    data, made = (
        with_inf([3, 11]),
        not_finite(action, ema=0.99, epochs=1, checkpoint={"every": 1, "spacing": 0}),
    )
    params = first_params(made, data)
    total, weight, path = np.zeros((5, 3)), 0.0, []
    w, b = (np.asarray(params["dense1"][name], np.float64) for name in ("kernel", "bias"))
    for rows in np.asarray(epoch_order(SEED, 0, 26, 4)):
        x, y = data.train.inputs[rows].astype(np.float64), data.train.targets[rows]
        if np.isfinite(x).all():
            z = np.exp(x @ w + b)
            error = (z / z.sum(1, keepdims=True) - np.eye(3)[y]) / 4
            w, b = w - 0.1 * x.T @ error, b - 0.1 * error.sum(0)
            total, weight = 0.99 * total + 0.01 * w, 0.99 * weight + 0.01
            path.append(w)
    assert 0 < len(path) < EPOCH, "the seed leaves the bad examples out of the first epoch"
    ended = fnn.train(made, data=data, on_message=lambda text: None)
    np.testing.assert_allclose(ended.params["dense1"]["kernel"], total / weight, rtol=1e-4, atol=1e-5)


def test_an_average_of_nothing_is_the_parameters():
    data, made = with_inf(range(26)), not_finite("skip", ema=0.9, epochs=1)
    ended = fnn.train(made, data=data)
    assert ended.summary["skipped"] == EPOCH
    np.testing.assert_array_equal(
        ended.params["dense1"]["kernel"], first_params(made, data)["dense1"]["kernel"]
    )


def test_a_run_that_only_skips_ends_after_ten_steps():
    with pytest.raises(DivergedError, match=r"at step 11, and 10 steps before it were skipped") as caught:
        fnn.train(not_finite("skip"), data=with_inf(range(26)), folder=lambda: RunFolder.create("run", "x"))
    assert caught.value.step == 11
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("diverged", 11)


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_run_goes_back_three_times_to_the_same_state_and_no_more(every, monkeypatch):
    """Also where it is saved in between: that is no other state."""
    made = not_finite("rollback", checkpoint={"every": every, "spacing": 0})
    said = []
    with pytest.raises(DivergedError, match="at step 4") as caught:
        run(made, "run", data=with_inf(range(26)), on_message=said.append)
    assert caught.value.step == 4
    assert len([text for text in said if "back to step" in text]) == 3
    with monkeypatch.context() as patch:
        patch.setattr("fnn.training.loop.CALL", 0)
        with pytest.raises(Stopped):
            run(made, "pieces", data=with_inf(range(26)), stopped=stop_after(2))
    with pytest.raises(DivergedError, match="at step 4"):
        run(made, "pieces", data=with_inf(range(26)))


def test_a_run_stops_at_the_first_step_that_is_not_finite():
    data, made = with_inf([3, 11]), not_finite("stop")
    *_, bad = by_hand(data, first_params(made, data))
    with pytest.raises(DivergedError) as caught:
        fnn.train(made, data=data)
    assert caught.value.step == bad[0]


# ---------------------------------------------------------------- the best epoch


@pytest.mark.parametrize("best", [{"min": "loss"}, pytest.param({"max": "accuracy"}, marks=pytest.mark.slow)])
def test_a_run_ends_with_the_best_epoch_found_independently(best, monkeypatch):
    """Each epoch's model is that of a run of so many; patience counts epochs without a better figure."""
    ((direction, name),) = best.items()
    sections = {"data": HELD_OUT, "optimizer": {"sgd": 0.5}, "model": MODEL}
    most, patience = 8, 2
    ended = {}

    def after(epochs):
        made = experiment(**sections, train={"epochs": epochs, "log_every": "1 epoch"})
        return fnn.train(made)

    figures = [r[name] for r in after(most).log if r["split"] == "validation"]
    sign = 1 if direction == "min" else -1
    chosen = last = 0
    for epoch, figure in enumerate(figures):
        last = epoch
        if sign * figure < sign * figures[chosen]:
            chosen = epoch
        if epoch - chosen >= patience:
            break
    assert 0 <= chosen < last
    made = experiment(
        **sections, train={"epochs": most, "best": best, "patience": patience, "log_every": "1 epoch"}
    )
    ended = fnn.train(made, folder=lambda: RunFolder.create("run", "x"))
    steps = ended.summary["best"]["step"] // (chosen + 1)
    assert ended.summary["best"] == {"step": steps * (chosen + 1), "epoch": chosen + 1, name: figures[chosen]}
    assert ended.summary["epoch"] == last + 1
    assert ended.summary["params_sha256"] == after(chosen + 1).summary["params_sha256"]
    kept = Checkpoints(Path("run/checkpoints")).steps()
    assert steps * (chosen + 1) in kept
    same_again = run(made, "run")
    assert fnn.digest(same_again.params, same_again.state) == ended.summary["params_sha256"]
    assert jnp.shape(ended.params["dense1"]["kernel"]) == (5, 6)


def test_without_a_folder_there_is_nothing_to_resume():
    with pytest.raises(ConfigError, match=r"^expected a folder to resume the run from, got none$"):
        fnn.train(experiment(), resume=True)
