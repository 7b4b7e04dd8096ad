"""fnn.commands.predict: probabilities against NumPy, broken pictures, one program, bounded memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fnn
from fnn.commands import predict as command
from fnn.commands.predict import find_pictures, predict
from fnn.data import DataError, Preprocessing
from fnn.training import RunFolder
from fnn.training.weights import WeightsError, save_weights

RNG = np.random.default_rng(0)
SCALED = Preprocessing((4, 5), short_side=6, bgr=True, mean=(104.0, 117.0, 123.0), std=(60.0, 50.0, 70.0))
NAMES = ("ant", "bee", "cat", "dog")


def save(file, layers, preprocessing=SCALED, classes=NAMES, precision="float32", seed=0):
    """A weights file of a model with drawn weights; returns these."""
    model = fnn.experiment.model.build_model(layers)
    shape = (*preprocessing.size, preprocessing.channels) if preprocessing else (4,)
    params, state = model.init(jax.random.key(seed), jnp.zeros((1, *shape)))
    metadata = {
        "config": json.dumps({"model": layers, "precision": precision}),
        "input": json.dumps(shape),
        **({"classes": json.dumps(classes)} if classes else {}),
        **({"preprocess": json.dumps(asdict(preprocessing))} if preprocessing else {}),
    }
    file.write_bytes(save_weights(params, state, metadata))
    return params


@pytest.fixture
def model(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def pictures(tmp_path):
    """Seven pictures of several sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(7):
        pixels = RNG.integers(0, 256, (7 + i, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def expected(files, params):
    """The softmax of an affine function, in float64."""
    kernel, bias = (np.asarray(params["dense1"][name], np.float64) for name in ("kernel", "bias"))
    rows = []
    for file in files:
        with Image.open(file) as picture:
            x = SCALED.prepare(np.asarray(picture))
        x = (x.astype(np.float64) - SCALED.mean) / SCALED.std
        powers = np.exp(x.ravel() @ kernel + bias)
        rows.append(powers / powers.sum())
    return np.stack(rows)


def probabilities(predictions):
    """A row for each picture, a column for each class, whatever the order in which they are guessed."""
    return np.array(
        [[p for _, p in sorted((g.index, g.probability) for g in found.top)] for found in predictions]
    )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_probabilities_are_those_of_the_formula_whatever_the_batch(model, pictures, batch_size):
    params = save(model, ["flatten", {"dense": 4}])
    found = list(predict(model, pictures, batch_size=batch_size))
    assert [prediction.path for prediction in found] == pictures
    np.testing.assert_allclose(probabilities(found), expected(pictures, params), atol=1e-6)
    for prediction in found:
        shares = [guess.probability for guess in prediction.top]
        assert shares == sorted(shares, reverse=True)
        assert all(guess.name == NAMES[guess.index] for guess in prediction.top)


def test_as_many_classes_are_guessed_as_asked_for(model, pictures):
    save(model, ["flatten", {"dense": 4}])
    four, one = (next(predict(model, pictures[:1], top=k)).top for k in (9, 1))
    assert len(four) == 4
    assert one == four[:1]


def test_a_model_that_ends_in_a_softmax_gives_the_probabilities_itself(model, pictures):
    params = save(model, ["flatten", {"dense": 4}, "softmax"])
    np.testing.assert_allclose(probabilities(predict(model, pictures)), expected(pictures, params), atol=1e-6)
    save(model, ["flatten", {"dense": 4}, "log_softmax"])
    np.testing.assert_allclose(probabilities(predict(model, pictures)), expected(pictures, params), atol=1e-6)


def test_activations_are_of_the_precision_that_it_was_trained_in(model, pictures):
    params = save(model, ["flatten", {"dense": 4}], precision="bfloat16")
    error = np.abs(probabilities(predict(model, pictures)) - expected(pictures, params)).max()
    assert 1e-5 < error < 0.05


def test_a_grey_model_sees_a_colour_picture_in_grey(model, pictures):
    save(model, ["flatten", {"dense": 4}], Preprocessing((8, 8), channels=1))
    colour = probabilities(predict(model, pictures[:1]))
    with Image.open(pictures[0]) as picture:
        picture.convert("L").save(pictures[0])
    np.testing.assert_array_equal(probabilities(predict(model, pictures[:1])), colour)


@pytest.mark.slow
def test_a_run_recognises_what_it_was_tested_on(tmp_path):
    experiment = fnn.Experiment(
        model=["flatten", {"dense": 10}], optimizer={"adam": 1e-2}, train={"epochs": 1}
    )
    run = fnn.train(experiment, folder=lambda: RunFolder.create(tmp_path / "run", "digits"))
    test = fnn.data.digits().test
    files = []
    for i in range(len(test)):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(np.rint(test.inputs[i, ..., 0] * 255.0 / 16).astype(np.uint8)).save(files[-1])
    found = [prediction.top[0].index for prediction in predict(tmp_path / "run", files)]
    accuracy = (np.array(found) == test.targets).mean()
    assert accuracy == pytest.approx(run.summary["test"]["accuracy"], abs=1.5 / len(test))


# ---------------------------------------------------------------- batches


def test_one_program_is_compiled_and_the_last_batch_is_filled_up(model, pictures):
    seen = []

    @fnn.register
    def noted():
        def note(x):
            seen.append(x.shape[0])
            return x

        return fnn.fn(note)

    save(model, ["noted", "flatten", {"dense": 4}])
    for n, batch_size, size in ((7, 4, 4), (7, 32, 8), (1, 32, 1), (7, 3, 3)):
        seen.clear()
        assert len(list(predict(model, pictures[:n], batch_size=batch_size))) == n
        batches = [batch for batch in seen if batch != 1] if size > 1 else seen[-1:]
        assert batches == [size]


def test_no_more_is_decoded_ahead_than_a_few_batches(model, pictures, monkeypatch):
    save(model, ["flatten", {"dense": 4}])
    started = []

    def counted(*arguments, **options):
        started.append(arguments[0])
        return read(*arguments, **options)

    read = command.read_picture
    monkeypatch.setattr(command, "read_picture", counted)
    done = []
    for taken, _ in enumerate(predict(model, pictures * 20, batch_size=2, on_progress=done.append), start=1):
        assert len(started) <= taken + (command.AHEAD + 2) * 2
    assert taken == len(started) == 140
    assert done == list(range(2, 141, 2))


def test_a_reader_who_stops_does_not_wait_for_the_rest(model, pictures, monkeypatch):
    save(model, ["flatten", {"dense": 4}])
    started = []
    read = command.read_picture
    monkeypatch.setattr(command, "read_picture", lambda *a, **o: started.append(a) or read(*a, **o))
    predictions = predict(model, pictures * 20, batch_size=2)
    next(predictions)
    predictions.close()
    assert len(started) <= 2 * (command.AHEAD + 2)


# ---------------------------------------------------------------- what is broken


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_broken_picture_has_an_error_in_its_place_and_the_others_go_on(model, pictures, batch_size):
    params = save(model, ["flatten", {"dense": 4}])
    pictures[2].write_bytes(b"no picture")
    pictures[3].unlink()
    pictures[6].write_bytes(pictures[6].read_bytes()[:100])
    found = list(predict(model, pictures, batch_size=batch_size))
    assert [prediction.path for prediction in found] == pictures
    broken = [i for i, prediction in enumerate(found) if prediction.error is not None]
    assert broken == [2, 3, 6]
    assert all(found[i].error.startswith(f"{pictures[i]}: expected a ") and not found[i].top for i in broken)
    whole = [i for i in range(7) if i not in broken]
    np.testing.assert_allclose(
        probabilities(found[i] for i in whole), expected([pictures[i] for i in whole], params), atol=1e-6
    )


def test_nothing_but_broken_pictures(model, tmp_path):
    save(model, ["flatten", {"dense": 4}])
    found = list(predict(model, [tmp_path / "none.png"] * 3, batch_size=2))
    assert [prediction.error is None for prediction in found] == [False] * 3


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([{"dense": 4}], {"preprocessing": None}, r"expected a model of pictures, found one of \(4,\)"),
        (
            ["flatten", {"dense": 4}],
            {"classes": None},
            "expected a classifier, with 'classes' in its metadata",
        ),
        (
            ["flatten", {"dense": 5}],
            {},
            r"expected an output for each of its 4 classes, found the shape \(5,\)",
        ),
        ([{"conv": {"features": 4, "kernel": 1}}], {}, r"4 classes, found the shape \(4, 5, 4\)"),
    ],
)
def test_a_model_that_classifies_no_pictures_is_one_clear_line(model, pictures, layers, options, message):
    save(model, layers, **options)
    with pytest.raises(WeightsError, match=message) as caught:
        next(predict(model, pictures))
    assert str(caught.value).startswith(f"{model}: ")


# ---------------------------------------------------------------- which pictures


def test_folders_are_searched_in_order_and_named_files_are_always_taken(tmp_path):
    names = [
        "b.jpg",
        "a.PNG",
        "sub/c.webp",
        "sub/.d.jpg",
        ".hidden/e.jpg",
        "notes.txt",
        "f",
        "sub/deep/g.gif",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_pictures([tmp_path / "notes.txt", tmp_path, tmp_path / "none.jpg"])
    assert [str(file.relative_to(tmp_path)) for file in found] == [
        "notes.txt",
        "a.PNG",
        "b.jpg",
        "sub/c.webp",
        "sub/deep/g.gif",
        "none.jpg",
    ]


def test_a_folder_without_a_picture_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"expected pictures \(.*\.jpeg.*\), found none") as caught:
        find_pictures([tmp_path])
    assert str(caught.value).startswith(f"{tmp_path}: ")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(Path(folder, "sub"))))
        return iter(())

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(DataError, match=r"sub: expected a folder, cannot read it: Permission denied"):
        find_pictures([tmp_path])
