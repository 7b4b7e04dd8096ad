"""Every config in configs/: its head comment says what it is, and it trains."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from fnn.data import Dataset, Split
from fnn.experiment import build, read
from fnn.experiment.build import build_data

# Two steps of each.
pytestmark = pytest.mark.usefixtures("quick_compiler")

FOLDER = Path(fnn.__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))

# they compile for long
MARKS = dict.fromkeys(("digits_cnn", "digits_local", "cifar10_fast"), pytest.mark.slow)
ON_DISK = ("mnist", "espcn", "fsrcnn", "srcnn", "vdsr")
WITH_WEIGHTS = {"finetune_squeezenet"}  # that and its pictures have to be made: `test_results` trains it
EACH = [
    pytest.param(
        file,
        id=file.stem,
        marks=pytest.mark.data if file.stem.startswith(ON_DISK) else MARKS.get(file.stem, []),
    )
    for file in CONFIGS
    if file.stem not in WITH_WEIGHTS
]


def head(file):
    """The comment lines at the top."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


@functools.cache
def data_of(file):
    """The data set of a config, read once; where its own is too large to come along, noise like it."""
    if file.stem == "cifar10_fast":
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (2560, 32, 32, 3), np.uint8)
        part = Split(pictures, rng.integers(0, 10, 2560).astype(np.int32))
        return Dataset(part, test=part.rows(np.arange(20)), classes=tuple("abcdefghij"))
    return build_data(read(file).data)


def cut(data: Dataset, rows: int) -> Dataset:
    """The first rows of the training part, and a few of the others."""
    parts = {"train": data.train.rows(np.arange(min(rows, len(data.train))))}
    for name in ("test", "validation"):
        part = getattr(data, name)
        if isinstance(part, Split):
            part = part.rows(np.arange(min(20, len(part))))
        parts[name] = part if part is None or isinstance(part, Split) else part[-1:]
    return Dataset(**parts, predict=data.predict, classes=data.classes, scale=data.scale)


def test_all_are_here():
    assert {file.stem for file in CONFIGS} == {
        "cifar10_fast", "digits_cnn", "digits_local", "digits_mlp", "digits_softmax", "digits_svm",
        "espcn_x2", "espcn_x3", "espcn_x4", "finetune_squeezenet", "fsrcnn_x3", "goals_regression",
        "mnist_best", "mnist_lenet", "mnist_lenet5_1998", "mnist_mlp", "srcnn_x3", "vdsr_x3",
    }  # fmt: skip


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_head_says_what_it_is_what_to_expect_and_on_what(file):
    lines = head(file)
    assert lines, "no comment at the top"
    assert lines[0].startswith(f"{file.stem}: ")
    text = " ".join(lines)
    assert "Expected: " in text, "the head says no expected result"
    assert "CPU cores" in text, "the head says no hardware"


@pytest.mark.parametrize("file", EACH)
def test_it_builds_and_trains_two_steps(file):
    experiment = read(file)
    parts = build(experiment, data=data_of(file))
    batch = min(experiment.train.batch_size, len(parts.dataset.train))
    data = cut(parts.dataset, 2 * batch)
    epochs = 2 * batch // len(data.train)  # a set of one batch is seen twice
    run = fnn.train(read(file, [f"train.epochs={epochs}", "train.log_every=1"]), data=data)

    assert (run.summary["status"], run.summary["step"]) == ("completed", 2)
    assert run.summary["params"] == sum(math.prod(s.shape) for s in jax.tree.leaves(parts.params))
    train = [record for record in run.log if record["split"] == "train"]
    assert len(train) == 2
    for record in train:
        assert math.isfinite(record["loss"])
        assert record["gradient_norm"] > 0
        assert math.isfinite(record["gradient_norm"])
    assert train[0]["update_norm"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((run.params, run.state)))
    if data.test is not None:
        assert math.isfinite(run.summary["test"]["loss"])
    if data.predict is not None:
        assert len(run.summary["predictions"]) == len(data.predict)


@pytest.mark.parametrize("file", EACH)
def test_a_schedule_ends_with_the_run(file):
    """Shares of the run keep a curve's shape when the number of epochs is changed."""
    for epochs in (2, 5):
        parts = build(read(file, [f"train.epochs={epochs}"]), data=data_of(file))
        steps = parts.steps_per_epoch * epochs
        first, last, after = (float(parts.optimizer.learning_rate(i)) for i in (0, steps - 1, steps))
        if "_schedule" in str(read(file).optimizer):
            assert after == pytest.approx(0.0, abs=1e-9)
            assert 0 < last < 0.01 * first
        else:
            assert first == last == after > 0


@pytest.mark.data
def test_lenet5_is_padded_with_the_background():
    experiment = read(FOLDER / "mnist_lenet5_1998.yaml")
    background = build(experiment, data=data_of(FOLDER / "mnist_mlp.yaml")).normalizer(
        np.zeros((1, 1, 1, 1), np.float32)
    )
    assert experiment.model[0]["pad"]["value"] == pytest.approx(float(background.squeeze()), abs=1e-3)


def test_goals_regression_is_least_squares():
    run = fnn.train(read(FOLDER / "goals_regression.yaml"))
    year, goals = np.loadtxt(FOLDER / "goals_2013_2017.csv", delimiter=",", skiprows=1, max_rows=5).T
    np.testing.assert_array_equal(goals, [39, 50, 48, 51, 50])
    slope, offset = np.polyfit(year, goals, 1)
    np.testing.assert_allclose(run.summary["predictions"], [slope * 2018 + offset], atol=1e-3)
    np.testing.assert_allclose(run.summary["predictions"], [54.5], atol=1e-3)
    residual = goals - (slope * year + offset)
    np.testing.assert_allclose(run.log[-1]["loss"], (residual**2).mean(), rtol=1e-4)
