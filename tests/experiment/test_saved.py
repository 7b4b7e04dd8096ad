"""A model from its file alone."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import fnn
from fnn.data import Preprocessing, digits
from fnn.experiment.saved import read_saved
from fnn.training.weights import WeightsError, save_weights

MODEL = ["flatten", {"dense": 3}]
CONFIG = "model: [flatten, {dense: 3}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from fnn.training import RunFolder

    experiment = fnn.Experiment(model=["flatten", {"dense": 10}], train={"epochs": 1})
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fnn.train(experiment, folder=lambda: RunFolder.create(folder, "run", False))


def saved(tmp_path, **metadata: str):
    layer = fnn.serial(fnn.flatten, fnn.dense(3))
    params, state = layer.init(jax.random.key(0), np.zeros((1, 2, 2, 1), np.float32))
    file = tmp_path / "model.safetensors"
    file.write_bytes(save_weights(params, state, {"config": CONFIG, "input": "[2, 2, 1]"} | metadata))
    return file


def test_a_run_says_all_that_it_takes_to_use_its_model(run):
    found = read_saved(run.folder)
    assert fnn.digest(found.params, found.state) == run.summary["params_sha256"]
    assert found.inputs.shape == (1, 8, 8, 1)
    assert found.classes == tuple("0123456789")
    assert (found.preprocessing.size, found.preprocessing.white) == ((8, 8), 16.0)
    test = digits().test
    pictures = np.round(test.inputs * (255 / 16)).astype(np.uint8)
    outputs, _ = found.model.apply(found.params, found.state, found.normalizer(pictures))
    accuracy = float((outputs.argmax(-1) == test.targets).mean())
    assert accuracy == pytest.approx(run.summary["test"]["accuracy"], abs=0.01)  # the bytes were rounded


def test_a_file_without_pictures_says_how_examples_are_normalised(tmp_path):
    file = saved(tmp_path, normalize=json.dumps({"mean": [1.0], "std": [2.0]}))
    found = read_saved(file)
    assert found.preprocessing is None
    assert float(found.normalizer(np.float32([[5.0]]))[0, 0]) == 2.0


def test_preprocessing_goes_there_and_back(tmp_path):
    wanted = Preprocessing((2, 2), channels=1, short_side=3, mean=(7.0,), std=(2.0,))
    text = '{"size": [2, 2], "channels": 1, "short_side": 3, "mean": [7.0], "std": [2.0]}'
    assert read_saved(saved(tmp_path, preprocess=text)).preprocessing == wanted


@pytest.mark.parametrize(
    "metadata, message",
    [
        ({"config": "model: [flatten, {dens: 3}]"}, "unknown layer 'dens'; nearest: dense"),
        ({"config": "model: {"}, "(config)"),
        ({"input": "[2, 2"}, "its metadata cannot be used"),
        ({"input": "[2, 2, 2]"}, "does not fit the model"),
        ({"preprocess": '{"size": [0, 2]}'}, "expected a size of 1 or more"),
        ({"normalize": '{"mean": [1]}'}, "its metadata cannot be used: 'std'"),
        ({"classes": "7"}, "its metadata cannot be used"),
    ],
)
def test_somebody_elses_metadata_is_refused_in_one_line(tmp_path, metadata, message):
    with pytest.raises(ValueError) as error:
        read_saved(saved(tmp_path, **metadata))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_a_config_is_no_model(tmp_path):
    file = tmp_path / "bare.safetensors"
    file.write_bytes(save_weights({"kernel": np.ones(2, np.float32)}, {}, {"format": "pt"}))
    with pytest.raises(WeightsError, match="expected 'config' and 'input' in its metadata, found format"):
        read_saved(file)


def test_a_run_that_has_not_ended_has_no_model(tmp_path):
    with pytest.raises(WeightsError, match="expected a run that has ended"):
        read_saved(tmp_path)
