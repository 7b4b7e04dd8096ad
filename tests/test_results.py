"""The shipped configs reach what their heads promise, one seed each; the spread is for `benchmarks.seeds`."""

from __future__ import annotations

from pathlib import Path

import pytest

import fnn
from fnn.experiment import read

CONFIGS = Path(fnn.__file__).parents[1] / "configs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("digits_cnn", 0.989),
        ("digits_mlp", 0.970),
        ("digits_local", 0.975),
        ("digits_softmax", 0.962),
        ("digits_svm", 0.965),
        pytest.param("mnist_mlp", 0.985, marks=pytest.mark.data),
    ],
)
def test_test_accuracy(name, least):
    run = fnn.train(read(CONFIGS / f"{name}.yaml"))
    assert run.summary["test"]["accuracy"] >= least
