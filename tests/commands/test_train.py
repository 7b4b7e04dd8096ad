"""fnn.train: a run, its folder, and what makes it the same run again."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

import fnn
from fnn.choices import ConfigError
from fnn.data import Dataset, Split
from fnn.experiment import build, check, read
from fnn.training import DivergedError, RunFolder, load_weights
from fnn.training.advance import compile_steps

CONFIGS = Path(fnn.__file__).parents[1] / "configs"

BASE = """\
# the run that most of these tests look at
data: {source: {synthetic: {shape: [6], classes: 3, size: 50}}, validation: 0.2}
model: [{dense: 8}, batch_norm, relu, {dense: {features: 3, name: head}}]
optimizer: {sgd: {learning_rate: {linear_schedule: {init_value: 0.1, end_value: 0, transition_steps: 100%}}}}
train: {epochs: 2, batch_size: 8, log_every: 2}
"""


def small(**sections):
    """A linear model on 16 rows: two batches of 8."""
    given = {
        "data": {"source": {"synthetic": {"shape": [5], "classes": 3, "size": 16}}},
        "model": [{"dense": 3}],
        "optimizer": {"sgd": 0.5},
    }
    train = {"epochs": 1, "batch_size": 8, "log_every": 1} | sections.pop("train", {})
    return check({**given, "train": train, **sections})


def into(folder):
    return lambda: RunFolder.create(folder, "config")


def tensors(folder):
    """Every array of a run's weights, by name, and the metadata."""
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def sha256(arrays):
    """The hash as its definition says: names, shapes, dtypes and bytes, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(name for name in arrays if not name.startswith("raw/")):
        array = arrays[name]
        sha.update(f"{name} {array.shape} {array.dtype}\n".encode() + array.tobytes())
    return sha.hexdigest()


def close(got, wanted, rtol=1e-5, atol=1e-6):
    got, wanted = fnn.paths(got), fnn.paths(wanted)
    assert list(got) == list(wanted)
    for path in wanted:
        np.testing.assert_allclose(got[path], wanted[path], rtol=rtol, atol=atol, err_msg=path)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A finished run, with its folder and its config."""
    home = tmp_path_factory.mktemp("base")
    (home / "base.yaml").write_text(BASE)
    records = []
    experiment = read(home / "base.yaml", ["seed=3"])
    run = fnn.train(experiment, folder=into(home / "run"), on_log=records.append)
    assert records == run.log
    return run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------- the folder


def test_the_folder_holds_the_files_of_a_run_and_no_other(base):
    assert sorted(file.name for file in base.folder.iterdir() if file.is_file()) == [
        "config.yaml",
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
    ]


def test_metrics_are_the_log_line_by_line(base):
    lines = [json.loads(line) for line in (base.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == base.log
    train = [line for line in lines if line["split"] == "train"]
    assert [(line["step"], line["epoch"]) for line in train] == [(2, 1), (4, 1), (6, 2), (8, 2), (10, 2)]
    for line in train:
        assert set(line) == {
            "step", "epoch", "split", "loss", "accuracy", "learning_rate", "gradient_norm", "update_norm",
            "parameter_norm", "examples_per_second", "seconds",
        }  # fmt: skip
        np.testing.assert_allclose(line["learning_rate"], 0.1 * (1 - (line["step"] - 1) / 10), rtol=1e-6)


def test_the_validation_part_is_logged_after_each_epoch(base):
    validation = [record for record in base.log if record["split"] == "validation"]
    assert [(record["step"], record["epoch"]) for record in validation] == [(5, 1), (10, 2)]
    assert all(set(record) == {"step", "epoch", "split", "loss", "accuracy"} for record in validation)


def test_the_summary_says_how_it_ended(base):
    summary = json.loads((base.folder / "summary.json").read_text())
    assert summary == base.summary
    assert set(summary) == {
        "status", "step", "epoch", "test", "params", "params_sha256", "seconds", "versions", "device",
    }  # fmt: skip
    assert (summary["status"], summary["step"], summary["epoch"]) == ("completed", 10, 2)
    assert set(summary["test"]) == {"loss", "accuracy"}
    assert summary["params"] == 6 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert set(summary["seconds"]) == {"total", "compile", "train"}
    seconds = summary["seconds"]
    assert 0 < seconds["compile"] + seconds["train"] < seconds["total"]


def test_the_summary_says_with_what_and_on_what(base):
    versions, device = base.summary["versions"], base.summary["device"]
    assert versions["jax"] == jax.__version__
    assert versions["numpy"] == np.__version__
    assert versions["fnn"] == fnn.__version__
    assert {"python", "jaxlib", "optax", "git"} <= set(versions)
    if versions["git"] is not None:
        assert re.fullmatch("[0-9a-f]{40}", versions["git"]["revision"])
        assert isinstance(versions["git"]["clean"], bool)
    assert device["platform"] == jax.devices()[0].platform
    assert device["cpus"] >= 1


def test_the_weights_are_named_by_their_paths_and_hashed(base):
    arrays, _ = tensors(base.folder)
    assert set(arrays) == {
        "params/dense1/kernel", "params/dense1/bias", "params/head/kernel", "params/head/bias",
        "params/batch_norm1/scale", "params/batch_norm1/bias",
        "state/batch_norm1/mean", "state/batch_norm1/var",
    }  # fmt: skip
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    assert sha256(arrays) == base.summary["params_sha256"]
    assert fnn.digest(base.params, base.state) == base.summary["params_sha256"]


def test_the_weights_load_into_the_model_of_the_config(base):
    parts = build(read(base.folder / "config.yaml"))
    params, state = load_weights(base.folder / "model.safetensors", parts.params, parts.state)
    assert fnn.digest(params, state) == base.summary["params_sha256"]


def test_the_weights_file_says_config_classes_and_normalisation(base):
    _, metadata = tensors(base.folder)
    assert metadata["config"] == (base.folder / "config.yaml").read_text()
    assert json.loads(metadata["classes"]) == ["0", "1", "2"]
    parts = build(read(base.folder / "config.yaml"))
    normalize = json.loads(metadata["normalize"])
    values = parts.dataset.train.inputs.astype(np.float64)
    np.testing.assert_allclose(normalize["mean"], values.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(normalize["std"], values.std(0), rtol=1e-5)


def test_the_test_figures_follow_from_the_weights_file_alone(base):
    arrays, metadata = tensors(base.folder)
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    normalize = json.loads(metadata["normalize"])
    test = build(read(base.folder / "config.yaml")).dataset.test
    x = (test.inputs.astype(np.float64) - normalize["mean"]) / normalize["std"]
    z = x @ w["params/dense1/kernel"] + w["params/dense1/bias"]
    z = (z - w["state/batch_norm1/mean"]) / np.sqrt(w["state/batch_norm1/var"] + 1e-5)
    z = np.maximum(z * w["params/batch_norm1/scale"] + w["params/batch_norm1/bias"], 0)
    logits = z @ w["params/head/kernel"] + w["params/head/bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    figures = base.summary["test"]
    np.testing.assert_allclose(figures["loss"], -log_p[np.arange(12), test.targets].mean(), rtol=1e-4)
    assert figures["accuracy"] == (logits.argmax(1) == test.targets).sum() / 12


# ---------------------------------------------------------------- the same run again


def test_the_resolved_config_says_everything_and_where_it_comes_from(base):
    text = (base.folder / "config.yaml").read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[0].startswith("# resolved from ")
    assert head[0].endswith("base.yaml")
    assert "# seed=3" in head
    resolved = read(base.folder / "config.yaml")
    assert resolved.seed == 3
    assert resolved.precision == "float32"
    assert resolved.train.epochs == 2


def test_training_from_the_resolved_config_is_the_same_run_to_the_bit(base, tmp_path):
    experiment = read(base.folder / "config.yaml")
    again = fnn.train(experiment, folder=into(tmp_path / "again"))
    assert again.summary["params_sha256"] == base.summary["params_sha256"]
    assert again.summary["test"] == base.summary["test"]
    timed = ("seconds", "examples_per_second")
    for mine, theirs in zip(again.log, base.log, strict=True):
        assert {k: v for k, v in mine.items() if k not in timed} == {
            k: v for k, v in theirs.items() if k not in timed
        }
    assert read(tmp_path / "again" / "config.yaml").model_dump() == experiment.model_dump()


def test_another_seed_is_another_run(base):
    other = fnn.train(read(base.folder / "config.yaml", ["seed=4"]))
    assert other.summary["params_sha256"] != base.summary["params_sha256"]


def test_a_seed_holds_out_other_rows(base):
    held = [build(read(base.folder / "config.yaml", [f"seed={seed}"])).dataset.validation for seed in (3, 4)]
    assert not np.array_equal(held[0].inputs, held[1].inputs)


def test_a_seed_is_the_order_of_the_examples_too():
    train = {"batch_size": 4}
    runs = [fnn.train(small(seed=seed, model={"linear": 3}, train=train)) for seed in (0, 0, 1)]
    hashes = [run.summary["params_sha256"] for run in runs]  # all begin at zero, and draw nothing
    assert hashes[0] == hashes[1] != hashes[2]


# ---------------------------------------------------------------- the fields of train


def test_bfloat16_trains_and_keeps_its_parameters_in_float32(base, tmp_path):
    experiment = read(base.folder / "config.yaml", ["precision=bfloat16"])
    run = fnn.train(experiment, folder=into(tmp_path / "run"))
    arrays, _ = tensors(tmp_path / "run")
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    assert run.summary["params_sha256"] != base.summary["params_sha256"]
    close(run.params, base.params, rtol=0.05, atol=0.02)
    np.testing.assert_allclose(run.summary["test"]["loss"], base.summary["test"]["loss"], rtol=0.05)


def test_an_average_is_what_is_saved_and_evaluated(tmp_path):
    plain = fnn.train(small(train={"epochs": 3}))
    run = fnn.train(small(train={"epochs": 3, "ema": 0.5}), folder=into(tmp_path / "run"))
    arrays, _ = tensors(tmp_path / "run")
    assert set(arrays) == {
        "params/dense1/kernel",
        "params/dense1/bias",
        "raw/dense1/kernel",
        "raw/dense1/bias",
    }
    np.testing.assert_array_equal(arrays["params/dense1/kernel"], run.params["dense1"]["kernel"])
    close({n: arrays[f"raw/dense1/{n}"] for n in ("kernel", "bias")}, plain.params["dense1"])
    assert np.abs(arrays["raw/dense1/kernel"] - arrays["params/dense1/kernel"]).max() > 1e-3
    assert sha256(arrays) == run.summary["params_sha256"]
    assert run.summary["test"]["loss"] != plain.summary["test"]["loss"]


def test_accumulated_batches_are_one_batch():
    whole = fnn.train(small(train={"epochs": 2, "batch_size": 8}))
    halves = fnn.train(small(train={"epochs": 2, "batch_size": 4, "accumulate": 2}))
    close(halves.params, whole.params)
    assert [record["step"] for record in halves.log] == list(range(1, 9))
    assert [record["update_norm"] > 0 for record in halves.log] == [False, True] * 4


def test_an_accumulated_schedule_counts_updates():
    schedule = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": "100%"}}
    train = {"epochs": 2, "batch_size": 4, "accumulate": 2}
    run = fnn.train(small(optimizer={"sgd": {"learning_rate": schedule}}, train=train))
    rates = [record["learning_rate"] for record in run.log]  # 8 steps, 4 updates
    np.testing.assert_allclose(rates, [1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25], atol=1e-6)


def test_a_batchs_losses_are_summed_or_averaged():
    mean, total = (fnn.train(small(train={"reduction": how})).log[0] for how in ("mean", "sum"))
    np.testing.assert_allclose(total["loss"], 8 * mean["loss"], rtol=1e-5)
    np.testing.assert_allclose(total["gradient_norm"], 8 * mean["gradient_norm"], rtol=1e-4)


def test_the_gradient_is_clipped_to_its_largest_norm():
    run = fnn.train(small(optimizer={"sgd": 1.0}, train={"clip": 0.01}))
    for record in run.log:
        assert record["gradient_norm"] > 0.01  # as it came
        np.testing.assert_allclose(record["update_norm"], 0.01, rtol=1e-4)


def test_the_regulariser_is_part_of_the_loss_but_not_of_the_test_figures():
    run = fnn.train(small(optimizer={"sgd": 1e-9}, train={"l2": 100.0}))
    plain = fnn.train(small(optimizer={"sgd": 1e-9}))
    kernel = np.asarray(plain.params["dense1"]["kernel"], np.float64)
    difference = run.log[0]["loss"] - plain.log[0]["loss"]
    np.testing.assert_allclose(difference, 0.5 * 100 * (kernel**2).sum(), rtol=1e-4)
    np.testing.assert_allclose(run.summary["test"]["loss"], plain.summary["test"]["loss"], rtol=1e-4)


# ---------------------------------------------------------------- from Python


class Watched(Split):
    """A part of a data set that notes when it is read."""

    events: list[str]

    def __getattribute__(self, name):
        if name in ("inputs", "targets"):
            object.__getattribute__(self, "events").append("test")
        return object.__getattribute__(self, name)


def test_a_model_a_data_set_and_a_listener_of_ones_own():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int32)
    Watched.events = events = []
    data = Dataset(Split(x[:24], y[:24]), Watched(x[24:], y[24:]), Split(x[:8], y[:8]), classes=("no", "yes"))
    model = fnn.serial(fnn.named("own", fnn.dense(2)))
    run = fnn.train(
        small(model=["nothing"], data={"source": "nowhere"}, train={"epochs": 20}),
        model=model,
        data=data,
        on_log=lambda record: events.append(record["split"]),
    )
    assert run.model is model
    assert run.folder is None
    assert list(run.params) == ["own"]
    assert run.summary["test"]["accuracy"] > 0.9
    assert list(Path().iterdir()) == [], "without a folder nothing is written"

    first, last = events.index("train"), len(events) - 1 - events[::-1].index("validation")
    assert "test" not in events[first:last], "the test part was read while choices were still open"
    assert "test" in events[last:]


def test_the_test_part_has_no_part_in_the_training():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5)).astype(np.float32), rng.integers(0, 3, 16).astype(np.int32)
    runs = [
        fnn.train(small(), data=Dataset(Split(x, y), test, classes=("a", "b", "c")))
        for test in (None, Split(1e6 * x[:3], y[:3]))
    ]
    assert runs[0].summary["params_sha256"] == runs[1].summary["params_sha256"]
    assert "test" not in runs[0].summary
    assert "test" in runs[1].summary


# ---------------------------------------------------------------- predictions


def test_goals_regression_predicts_54_5():
    run = fnn.train(read(CONFIGS / "goals_regression.yaml"), folder=into("goals"))
    np.testing.assert_allclose(run.summary["predictions"], [54.5], atol=1e-3)
    summary = json.loads(Path("goals/summary.json").read_text())
    assert summary["predictions"] == run.summary["predictions"]
    assert "test" not in summary
    slope, offset = np.polyfit([2013, 2014, 2015, 2016, 2017], [39, 50, 48, 51, 50], 1)
    np.testing.assert_allclose(run.summary["predictions"], [slope * 2018 + offset], atol=1e-3)
    # the resolved config finds the table from wherever it is
    assert Path(read("goals/config.yaml").data.path) == CONFIGS / "goals_2013_2017.csv"


def test_classes_are_predicted_by_their_names():
    rows = [f"{x},{'large' if x > 5 else 'small'}" for x in (0, 1, 2, 3, 8, 9, 10, 11)]
    Path("rows.csv").write_text("\n".join(["x,size", *rows, "12,", "-1,", "10.5,"]) + "\n")
    experiment = small(
        data={"source": {"arrays": {"path": "rows.csv", "task": "classification"}}},
        model=[{"dense": 2}],
        train={"epochs": 30},
    )
    assert fnn.train(experiment).summary["predictions"] == ["large", "small", "large"]


# ---------------------------------------------------------------- what ends early


def never():
    raise AssertionError("the folder was asked for before everything was checked")


@pytest.mark.parametrize(
    "sections",
    [
        {"model": ["rleu"]},
        {"model": [{"max_pool": 2}]},
        {"model": [{"dense": 2}]},
        {"loss": "squared_error"},
        {"loss": {"cross_entropy": {"smoothing": 1}}},
        {"metrics": ["acc"]},
        {"optimizer": "adm"},
        {"optimizer": {"sgd": {"learning_rate": 0.1, "mometum": 0.9}}},
        {"train": {"l2": {"*/kernal": 0.1}}},
        {"train": {"log_every": "often"}},
        {"data": {"source": {"synthetic": {"shape": [5], "classes": 3}}, "augment": ["flip"]}},
        {"data": {"source": "arrays", "path": "/nowhere/rows.csv"}},
        {"data": {"source": "digits", "path": "/nowhere"}},
    ],
)
def test_nothing_is_written_when_something_is_wrong(sections):
    with pytest.raises(ConfigError):
        fnn.train(small(**sections), folder=never)
    assert list(Path().iterdir()) == []


def test_a_run_that_is_interrupted_says_so():
    def stop(record):
        if record["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fnn.train(small(train={"epochs": 3}), folder=into("run"), on_log=stop)
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["step"], summary["epoch"]) == ("interrupted", 2, 1)
    assert "versions" in summary
    assert "test" not in summary
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 2
    assert not Path("run/model.safetensors").exists()
    assert Path("run/config.yaml").exists()


def test_a_run_that_is_interrupted_inside_of_a_call_says_so(monkeypatch):
    def compiled(*arguments):
        advance = compile_steps(*arguments)

        def stopped(state, order, first, count):
            if first > 2:
                raise KeyboardInterrupt
            return advance(state, order, first, count)

        return stopped

    monkeypatch.setattr("fnn.training.feed.compile_steps", compiled)
    with pytest.raises(KeyboardInterrupt):
        fnn.train(small(train={"epochs": 9}), folder=into("run"))
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["step"], summary["epoch"]) == ("interrupted", 5, 3)
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 5


def test_a_run_that_is_interrupted_while_the_test_part_is_read_says_so(monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("fnn.commands.train.evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        fnn.train(small(), folder=into("run"))
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", 2)


def test_a_run_that_diverges_says_so():
    experiment = small(model=[{"dense": 8}, {"dense": 3}], optimizer={"sgd": 1e30}, train={"epochs": 4})
    with pytest.raises(DivergedError, match=r"norm is (nan|inf) at step \d") as caught:
        fnn.train(experiment, folder=into("run"))
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["status"] == "diverged"
    assert summary["step"] == caught.value.step
    assert not Path("run/model.safetensors").exists()


def test_figures_that_are_no_numbers_are_null_in_the_files():
    data = Dataset(
        Split(np.ones((8, 5), np.float32), np.zeros(8, np.int32)),
        Split(np.full((2, 5), np.nan, np.float32), np.zeros(2, np.int32)),
        classes=("a", "b", "c"),
    )
    run = fnn.train(small(), data=data, folder=into("run"))
    assert np.isnan(run.summary["test"]["loss"])
    assert json.loads(Path("run/summary.json").read_text())["test"]["loss"] is None


def test_parameters_are_arrays_that_the_model_takes():
    run = fnn.train(small())
    y, _ = run.model.apply(run.params, run.state, jnp.ones((2, 5)))
    assert y.shape == (2, 3)
