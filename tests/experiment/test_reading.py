"""fnn.experiment.reading: from a file and overrides to an experiment, with the place of every mistake."""

from __future__ import annotations

import pytest

import fnn
from fnn.choices import ConfigError
from fnn.experiment import build, check, read

TEXT = """\
# a comment
data:
  source: {synthetic: {shape: [4], classes: 3, size: 24}}
model:
  - dense: {features: 8, name: hidden}
  - relu
  - dense: 3
optimizer: {sgd: 0.1}
train:
  epochs: 1
"""


@pytest.fixture
def config(tmp_path):
    def make(text=TEXT, name="config.yaml"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return make


def message(file, *overrides):
    with pytest.raises(ConfigError) as caught:
        read(file, overrides)
    return str(caught.value)


def test_a_file_becomes_a_checked_experiment(config):
    experiment = read(config())
    expected = check(
        {
            "data": {"source": {"synthetic": {"shape": [4], "classes": 3, "size": 24}}},
            "model": [{"dense": {"features": 8, "name": "hidden"}}, "relu", {"dense": 3}],
            "optimizer": {"sgd": 0.1},
            "train": {"epochs": 1},
        }
    )
    assert experiment.model_dump() == expected.model_dump()


def test_overrides_come_before_the_check(config):
    overrides = ["train.epochs=5", "model.hidden.features=16", "optimizer.adam=1e-3"]
    experiment = read(config(), overrides)
    assert experiment.train.epochs == 5
    assert experiment.model[0] == {"dense": {"features": 16, "name": "hidden"}}
    assert experiment.optimizer == {"adam": 1e-3}


def test_an_experiment_knows_its_file_its_overrides_and_what_they_replaced(config):
    file = config()
    experiment = read(file, ["train.epochs=5", "optimizer.adam=1e-3"])
    assert experiment.document.origin() == [
        f"resolved from {file}",
        "train.epochs=5",
        "optimizer.adam=1e-3",
        "optimizer.adam=1e-3 replaces optimizer: sgd",
    ]
    assert check({"model": ["relu"]}).document.origin() == []


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.sgd.momentum=0.9", ("optimizer",), {"sgd": {"learning_rate": 0.1, "momentum": 0.9}}),
        ("model.dense1.bias=false", ("model", 2), {"dense": {"features": 3, "bias": False}}),
        ("loss=huber", ("loss",), "huber"),
    ],
)
def test_a_scalar_is_the_constructors_own_first_argument(config, override, path, value):
    experiment = read(config(), [override])
    got = experiment.model_dump()
    for part in path:
        got = got[part]
    assert got == value


def test_first_arguments_of_schedules_augmentations_and_metrics_are_known(config):
    overrides = [
        "optimizer.sgd.learning_rate={constant_schedule: 0.5}",
        "data.augment=[{shift: 2}]",
        "data.augment.shift1.pixels=3",
        "metrics=[{top_k: 2}]",
        "metrics.top_k1.k=1",
        "optimizer.sgd.learning_rate.constant_schedule.value=0.25",
    ]
    experiment = read(config(), overrides)
    assert experiment.optimizer == {"sgd": {"learning_rate": {"constant_schedule": {"value": 0.25}}}}
    assert experiment.data.augment == [{"shift": {"pixels": 3}}]
    assert experiment.metrics == [{"top_k": {"k": 1}}]


def test_a_users_own_layer_is_known_to_overrides(config, monkeypatch):
    monkeypatch.setitem(fnn.registry.registry["layer"], "narrow", lambda width, *, depth=1: fnn.dense(width))
    experiment = read(config("model: [{narrow: 4}]\n"), ["model.narrow1.depth=2"])
    assert experiment.model == [{"narrow": {"width": 4, "depth": 2}}]


# ---------------------------------------------------------------- places


def test_a_mistake_in_the_file_is_told_with_its_line(config):
    file = config(TEXT.replace("epochs: 1", "epoch: 1"))
    assert message(file) == f"{file}:10: train.epoch: unknown key; nearest: epochs, patience, reduction"
    file = config(TEXT.replace("epochs: 1", "epochs: 'one'"))
    assert message(file) == f"{file}:10: train.epochs: expected a valid integer, got 'one'"


def test_a_mistake_in_an_override_is_told_with_the_override(config):
    file = config()
    text = message(file, "seed=1", "train.epoch=3")
    assert text == "override train.epoch=3: train.epoch: unknown key; nearest: epochs, patience, reduction"
    assert message(file, "train.epochs=0").startswith("override train.epochs=0: train.epochs: expected ")


def test_a_missing_model_is_told_with_the_file(config):
    file = config("seed: 1\n")
    assert message(file) == f"{file}: model: is required: a list of layers, or a model by name"


def test_a_mistake_that_building_finds_is_told_with_its_place(config):
    file = config()
    with pytest.raises(ConfigError) as caught:
        build(read(file, ["model.1=rleu"]))
    assert str(caught.value).startswith("override model.1=rleu: model.1: unknown layer 'rleu'; nearest: relu")
    with pytest.raises(ConfigError) as caught:
        build(read(config(TEXT.replace("relu", "rleu"))))
    assert str(caught.value).startswith(f"{file}:6: model.1: unknown layer 'rleu'; nearest: relu")


def test_a_mistake_in_an_experiment_made_in_python_has_no_place():
    with pytest.raises(ConfigError) as caught:
        build(check({"model": ["rleu"]}))
    assert str(caught.value).startswith("model.0: unknown layer 'rleu'")


@pytest.mark.parametrize(
    ("outer", "argument"),
    [("residual", "body"), ("remat", "layer"), ("serial", "layers"), ("concat", "branches")],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_mistake_inside_a_list_of_layers_is_told_with_its_own_line(config, outer, argument, named):
    above = f"      {argument}:\n" if named else "      # its first argument\n"
    layers = "        - relu\n        - dense: {feature: 3}\n"
    file = config(f"model:\n  - {outer}:\n{above}{layers}")
    with pytest.raises(ConfigError) as caught:
        build(read(file))
    assert str(caught.value).startswith(f"{file}:5: model.0.{outer}.")
    assert "unknown argument of dense; nearest: features" in str(caught.value)


def test_a_shape_that_does_not_fit_is_told_with_the_line_and_the_path_of_its_layer(config):
    layers = "model:\n  - flatten\n  - dense: 8\n  - max_pool: 2\n  - dense: 3\n"
    file = config(layers)
    with pytest.raises(ConfigError) as caught:
        build(read(file))
    message = str(caught.value)
    assert message.startswith(
        f"{file}:4: model.2: max_pool1: expected an input of rank 4 (batch, height, width,"
    )
    assert "(128, 8)" in message
    file = config("model:\n  - relu\n  - residual:\n      - conv: {features: 3, kernel: 1, name: wide}\n")
    with pytest.raises(ConfigError) as caught:
        build(read(file, ["data.source={synthetic: {shape: [6, 6, 2]}}"]))
    assert str(caught.value).startswith(f"{file}:3: model.1: residual1: expected outputs of one shape")


# ---------------------------------------------------------------- paths


def test_a_path_in_the_file_is_relative_to_the_file(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = config("model: [relu]\ndata: {source: arrays, path: rows.csv}\n", "deep/config.yaml")
    assert read("deep/config.yaml").data.path == str(tmp_path / "deep" / "rows.csv")
    assert read(file).data.path == str(tmp_path / "deep" / "rows.csv")


def test_a_path_in_an_override_is_relative_to_the_working_folder(config, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = config("model: [relu]\ndata: {source: arrays, path: rows.csv}\n", "deep/config.yaml")
    assert read(file, ["data.path=other.csv"]).data.path == str(tmp_path / "here" / "other.csv")
    assert read(file, ["data.path=../up.csv"]).data.path == str(tmp_path / "up.csv")


@pytest.mark.parametrize("text", ["init_from: w.safetensors", "init_from: {path: w.safetensors}"])
def test_the_path_of_weights_is_as_one_of_data(config, tmp_path, monkeypatch, text):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = config(f"model: [relu]\n{text}\n", "deep/config.yaml")
    assert read(file).init_from.path == str(tmp_path / "deep" / "w.safetensors")
    for override in ("init_from=w", "init_from.path=w"):
        assert read(file, [override, "init_from.replace=head/*"]).init_from.model_dump() == {
            "path": str(tmp_path / "here" / "w"),
            "replace": ["head/*"],
            "sha256": None,
        }
    assert read(file, ["init_from=null"]).init_from.path is None


def test_normalisation_in_numbers_is_overridden_one_by_one(config):
    data = read(config(), ["data.normalize.mean=[1, 2]", "data.normalize.std=3"]).data
    assert data.normalize.model_dump() == {"mean": [1.0, 2.0], "std": [3.0], "bgr": False}


def test_a_path_that_no_system_has_is_no_crash(config):
    file = config('model: [relu]\ndata: {path: "a\\0b"}\ninit_from: "a\\0b"\n')
    assert read(file).init_from.path.endswith("a\0b")


def test_an_absolute_path_and_the_home_folder_stay_what_they_are(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = config("model: [relu]\ndata: {source: arrays, path: ~/rows.csv}\n")
    assert read(file).data.path == str(tmp_path / "home" / "rows.csv")
    assert read(file, ["data.path=/elsewhere/rows.csv"]).data.path == "/elsewhere/rows.csv"
