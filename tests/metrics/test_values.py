"""Metrics of predicted values against scikit-learn and NumPy."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from fnn import metrics
from fnn.metrics import Metric
from tests.metrics.rows import MAE, R2, RMSE, in_batches, regression, whole


@pytest.mark.parametrize("sizes", [[10_000], [4096, 4096, 1808], [9_999, 1]])
def test_r2_of_years_in_float32(sizes: list[int]) -> None:
    outputs, true = regression(n=10_000, level=2000.0)
    metric, ends = metrics.r2(), np.cumsum(sizes)
    parts = [
        metric.measure(outputs[end - size : end], true[end - size : end], np.ones(size, bool))
        for end, size in zip(ends, sizes, strict=True)
    ]
    got = metric.value(functools.reduce(metric.merge, parts))
    expected = sklearn.metrics.r2_score(np.float64(true), np.float64(outputs))
    assert 0.7 < expected < 0.8
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_r2_of_several_outputs_is_their_mean() -> None:
    outputs, true = regression(columns=3)
    true[:, 1], outputs[:, 1] = 0.1, 0.1  # does not vary, met exactly: counts as 1
    true[:, 2] = 0.1  # does not vary, missed: counts as 0
    expected = sklearn.metrics.r2_score(np.float64(true), np.float64(outputs))
    got = R2.value(in_batches(R2, outputs, true, [16, 0, 16, 16, 9]))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_r2_of_fewer_than_two_rows_is_nan() -> None:
    assert math.isnan(whole(R2, np.float32([1]), np.float32([1])))
    assert whole(R2, np.float32([1, 2]), np.float32([1, 2])) == 1.0


def test_a_vector_of_targets_for_a_column_of_outputs() -> None:
    outputs, true = regression()
    for metric in (MAE, RMSE, R2):
        assert whole(metric, outputs, true[:, 0]) == whole(metric, outputs, true)


def test_images_are_averaged_over_all_their_values() -> None:
    p, t = np.random.default_rng(3).normal(size=(2, 5, 4, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(whole(MAE, p, t), abs(np.float64(p) - t).mean(), rtol=1e-6)
    np.testing.assert_allclose(whole(RMSE, p, t), math.sqrt(((np.float64(p) - t) ** 2).mean()), rtol=1e-6)


def test_bfloat16_outputs_are_judged_in_float32() -> None:
    p, t = jnp.full(1000, 1.0, jnp.bfloat16), np.full(1000, 1.001, np.float32)
    np.testing.assert_allclose(whole(MAE, p, t), 0.001, rtol=1e-3)
    np.testing.assert_allclose(whole(RMSE, p, t), 0.001, rtol=1e-3)


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "message"),
    [
        (metrics.mae(), (4, 2), jnp.zeros((4, 1)), r"mae: .*outputs \(4, 2\) and targets \(4, 1\)"),
        (metrics.rmse(), (4,), jnp.zeros((4, 1)), r"rmse: .*outputs \(4,\) and targets \(4, 1\)"),
        (metrics.r2(), (4, 2), jnp.zeros(4), r"r2: .*outputs \(4, 2\) and targets \(4,\)"),
    ],
)
def test_wrong_shapes_are_refused(metric: Metric, outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        metric.measure(jnp.zeros(outputs), targets, jnp.ones(4, bool))
    assert "\n" not in str(caught.value)
