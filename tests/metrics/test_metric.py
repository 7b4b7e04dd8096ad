"""Metrics on all rows at once against scikit-learn, however these are cut into batches."""

from __future__ import annotations

import functools
import math

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
from tests.metrics.rows import (
    ACCURACY,
    BATCH,
    CLASSES,
    CONFUSION,
    MAE,
    R2,
    RMSE,
    TOP_3,
    N,
    classification,
    in_batches,
    regression,
)


def test_registered_by_name() -> None:
    ours = {name for name, make in registry["metric"].items() if make.__module__.startswith("fnn.metrics.")}
    assert ours == {"accuracy", "top_k", "confusion", "mae", "rmse", "r2", "psnr", "ssim"}
    assert set(metrics.default_metrics(True)) | set(metrics.default_metrics(False)) < ours


@st.composite
def cuts(draw: st.DrawFn, n: int = N) -> list[int]:
    """Batch sizes that add up to n; some are empty."""
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(draw(st.integers(0, min(BATCH, n - sum(sizes)))))
        if len(sizes) > 12:
            sizes.append(min(BATCH, n - sum(sizes)))
    return sizes


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


@pytest.mark.parametrize("mask", [jnp.ones(4), jnp.ones(3, bool), jnp.ones((4, 1), bool)])
@pytest.mark.parametrize("metric", [metrics.mae(), metrics.r2()])
def test_wrong_masks_are_refused(metric: Metric, mask: jax.Array) -> None:
    with pytest.raises(ValueError, match=r"expected a bool mask \(4,\), got "):
        metric.measure(jnp.zeros(4), jnp.zeros(4), mask)


def test_a_mean_needs_one_value_per_row() -> None:
    metric = metrics.average(lambda p, t: p)
    with pytest.raises(ValueError, match=r"one value per row \(4,\), got \(4, 2\)"):
        metric.measure(jnp.zeros((4, 2)), jnp.zeros(4), jnp.ones(4, bool))
