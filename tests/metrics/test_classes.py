"""Metrics of classifiers against scikit-learn and by hand."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from fnn import metrics
from fnn.metrics import Metric
from tests.metrics.rows import ACCURACY, CLASSES, CONFUSION, TOP_3, classification, whole


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("negative", [-1, 0])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float32])
def test_a_single_output_is_judged_by_its_sign(column: bool, negative: int, dtype: Any) -> None:
    outputs = np.float32([0.2, -3, 4, -1e-3, 0])
    positive = np.array([True, True, True, False, False])
    targets = np.where(positive, 1, negative).astype(dtype)
    shaped = outputs[:, None] if column else outputs
    assert whole(ACCURACY, shaped, targets) == sklearn.metrics.accuracy_score(positive, outputs > 0) == 0.8
    assert whole(ACCURACY, shaped, positive) == 0.8
    assert (
        whole(CONFUSION, shaped, targets) == sklearn.metrics.confusion_matrix(positive, outputs > 0).tolist()
    )


def test_one_hot_targets_are_their_labels() -> None:
    outputs, true = classification()
    rows = np.eye(CLASSES, dtype=np.float32)[true]
    for metric in (ACCURACY, TOP_3, CONFUSION):
        assert whole(metric, outputs, rows) == whole(metric, outputs, true)


def test_of_equal_outputs_the_first_is_predicted() -> None:
    outputs, true = np.float32([[1, 1, 0], [0, 2, 2]]), np.array([0, 2])
    assert whole(ACCURACY, outputs, true) == 0.5
    assert whole(metrics.top_k(1), outputs, true) == 0.5
    assert whole(metrics.top_k(2), outputs, true) == 1.0


def test_nan_outputs_are_wrong() -> None:
    outputs = np.float32([[0, np.nan], [np.nan, 1], [0, 1], [2, 1]])
    true = np.array([1, 1, 1, -1])  # the last label names no class
    assert whole(ACCURACY, outputs, true) == 0.25
    assert whole(metrics.top_k(2), outputs, true) == 0.25
    assert whole(CONFUSION, outputs, true) == [[0, 0], [0, 1]]
    assert whole(ACCURACY, np.float32([np.nan, np.nan]), np.float32([1, -1])) == 0.0


def test_a_lost_prediction_is_not_an_unknown_label() -> None:
    assert whole(ACCURACY, np.float32([[np.nan, 0]]), np.array([-1])) == 0.0


def test_top_k_of_as_many_as_there_are_outputs() -> None:
    outputs, true = classification()
    assert whole(metrics.top_k(CLASSES), outputs, true) == 1.0
    assert whole(metrics.top_k(1), outputs, true) == whole(ACCURACY, outputs, true)


def test_confusion_of_a_given_size() -> None:
    outputs, true = classification(classes=3)
    expected = sklearn.metrics.confusion_matrix(true, outputs.argmax(1), labels=range(5)).tolist()
    assert whole(metrics.confusion(5), outputs, true) == expected
    with pytest.raises(ValueError, match="confusion: expected classes of 3 or more, got 2"):
        whole(metrics.confusion(2), outputs, true)


def test_bfloat16_outputs_are_judged_in_float32() -> None:
    outputs, true = classification(n=1000)
    rough = jnp.asarray(outputs).astype(jnp.bfloat16)
    known = np.asarray(rough, np.float32)
    assert whole(ACCURACY, rough, true) == np.mean(known.argmax(1) == true)
    assert whole(TOP_3, rough, true) == whole(TOP_3, known, true)


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "message"),
    [
        (metrics.accuracy(), (4, 3), jnp.zeros(4), r"accuracy: .*\(4, 3\) and targets float32 \(4,\)"),
        (metrics.accuracy(), (4, 3), jnp.zeros(5, int), r"accuracy: .*\(4, 3\) and targets int32 \(5,\)"),
        (metrics.accuracy(), (4, 1), jnp.zeros((4, 3)), r"accuracy: .*\(4, 1\) and targets float32 \(4, 3\)"),
        (metrics.accuracy(), (4, 3, 2), jnp.zeros(4, int), r"accuracy: .*\(4, 3, 2\)"),
        (metrics.top_k(5), (4, 3), jnp.zeros(4, int), r"top_k: expected .*5 classes or more\), got \(4, 3\)"),
        (metrics.top_k(1), (4, 1), jnp.zeros(4, int), r"top_k: expected .*2 classes or more\), got \(4, 1\)"),
        (
            metrics.confusion(50_000),
            (4, 3),
            jnp.zeros(4, int),
            r"confusion: expected at most 46,340 classes, got 50000",
        ),
    ],
)
def test_wrong_shapes_are_refused(metric: Metric, outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        metric.measure(jnp.zeros(outputs), targets, jnp.ones(4, bool))
    assert "\n" not in str(caught.value)


def test_top_k_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k: expected k of 1 or more, got 0"):
        metrics.top_k(0)
