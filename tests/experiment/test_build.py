"""fnn.experiment.build: the parts of a run, made and checked against each other."""

from __future__ import annotations

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError, dotted
from fnn.data import DataError, Dataset, Mixed, Split
from fnn.experiment import build, build_loggers, check

PICTURES = {"source": {"synthetic": {"shape": [4, 4, 1], "classes": 3, "size": 24}}}
VECTORS = {"source": {"synthetic": {"shape": [5], "classes": 3, "size": 24}}}
MODEL = ["flatten", {"dense": 4}, "relu", {"dense": 3}]
REGRESSION = Dataset(Split(np.ones((6, 2), np.float32), np.ones((6, 1), np.float32)))


def parts(own=None, **config):
    """From sections of a config, and perhaps a data set in place of the config's."""
    return build(check({"data": PICTURES, "model": MODEL, **config}), data=own)


def refused(own=None, **config):
    """The message, and the dotted path that it begins with."""
    with pytest.raises(ConfigError) as caught:
        parts(own, **config)
    message = str(caught.value)
    assert "\n" not in message
    return message, message.partition(": ")[0]


# ---------------------------------------------------------------- what comes out


def test_the_parts_of_a_run():
    made = parts(train={"batch_size": 5, "epochs": 3})
    assert (len(made.dataset.train), len(made.dataset.test)) == (24, 6)
    assert {path: leaf.shape for path, leaf in fnn.paths(made.params).items()} == {
        "dense1/bias": (4,),
        "dense1/kernel": (16, 4),
        "dense2/bias": (3,),
        "dense2/kernel": (4, 3),
    }
    assert made.state == {}
    assert made.dtype == jnp.float32
    assert made.steps_per_epoch == 4  # 24 // 5; the remainder is left out
    assert list(made.metrics) == ["accuracy"]
    assert made.augment is None
    assert made.optimizer.learning_rate(0) == 1e-3


def test_shapes_alone_are_followed_and_nothing_is_computed():
    made = parts()
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves((made.params, made.state)))


def test_precision_is_the_dtype_of_the_activations_alone():
    made = parts(precision="bfloat16", model=["flatten", "batch_norm", {"dense": 3}])
    assert made.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((made.params, made.state))} == {jnp.dtype("float32")}


def test_the_normaliser_is_fitted_on_the_training_part():
    made = parts(data={**PICTURES, "validation": 0.25})
    values = made.dataset.train.inputs.astype(np.float64)
    np.testing.assert_allclose(made.normalizer.mean, [values.mean()], rtol=1e-6)
    np.testing.assert_allclose(made.normalizer.std, [values.std()], rtol=1e-6)
    assert parts(data={**PICTURES, "normalize": False}).normalizer is None


def test_a_share_of_the_training_part_is_held_out():
    made = parts(data={**PICTURES, "validation": 0.25}, train={"batch_size": 6})
    assert (len(made.dataset.train), len(made.dataset.validation), len(made.dataset.test)) == (18, 6, 6)
    assert made.steps_per_epoch == 3


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_that_leaves_a_part_empty_is_refused(share):
    with pytest.raises(ValueError, match="cannot hold out") as caught:
        parts(data={**PICTURES, "validation": share})
    assert isinstance(caught.value, (ConfigError, DataError))


@pytest.mark.parametrize(
    ("log_every", "steps"),
    [(7, 7), ("1 epoch", 4), ("2 epochs", 8), ("0.5 epochs", 2), ("50%", 6), ("100%", 12), ("0.1%", 1)],
)
def test_logged_points_are_counted_in_steps_epochs_or_shares_of_the_run(log_every, steps):
    train = {"batch_size": 6, "epochs": 3, "log_every": log_every}
    assert parts(train=train).log_every == steps


@pytest.mark.parametrize("log_every", ["often", "3", "", "1 epok", "-1 epochs"])
def test_another_form_of_log_every_is_refused(log_every):
    text, place = refused(train={"log_every": log_every})
    assert place == "train.log_every"
    assert "expected a number of steps, '5 epochs' or '10%' of the run, got " in text


def test_steps_in_a_schedule_are_shares_of_the_whole_run():
    schedule = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": "100%"}}
    made = parts(optimizer={"sgd": {"learning_rate": schedule}}, train={"batch_size": 6, "epochs": 2})
    rates = [float(made.optimizer.learning_rate(i)) for i in range(9)]
    np.testing.assert_allclose(rates, 1 - np.arange(9) / 8, atol=1e-6)  # 4 steps an epoch


def test_a_model_and_a_data_set_of_ones_own_take_the_place_of_the_configs():
    own = Dataset(Split(np.ones((8, 2), np.float32), np.zeros(8, np.int32)), classes=("a", "b"))
    layer = fnn.serial(fnn.dense(2))
    made = build(check({"model": ["no such layer"], "data": {"source": "nowhere"}}), layer, own)
    assert made.model is layer
    assert made.dataset is own
    assert fnn.paths(made.params)["dense1/kernel"].shape == (2, 2)


def test_metrics_default_to_the_task():
    assert list(parts().metrics) == ["accuracy"]
    made = parts(REGRESSION, model=[{"dense": 1}], loss="squared_error")
    assert list(made.metrics) == ["mae", "rmse", "r2"]
    assert list(parts(metrics=[{"top_k": 2}, "confusion"]).metrics) == ["top_k", "confusion"]


def test_no_metrics_are_no_metrics():
    assert list(parts(metrics=[]).metrics) == []


def test_two_metrics_of_one_name_are_not_merged_in_silence():
    text, place = refused(metrics=[{"top_k": 1}, {"top_k": 2}])
    assert place.startswith("metrics")
    assert "top_k" in text


def test_a_loss_with_its_arguments_is_the_function_with_them():
    made = parts(loss={"cross_entropy": {"label_smoothing": 0.25}})
    outputs = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
    targets = np.array([1, 0])
    log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    smooth = 0.75 * np.eye(3)[targets] + 0.25 / 3
    got = made.loss(jnp.asarray(outputs, jnp.float32), jnp.asarray(targets))
    np.testing.assert_allclose(got, -(smooth * log_p).sum(1), rtol=1e-6)


def test_augmentation_keeps_the_shape_and_follows_its_list():
    made = parts(data={**PICTURES, "augment": [{"flip": {"probability": 1.0}}, {"shift": 0}]})
    x = jnp.arange(32.0).reshape(2, 4, 4, 1)
    np.testing.assert_array_equal(made.augment(jax.random.key(0), x), np.asarray(x)[:, :, ::-1])


# ---------------------------------------------------------------- the regulariser


def params_of(values):
    return {
        "dense1": {"kernel": jnp.full((2, 2), values[0]), "bias": jnp.full((2,), values[1])},
        "dense2": {"kernel": jnp.full((2, 3), values[2]), "bias": jnp.full((3,), values[3])},
    }


@pytest.mark.parametrize(
    ("l2", "expected"),
    [
        (0.0, 0.0),
        (0.5, 0.5 * 0.5 * (4 * 1 + 6 * 9)),
        ({"*/bias": 2.0}, 0.5 * 2.0 * (2 * 4 + 3 * 16)),
        ({"*/kernel": 0.5, "*/bias": 2.0}, 0.5 * 0.5 * (4 * 1 + 6 * 9) + 0.5 * 2.0 * (2 * 4 + 3 * 16)),
        ({"*": 1.0}, 0.5 * (4 * 1 + 6 * 9 + 2 * 4 + 3 * 16)),
        ({"dense2/**": 1.0}, 0.5 * (6 * 9 + 3 * 16)),
        # of two patterns that fit, the first one wins
        ({"dense1/kernel": 1.0, "*/kernel": 0.5}, 0.5 * 1.0 * 4 * 1 + 0.5 * 0.5 * 6 * 9),
        ({"dense1/kernel": 0.0, "*/kernel": 0.5}, 0.5 * 0.5 * 6 * 9),
    ],
)
def test_the_penalty_is_half_the_strength_times_the_squares(l2, expected):
    made = parts(train={"l2": l2})
    np.testing.assert_allclose(made.penalty(params_of([1.0, 2.0, 3.0, 4.0])), expected, rtol=1e-6)


def test_a_penalty_is_zero_for_a_model_without_kernels():
    made = parts(model=["flatten", "batch_norm"])
    assert float(made.penalty({"batch_norm1": {"scale": jnp.ones(16)}})) == 0.0


@pytest.mark.parametrize("strength", [0.1, 0.0])
def test_a_pattern_that_covers_nothing_is_refused(strength):
    text, place = refused(train={"l2": {"*/kernal": strength}})
    assert place == "train.l2.*/kernal"
    assert "matches no parameter; nearest: dense" in text


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("model", "path", "message"),
    [
        (["flatten", {"dense": 3}, {"max_pool": 2}], ("model", 2),
         "max_pool1: expected an input of rank 4 (batch, height, width, channels), got (24, 3)"),
        ([{"conv": {"features": 3, "kernel": 3}}, "flatten", {"conv": {"features": 3, "kernel": 3}}],
         ("model", 2), "conv2: expected an input of rank 4 (batch, height, width, channels), got (24, 48)"),
        ([{"conv": {"features": 3, "kernel": 9, "padding": "VALID", "name": "stem"}}, "flatten"],
         ("model", 0), "stem: expected space for a window of (9, 9), got (4, 4)"),
        (["relu", {"residual": ["relu", {"conv": {"features": 3, "kernel": 3}}]}, "flatten", {"dense": 3}],
         ("model", 1), "residual1: expected outputs of one shape and dtype to add"),
        (["relu", {"residual": ["flatten", {"conv": {"features": 3, "kernel": 3}}]}],
         ("model", 1), "residual1/body/conv1: expected an input of rank 4"),
        (["relu", {"concat": ["flatten", {"conv": {"features": 3, "kernel": 3}}]}],
         ("model", 1), "concat1: expected outputs that differ in their last axis alone"),
        ([{"repeat": {"layer": {"conv": {"features": 3, "kernel": 3}}, "n": 2}}],
         ("model", 0), "repeat1/layer: expected a layer whose output is like its input"),
        ({"serial": {"a": "flatten", "b": {"max_pool": 2}}}, ("model",), "b: expected an input of rank 4"),
        ({"lenet5": {}}, ("model",), "c1: expected space for a window of (5, 5), got (4, 4)"),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_told_at_its_layer_with_its_path(model, path, message):
    text, place = refused(model=model)
    assert place == dotted(path)
    assert message in text


@pytest.mark.parametrize(
    "choice",
    [
        {"normal": {"stddev": "wide"}},
        {"variance_scaling": {"scale": 1.0, "mode": "x", "distribution": "normal"}},
    ],
)
def test_an_initialiser_that_cannot_draw_is_no_traceback(choice):
    _, place = refused(model=["flatten", {"dense": {"features": 3, "kernel_init": choice}}])
    assert place.startswith("model")


def test_fewer_outputs_than_classes_are_refused():
    text, place = refused(model=["flatten", {"dense": 2}])
    assert place == "model"
    assert "expected an output for each of 3 classes, got (24, 2)" in text


def test_more_outputs_than_classes_are_allowed():
    assert parts(model=["flatten", {"dense": 4}]).params["dense1"]["bias"].shape == (4,)


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        ({"loss": "squared_error"}, ("loss",), "outputs (24, 3) and targets (24,)"),
        ({"loss": "huber"}, ("loss",), "huber: expected "),
        ({"model": ["flatten", {"dense": 1}]}, ("loss",), "for a single output: sigmoid_cross_entropy"),
        ({"model": [{"conv": {"features": 3, "kernel": 3}}]}, ("loss",), "got (24, 4, 4, 3)"),
        ({"metrics": ["accuracy", "mae"]}, ("metrics", 1), "mae: expected "),
        ({"metrics": [{"top_k": 4}]}, ("metrics", 0), "top_k: expected outputs (batch, 4 classes or more)"),
        ({"loss": {"cross_entropy": {"label_smoothing": 2.0}}}, ("loss",),
         "expected label_smoothing from 0 to 1, got 2.0"),
    ],
)  # fmt: skip
def test_a_loss_or_metric_must_fit_the_outputs_and_the_targets(config, path, message):
    text, place = refused(**config)
    assert place == dotted(path)
    assert message in text


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        ({"model": [{"dense": 1}]}, ("loss",), "cross_entropy: expected outputs (batch, classes)"),
        ({"model": [{"dense": 2}], "loss": "squared_error"}, ("loss",), "outputs (6, 2) and targets (6, 1)"),
        (
            {"model": [{"dense": 1}], "loss": "squared_error", "metrics": [{"top_k": 1}]},
            ("metrics", 0),
            "top_k",
        ),
    ],
)
def test_regression_must_fit_too(config, path, message):
    text, place = refused(REGRESSION, **config)
    assert place == dotted(path)
    assert message in text


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({"source": "digitz"}, ("data", "source"), "unknown data source 'digitz'; nearest: digits"),
        ({"source": {"synthetic": {"sise": 3}}}, ("data", "source", "synthetic", "sise"), "nearest: size"),
        ({"source": {"synthetic": {"size": "3"}}}, ("data", "source", "synthetic", "size"),
         "expected a valid integer, got '3'"),
        ({"source": {"synthetic": {"size": -3}}}, ("data", "source", "synthetic"), "10 and -3"),
        ({"source": {"digits": "middle"}}, ("data", "source", "digits"), "'stratified' or 'last', got"),
        ({"source": "digits", "path": "/a"}, ("data", "path"), "digits reads no files"),
        ({**PICTURES, "path": "/a"}, ("data", "path"), "synthetic reads no files"),
        ({"source": {"arrays": {"path": "/a.csv"}}, "path": "/b.csv"}, ("data", "path"), "is given twice"),
        ({"source": "arrays"}, ("data", "source"), "arrays needs 'path'"),
        ({"source": "arrays", "path": "/nowhere/a.csv"}, ("data", "source"), "/nowhere/a.csv: expected an"),
        ({**PICTURES, "augment": ["shft"]}, ("data", "augment", 0), "augmentation 'shft'; nearest: shift"),
        ({**PICTURES, "augment": ["flip", {"shift": {"pixel": 1}}]}, ("data", "augment", 1, "shift", "pixel"),
         "nearest: pixels"),
        ({**PICTURES, "augment": [{"shift": "1"}]}, ("data", "augment", 0, "shift"), "a valid integer"),
        ({**PICTURES, "augment": [{"shift": -1}]}, ("data", "augment", 0, "shift"), "got -1"),
    ],
)  # fmt: skip
def test_a_data_set_that_cannot_be_made_is_refused_at_its_place(data, path, message):
    text, place = refused(data=data)
    assert place == dotted(path)
    assert message in text


def test_pictures_are_augmented_and_vectors_are_not():
    text, place = refused(data={**VECTORS, "augment": ["flip"]}, model=[{"dense": 3}])
    assert place.startswith("data.augment")
    assert "flip: expected images (batch, height, width, channels), got the shape (24, 5)" in text


def test_one_of_holds_augmentations_with_their_arguments():
    choice = {"one_of": {"augmentations": [{"mixup": {"alpha": 0.4}}, "cutmix"], "weights": [1, 3]}}
    made = parts(data={**PICTURES, "augment": ["flip", choice]})
    mixed = jax.eval_shape(made.augment, jax.random.key(0), jnp.zeros((6, 4, 4, 1)))
    assert isinstance(mixed, Mixed)
    assert [leaf.shape for leaf in mixed] == [(6, 4, 4, 1), (6,), (6,)]


@pytest.mark.parametrize(
    ("augment", "path", "message"),
    [
        ([{"one_of": ["flip", "mixupp"]}], (0, "one_of", 1), "unknown augmentation 'mixupp'; nearest: mixup"),
        ([{"one_of": [{"mixup": {"alfa": 1}}]}], (0, "one_of", 0, "mixup", "alfa"), "nearest: alpha"),
        ([{"one_of": [{"mixup": 0}]}], (0, "one_of", 0, "mixup"), "mixup: expected alpha above 0"),
        ([{"one_of": "mixup"}], (0, "one_of"), "expected a valid array, got 'mixup'"),
        ([{"one_of": []}], (0, "one_of"), "one_of: expected one augmentation or more, got none"),
        (["mixup", "flip", "cutmix"], (), "expected one augmentation that mixes examples, got a second one"),
        ([{"random_resized_crop": {"scale": [0.5]}}], (0, "random_resized_crop", "scale"), "expected more"),
        ([{"random_erasing": {"value": "nois"}}], (0, "random_erasing", "value"), "'noise'"),
    ],
)
def test_an_augmentation_that_cannot_be_made_is_refused_at_its_place(augment, path, message):
    text, place = refused(data={**PICTURES, "augment": augment})
    assert place == dotted(("data", "augment", *path))
    assert message in text


def test_vectors_can_be_mixed_but_not_cut():
    made = parts(data={**VECTORS, "augment": ["mixup"]}, model=[{"dense": 3}])
    assert made.augment is not None
    text, place = refused(data={**VECTORS, "augment": ["cutmix"]}, model=[{"dense": 3}])
    assert place.startswith("data.augment")
    assert "cutmix: expected images (batch, height, width, channels), got the shape (24, 5)" in text


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        ({"loss": "cross_entropi"}, ("loss",), "unknown loss 'cross_entropi'; nearest: cross_entropy"),
        ({"loss": {"cross_entropy": {"smoothing": 0.1}}}, ("loss", "cross_entropy", "smoothing"),
         "unknown argument of cross_entropy; nearest: label_smoothing"),
        ({"loss": {"cross_entropy": {"label_smoothing": "x"}}}, ("loss", "cross_entropy", "label_smoothing"),
         "expected a valid number, got 'x'"),
        ({"loss": {"hinge": 3}}, ("loss", "hinge"), "hinge takes no arguments, got 3"),
        ({"metrics": ["acuracy"]}, ("metrics", 0), "unknown metric 'acuracy'; nearest: accuracy"),
        ({"metrics": [{"top_k": {"n": 3}}]}, ("metrics", 0, "top_k", "n"), "argument of top_k; nearest: k"),
        ({"optimizer": "adm"}, ("optimizer",), "unknown optimizer 'adm'; nearest: adam"),
        ({"optimizer": {"adam": {"lr": 0.1}}}, ("optimizer", "adam", "lr"), "nearest: learning_rate"),
        ({"optimizer": "sgd"}, ("optimizer",), "sgd needs 'learning_rate'"),
        ({"optimizer": [{"clip_by_global_norm": 1.0}, {"sgd": {"momentum": 0.9}}]}, ("optimizer", 1, "sgd"),
         "sgd needs 'learning_rate'"),
        ({"optimizer": {"adamw": {"learning_rate": 0.1, "mask": "*/kernal"}}}, ("optimizer", "adamw", "mask"),
         "matches no parameter; nearest: dense"),
    ],
)  # fmt: skip
def test_a_name_or_an_argument_that_is_unknown_is_refused_with_the_nearest(config, path, message):
    text, place = refused(**config)
    assert place == dotted(path)
    assert message in text


# ---------------------------------------------------------------- loggers


def logger_error(*log):
    with pytest.raises(ConfigError) as caught:
        build_loggers(check({"model": MODEL, "log": list(log)}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (["tensorbord"], "log.0: unknown logger 'tensorbord'; nearest: tensorboard"),
        (["mine", {"mine": "b"}], "log.1.mine: mine is there already, and a run has one logger of a name"),
        ([{"mine": {"plce": "a"}}], "log.0.mine.plce: unknown argument of mine; nearest: place"),
        ([{"mine": 3}], "log.0.mine: expected a valid string, got 3"),
        ([{"mine": "a", "other": "b"}], "log.0: expected one name with its arguments, got 2: mine, other"),
        (["odd"], "log.0: odd made no logger: expected one with begin, record and end"),
    ],
)
def test_a_logger_that_does_not_fit(log, message):
    @fnn.register(group="logger")
    class mine:  # noqa: N801
        def __init__(self, place: str = "here"):
            self.place = place

        def begin(self, run): ...
        def record(self, record): ...
        def end(self, summary): ...

    @fnn.register(group="logger")
    def odd():
        return print

    assert logger_error(*log).startswith(message)
    assert build_loggers(check({"model": MODEL, "log": [{"mine": "there"}]}))["mine"].place == "there"


@pytest.mark.parametrize(
    ("name", "library"), [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "mlflow")]
)
def test_a_logger_whose_library_is_not_installed(monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, library, None)
    experiment = check({"model": MODEL, "data": PICTURES, "log": [name]})
    message = f"log.0: {name} needs the library {library}: pip install 'fnn[{name}]'"
    assert logger_error(name) == message
    with pytest.raises(ConfigError, match=re.escape(message)):
        fnn.train(experiment, folder=lambda: pytest.fail("made"))
    assert build(experiment).steps_per_epoch == 1, "what does not train needs no logger"


def test_steps_are_counted_in_int32():
    text, place = refused(train={"epochs": 2**30, "batch_size": 12})
    assert place == "train.epochs"
    assert text.endswith("expected fewer than 2**31 steps in all, got 2147483648")
    assert parts(train={"epochs": 2**30 - 1, "batch_size": 12}).steps_per_epoch == 2


def test_the_outputs_of_all_layers_and_the_statistics_of_all_metrics_are_known():
    made = parts(train={"batch_size": 5}, metrics=["accuracy", "confusion"])
    assert {path: output.shape for path, output in made.outputs.items()} == {
        "": (5, 3), "dense1": (5, 4), "dense2": (5, 3), "flatten1": (5, 16), "relu1": (5, 4),
    }  # fmt: skip
    assert made.statistics["confusion"]["counts"].shape == (3, 3)
