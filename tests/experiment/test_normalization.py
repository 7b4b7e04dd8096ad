"""How inputs are normalised: by numbers, by the training part, or as weights expect it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.data import Dataset, Preprocessing, Split
from fnn.experiment.normalization import in_numbers, make_normalizer
from fnn.training import save_weights

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3)).astype(np.uint8)
TARGETS = np.zeros(4, np.int32)
IMAGENET = {"size": [2, 2], "bgr": True, "mean": [104.0, 117.0, 123.0], "std": [2.0, 3.0, 4.0]}


def data_of(inputs, preprocessing=None):
    return Dataset(Split(inputs, TARGETS), preprocessing=preprocessing)


def experiment(normalize=True, weights=None):
    return fnn.Experiment(model=["flatten"], init_from=weights, data={"normalize": normalize})


@pytest.fixture
def weights(tmp_path):
    def make(**metadata):
        file = tmp_path / "w.safetensors"
        told = {name: value if name == "config" else json.dumps(value) for name, value in metadata.items()}
        file.write_bytes(save_weights({"bias": np.ones(1, np.float32)}, {}, {"config": "", **told}))
        return str(file)

    return make


def test_numbers_are_in_the_units_of_the_data():
    made = make_normalizer(experiment({"mean": [1.0, 2.0, 3.0], "std": 2.0, "bgr": True}), data_of(PICTURES))
    np.testing.assert_array_equal(made(PICTURES), (PICTURES[..., ::-1].astype(np.float32) - [1, 2, 3]) / 2)


def test_what_weights_expect_is_the_default_with_weights(weights):
    file = weights(preprocess=IMAGENET)
    wanted = (PICTURES[..., ::-1].astype(np.float64) - [104, 117, 123]) / [2, 3, 4]
    for choice in (True, "weights"):
        made = make_normalizer(experiment(choice, file), data_of(PICTURES))
        np.testing.assert_allclose(made(PICTURES), wanted, rtol=1e-6, atol=1e-6)
    fitted = make_normalizer(experiment("fit", file), data_of(PICTURES))
    np.testing.assert_allclose(fitted.mean, PICTURES.mean((0, 1, 2)), rtol=1e-6)
    assert make_normalizer(experiment(False, file), data_of(PICTURES)) is None


def test_data_in_the_order_of_the_weights_are_not_reversed(weights):
    data = data_of(PICTURES, Preprocessing((2, 2), bgr=True))
    made = make_normalizer(experiment(True, weights(preprocess=IMAGENET)), data)
    np.testing.assert_allclose(made(PICTURES)[..., 0], (PICTURES[..., 0] - 104.0) / 2)


def test_data_of_another_white_are_as_bright_to_the_model(weights):
    """The digits go from 0 to 16, and what is 16 there is 255 in a picture."""
    file = weights(preprocess={"size": [2, 2], "channels": 1, "mean": [51.0], "std": [25.5]})
    data = data_of(PICTURES[..., :1] // 16, Preprocessing((2, 2), channels=1, white=16.0))
    made = make_normalizer(experiment(True, file), data)
    np.testing.assert_allclose(made(np.float32([[[[8.0]]]])).item(), (127.5 - 51) / 25.5, rtol=1e-6)


def test_weights_of_a_model_without_normalisation_get_none(weights):
    made = make_normalizer(experiment(True, weights()), data_of(PICTURES))
    np.testing.assert_array_equal(made(PICTURES), PICTURES)


def test_pictures_whose_targets_are_pictures_go_from_0_to_1_unless_it_is_said(weights):
    data = Dataset(Split(PICTURES, PICTURES.repeat(2, 1).repeat(2, 2)), scale=2)
    made = make_normalizer(experiment(), data)
    np.testing.assert_allclose(made(PICTURES), PICTURES / 255, rtol=1e-6)
    fitted = make_normalizer(experiment("fit"), data)
    np.testing.assert_allclose(fitted.mean, PICTURES.mean((0, 1, 2)), rtol=1e-6)
    assert make_normalizer(experiment(False), data) is None
    of_weights = make_normalizer(experiment(True, weights(preprocess=IMAGENET | {"bgr": False})), data)
    np.testing.assert_allclose(of_weights.mean, IMAGENET["mean"])


def test_what_weights_say_is_written_into_the_config_to_the_bit(weights):
    begun = experiment(True, weights(normalize={"mean": [0.1, 0.2, 0.3], "std": [0.7, 1 / 3, 1e-3]}))
    made = make_normalizer(begun, data_of(PICTURES))
    recorded = in_numbers(begun, made)
    again = make_normalizer(fnn.Experiment(**json.loads(recorded.model_dump_json())), data_of(PICTURES))
    for name in ("mean", "std", "bgr"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    assert in_numbers(experiment(True), None).data.normalize is True
    assert in_numbers(experiment("fit", "/w"), made).data.normalize == "fit"


FLOATS = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    "normalize, inputs, message",
    [
        ("weights", PICTURES, "data.normalize: weights: needs init_from"),
        ({"mean": [1, 2], "std": 1}, PICTURES, "expected mean of 1 or 3 channels, as the data have, got 2"),
        ({"mean": 1, "std": [1, 2]}, PICTURES, "expected std of 1 or 3 channels"),
        ({"mean": 1, "std": 1, "bgr": True}, FLOATS, "bgr: expected pictures of 3 channels, got (3,)"),
    ],
)
def test_what_does_not_fit_is_refused(normalize, inputs, message):
    with pytest.raises(ConfigError) as error:
        make_normalizer(experiment(normalize), data_of(inputs))
    assert message in str(error.value)


def test_weights_that_do_not_fit_the_data_are_refused(weights, tmp_path):
    for inputs, message in (
        (FLOATS, "is of a model of pictures, and the data are none"),
        (PICTURES[..., :1], "expected mean of 1 or 1 channels, as the data have, got 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_normalizer(experiment(True, weights(preprocess=IMAGENET)), data_of(inputs))
    with pytest.raises(ConfigError, match=r"init_from\.path: .* expected a safetensors file, found none"):
        make_normalizer(experiment(True, str(tmp_path / "none")), data_of(PICTURES))
    (tmp_path / "w.safetensors").write_bytes(save_weights({"bias": FLOATS}, {}, {"format": "pt"}))
    with pytest.raises(ConfigError, match="expected 'config' in its metadata, found format"):
        make_normalizer(experiment(True, str(tmp_path / "w.safetensors")), data_of(PICTURES))
