"""fnn.training.evaluation: exact over a whole part, whatever the batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import Split
from fnn.losses import cross_entropy, l2_penalty, squared_error
from fnn.metrics import accuracy, confusion, mae, psnr, r2, rmse
from fnn.training import Recipe, evaluate, predict

N = 23
RNG = np.random.default_rng(0)
INPUTS = RNG.integers(0, 256, (N, 4)).astype(np.uint8)
LABELS = RNG.integers(0, 3, N).astype(np.int32)
VALUES = RNG.normal(2000, 3, (N, 1)).astype(np.float32)
BATCHES = [1, 4, 8, 22, 23, 24, 1000]


def recipe(model, loss, metrics, **changes):
    given = {
        "optimizer": optax.with_extra_args_support(optax.sgd(0.1)),
        "penalty": lambda params: l2_penalty(params, 100.0),
        "normalize": lambda x: (x - 128) / 64,
    }
    return Recipe(model=model, loss=loss, metrics=metrics, **given | changes)


def weights(model):
    return model.init(jax.random.key(0), jnp.zeros((1, 4)))


@pytest.fixture(scope="module")
def classifier():
    model = fnn.serial(fnn.dense(3))
    made = recipe(model, cross_entropy, {"accuracy": accuracy(), "confusion": confusion()})
    return made, *weights(model)


@pytest.mark.parametrize("batch_size", BATCHES)
def test_classification_equals_numpy_for_any_batch_size(classifier, batch_size):
    made, params, state = classifier
    dense = params["dense1"]
    logits = (INPUTS.astype(np.float64) - 128) / 64 @ np.asarray(dense["kernel"], np.float64)
    logits += np.asarray(dense["bias"], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    predicted = logits.argmax(1)
    table = np.zeros((3, 3), int)
    np.add.at(table, (LABELS, predicted), 1)

    figures = evaluate(made, params, state, Split(INPUTS, LABELS), batch_size)
    assert set(figures) == {"loss", "accuracy", "confusion"}
    np.testing.assert_allclose(figures["loss"], -log_p[np.arange(N), LABELS].mean(), rtol=1e-5)
    assert figures["accuracy"] == (predicted == LABELS).sum() / N
    assert figures["confusion"] == table.tolist()


@pytest.mark.parametrize("batch_size", [1, 8, 23])
def test_regression_equals_numpy_for_any_batch_size(batch_size):
    model = fnn.serial(fnn.dense(1))
    made = recipe(model, squared_error, {"mae": mae(), "rmse": rmse(), "r2": r2()})
    params, state = weights(model)
    params["dense1"]["bias"] = jnp.full(1, 2000.0)
    dense = {name: np.asarray(leaf, np.float64) for name, leaf in params["dense1"].items()}
    outputs = (INPUTS.astype(np.float64) - 128) / 64 @ dense["kernel"] + dense["bias"]
    error = outputs - VALUES
    determined = 1 - (error**2).sum() / ((VALUES - VALUES.mean(dtype=np.float64)) ** 2).sum()

    figures = evaluate(made, params, state, Split(INPUTS, VALUES), batch_size)
    wanted = {
        "loss": (error**2).mean(),
        "mae": abs(error).mean(),
        "rmse": (error**2).mean() ** 0.5,
        "r2": determined,
    }
    assert figures == pytest.approx(wanted, rel=1e-4)


def test_the_penalty_and_the_augmentation_are_for_training_alone(classifier):
    made, params, state = classifier
    part = Split(INPUTS, LABELS)
    other = recipe(
        made.model,
        cross_entropy,
        made.metrics,
        penalty=lambda params: jnp.float32(np.nan),
        augment=lambda key, x: x * np.nan,
    )
    assert evaluate(other, params, state, part) == evaluate(made, params, state, part)


def test_the_running_statistics_are_used_and_dropout_is_off():
    model = fnn.serial(fnn.batch_norm(), fnn.dropout(0.9), fnn.dense(3))
    made = recipe(model, cross_entropy, {"accuracy": accuracy()})
    params, state = weights(model)
    state["batch_norm1"] = {"mean": jnp.full(4, 0.5), "var": jnp.full(4, 4.0)}
    params["batch_norm1"]["scale"] = jnp.full(4, 3.0)
    x = ((INPUTS.astype(np.float64) - 128) / 64 - 0.5) / np.sqrt(4 + 1e-5) * 3
    dense = {name: np.asarray(leaf, np.float64) for name, leaf in params["dense1"].items()}
    logits = x @ dense["kernel"] + dense["bias"]
    for batch_size in (1, 5, 23):  # a row's answer does not depend on the rows beside it
        got = predict(made, params, state, INPUTS, batch_size)
        np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", BATCHES)
def test_predictions_are_the_outputs_in_order(classifier, batch_size):
    made, params, state = classifier
    outputs = predict(made, params, state, INPUTS, batch_size)
    wanted, _ = made.model.apply(params, state, (jnp.asarray(INPUTS, jnp.float32) - 128) / 64)
    assert outputs.shape == (N, 3)
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-6)


def test_predictions_in_bfloat16_come_back_in_float32(classifier):
    made, params, state = classifier
    narrow = recipe(made.model, cross_entropy, {}, dtype=jnp.bfloat16)
    outputs = predict(narrow, params, state, INPUTS)
    assert outputs.dtype == np.float32
    wide = predict(made, params, state, INPUTS)
    np.testing.assert_allclose(outputs, wide, rtol=0.05, atol=0.05)
    assert np.any(outputs != wide)


def test_a_part_of_several_shapes_is_measured_picture_by_picture():
    """As all of its pictures are: those of one shape in batches, padding not counted."""
    sizes = {(4, 5): 3, (7, 3): 1, (2, 2): 2}
    small = [RNG.integers(0, 256, (n, *size, 1)).astype(np.uint8) for size, n in sizes.items()]
    part = tuple(Split(x, RNG.integers(0, 256, (len(x), 2 * x.shape[1], 2 * x.shape[2], 1))) for x in small)

    def ratios(outputs, targets, mask):
        return psnr(1).measure(outputs, jnp.asarray(targets, jnp.float32) / 255, mask)

    made = recipe(
        fnn.upsample(2),
        lambda outputs, targets: squared_error(outputs, targets.astype(jnp.float32) / 255),
        {"psnr": psnr(1)._replace(measure=ratios)},
        normalize=lambda x: x / 255,
    )
    errors, decibels = [], []
    for split in part:
        for x, y in zip(split.inputs, split.targets, strict=True):
            error = (x.repeat(2, 0).repeat(2, 1).astype(np.float64) - y)[..., 0]
            errors.append(np.mean((error / 255) ** 2))
            decibels.append(10 * np.log10(255**2 / np.mean(error[1:-1, 1:-1] ** 2)))
    wanted = {"loss": np.mean(errors), "psnr": np.mean(decibels)}
    for batch_size in (2, 256):
        assert evaluate(made, {}, {}, part, batch_size) == pytest.approx(wanted, rel=1e-5)
