"""Rows for metrics to be measured on, at once or in batches of any sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fnn import metrics
from fnn.metrics import Metric

N, CLASSES, BATCH = 57, 7, 16


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


# One compilation for each, shared by all the cuts that hypothesis draws
ACCURACY, TOP_3, CONFUSION, MAE, RMSE, R2 = (
    metric._replace(measure=jax.jit(metric.measure))
    for metric in (
        metrics.accuracy(), metrics.top_k(3), metrics.confusion(), metrics.mae(), metrics.rmse(), metrics.r2()
    )
)  # fmt: skip
