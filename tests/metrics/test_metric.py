"""Metrics against scikit-learn and NumPy on all rows at once, however these are cut into batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import losses, metrics
from fnn.metrics import Metric
from fnn.registry import registry

N, CLASSES, BATCH = 57, 7, 16


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def classification(n: int = N, classes: int = CLASSES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    return (rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[true]).astype(np.float32), true


def regression(n: int = N, columns: int = 1, level: float = 2000.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = (level + rng.uniform(-1, 1, size=(n, columns))).astype(np.float32)
    return (true + rng.normal(scale=0.3, size=true.shape)).astype(np.float32), true


def whole(metric: Metric, outputs: Any, targets: Any) -> Any:
    return metric.value(metric.measure(outputs, targets, np.ones(len(outputs), bool)))


def in_batches(metric: Metric, outputs: np.ndarray, targets: np.ndarray, sizes: Sequence[int]) -> Any:
    """Statistics of batches of these sizes, each padded with NaN to one size and masked."""
    total, start = None, 0
    for size in sizes:
        padded = np.full((BATCH, *outputs.shape[1:]), np.nan, outputs.dtype)
        true = np.full((BATCH, *targets.shape[1:]), 0 if targets.dtype.kind == "i" else np.nan, targets.dtype)
        padded[:size], true[:size] = outputs[start : start + size], targets[start : start + size]
        batch = metric.measure(padded, true, np.arange(BATCH) < size)
        total = batch if total is None else metric.merge(total, batch)
        start += size
    assert start == len(outputs)
    return total


@st.composite
def cuts(draw: st.DrawFn, n: int = N) -> list[int]:
    """Batch sizes that add up to n; some are empty."""
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(draw(st.integers(0, min(BATCH, n - sum(sizes)))))
        if len(sizes) > 12:
            sizes.append(min(BATCH, n - sum(sizes)))
    return sizes


# One compilation for each, shared by all the cuts that hypothesis draws
ACCURACY, TOP_3, CONFUSION, MAE, RMSE, R2 = (
    metric._replace(measure=jax.jit(metric.measure))
    for metric in (
        metrics.accuracy(), metrics.top_k(3), metrics.confusion(), metrics.mae(), metrics.rmse(), metrics.r2()
    )
)  # fmt: skip


def test_registered_by_name() -> None:
    known = {name for name, make in registry["metric"].items() if make.__module__ == "fnn.metrics"}
    assert known == {"accuracy", "top_k", "confusion", "mae", "rmse", "r2"}
    assert set(metrics.default_metrics(True)) | set(metrics.default_metrics(False)) < known


# Any cut into batches gives the same


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cuts())
def test_counts_do_not_depend_on_the_cut(sizes: list[int]) -> None:
    outputs, true = classification()
    hits = int(sklearn.metrics.accuracy_score(true, outputs.argmax(1), normalize=False))
    counted = in_batches(ACCURACY, outputs, true, sizes)
    assert (int(counted["total"]), int(counted["count"])) == (hits, N)
    among = sklearn.metrics.top_k_accuracy_score(true, outputs, k=3, normalize=False, labels=range(CLASSES))
    assert int(in_batches(TOP_3, outputs, true, sizes)["total"]) == int(among)
    table = sklearn.metrics.confusion_matrix(true, outputs.argmax(1))
    assert CONFUSION.value(in_batches(CONFUSION, outputs, true, sizes)) == table.tolist()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cuts())
def test_errors_do_not_depend_on_the_cut(sizes: list[int]) -> None:
    outputs, true = regression()
    p, t = outputs.astype(np.float64), true.astype(np.float64)
    for metric, theirs in [
        (MAE, sklearn.metrics.mean_absolute_error),
        (RMSE, sklearn.metrics.root_mean_squared_error),
        (R2, sklearn.metrics.r2_score),
    ]:
        got = metric.value(in_batches(metric, outputs, true, sizes))
        np.testing.assert_allclose(got, theirs(t, p), rtol=1e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.permutations(range(6)), st.integers(0, 4))
def test_merging_is_in_any_order_and_grouping(order: list[int], split: int) -> None:
    outputs, true = regression(n=60)
    parts = [R2.measure(outputs[i::6], true[i::6], np.ones(10, bool)) for i in order]
    left = functools.reduce(R2.merge, parts[: split + 1])
    got = R2.value(R2.merge(left, functools.reduce(R2.merge, parts[split + 1 :])))
    np.testing.assert_allclose(
        got, sklearn.metrics.r2_score(np.float64(true), np.float64(outputs)), rtol=1e-6
    )


def test_the_mean_of_a_loss_counts_no_padding() -> None:
    outputs, true = classification()
    metric = metrics.average(functools.partial(losses.cross_entropy, label_smoothing=0.1))
    expected = np.mean(np.float64(losses.cross_entropy(outputs, true, label_smoothing=0.1)))
    got = metric.value(in_batches(metric, outputs, true, [16, 16, 16, 9]))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


# R² does not cancel


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


# What is counted


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


def test_a_vector_of_targets_for_a_column_of_outputs() -> None:
    outputs, true = regression()
    for metric in (MAE, RMSE, R2):
        assert whole(metric, outputs, true[:, 0]) == whole(metric, outputs, true)


def test_images_are_averaged_over_all_their_values() -> None:
    p, t = np.random.default_rng(3).normal(size=(2, 5, 4, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(whole(MAE, p, t), abs(np.float64(p) - t).mean(), rtol=1e-6)
    np.testing.assert_allclose(whole(RMSE, p, t), math.sqrt(((np.float64(p) - t) ** 2).mean()), rtol=1e-6)


def test_bfloat16_outputs_are_judged_in_float32() -> None:
    outputs, true = classification(n=1000)
    rough = jnp.asarray(outputs).astype(jnp.bfloat16)
    known = np.asarray(rough, np.float32)
    assert whole(ACCURACY, rough, true) == np.mean(known.argmax(1) == true)
    assert whole(TOP_3, rough, true) == whole(TOP_3, known, true)
    p, t = jnp.full(1000, 1.0, jnp.bfloat16), np.full(1000, 1.001, np.float32)
    np.testing.assert_allclose(whole(MAE, p, t), 0.001, rtol=1e-3)
    np.testing.assert_allclose(whole(RMSE, p, t), 0.001, rtol=1e-3)


# Statistics, and what is refused


def test_figures_of_no_rows_are_nan_and_add_nothing() -> None:
    outputs, true = classification()
    none = np.zeros(N, bool)
    assert math.isnan(ACCURACY.value(ACCURACY.measure(outputs, true, none)))
    p, t = regression()
    for metric in (MAE, RMSE, R2):
        empty = metric.measure(np.full_like(p, np.nan), np.full_like(t, np.nan), none)
        assert math.isnan(metric.value(empty))
        assert math.isnan(metric.value(metric.merge(empty, empty)))
        full = metric.measure(p, t, ~none)
        for merged in (metric.merge(empty, full), metric.merge(full, empty)):
            assert metric.value(merged) == metric.value(full)


def test_counts_are_whole_and_merge_beyond_32_bits() -> None:
    outputs, true = classification()
    batch = ACCURACY.measure(outputs, true, np.ones(N, bool))
    assert batch["total"].dtype == batch["count"].dtype == jnp.int32
    large = {"total": np.int64(2**40), "count": np.int64(2**40 + 3)}
    merged = ACCURACY.merge(large, batch)
    assert int(merged["count"]) == 2**40 + 3 + N
    counts = CONFUSION.measure(outputs, true, np.ones(N, bool))["counts"]
    assert jnp.issubdtype(counts.dtype, jnp.integer)


def test_statistics_of_stacked_batches_can_be_scanned() -> None:
    outputs, true = classification(n=48)
    batches = (outputs.reshape(3, 16, CLASSES), true.astype(np.int32).reshape(3, 16), np.ones((3, 16), bool))
    _, stacked = jax.lax.scan(lambda carry, batch: (carry, ACCURACY.measure(*batch)), None, batches)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(3)]
    assert ACCURACY.value(functools.reduce(ACCURACY.merge, parts)) == np.mean(outputs.argmax(1) == true)


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
        (metrics.mae(), (4, 2), jnp.zeros((4, 1)), r"mae: .*outputs \(4, 2\) and targets \(4, 1\)"),
        (metrics.rmse(), (4,), jnp.zeros((4, 1)), r"rmse: .*outputs \(4,\) and targets \(4, 1\)"),
        (metrics.r2(), (4, 2), jnp.zeros(4), r"r2: .*outputs \(4, 2\) and targets \(4,\)"),
        (metrics.average(lambda p, t: p), (4, 2), jnp.zeros(4), r"one value per row \(4,\), got \(4, 2\)"),
    ],
)
def test_wrong_shapes_are_refused(metric: Metric, outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        metric.measure(jnp.zeros(outputs), targets, jnp.ones(4, bool))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [jnp.ones(4), jnp.ones(3, bool), jnp.ones((4, 1), bool)])
@pytest.mark.parametrize("metric", [metrics.mae(), metrics.r2()])
def test_wrong_masks_are_refused(metric: Metric, mask: jax.Array) -> None:
    with pytest.raises(ValueError, match=r"expected a bool mask \(4,\), got "):
        metric.measure(jnp.zeros(4), jnp.zeros(4), mask)


def test_top_k_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k: expected k of 1 or more, got 0"):
        metrics.top_k(0)
