"""The shipped configs reach what their heads promise, one seed each; the spread is for `benchmarks.seeds`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from benchmarks.shapes import make
from fnn.experiment import read
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import from_foreign
from fnn.training import save_weights

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


@pytest.mark.slow
@pytest.mark.data
def test_three_epochs_of_espcn_are_2_db_better_than_the_bicubic_kernel():
    run = fnn.train(read(CONFIGS / "espcn_x2.yaml", ["train.epochs=3", "train.ema=0.98"]))
    assert run.summary["test"]["psnr"] >= 33.65 + 2


@pytest.fixture
def squeezenet(tmp_path):
    """The weights that its authors published for Caffe, as a file of fnn."""
    published = Path(os.environ["FNN_DATA"]) / "squeezenet" / "squeezenet_v1.0.npz"
    architecture = ARCHITECTURES["squeezenet1_0"]
    preprocessing = architecture.exceptions["caffe"]
    x = jax.ShapeDtypeStruct((1, *preprocessing.size, 3), np.float32)
    shapes = jax.eval_shape(fnn.models.squeezenet1_0().init, jax.random.key(0), x)
    with np.load(published) as tensors:
        params, state = from_foreign(architecture.namings["caffe"], tensors, *shapes)
    metadata = {"config": "model: squeezenet1_0", "preprocess": json.dumps(asdict(preprocessing))}
    file = tmp_path / "squeezenet1_0.safetensors"
    file.write_bytes(save_weights(params, state, metadata))
    return file


@pytest.mark.slow
@pytest.mark.data
def test_fine_tuning_learns_in_a_minute_what_training_from_scratch_does_not(squeezenet, tmp_path):
    """Four epochs of the last layer alone take as long as one of the whole network."""
    make(tmp_path / "shapes", train=60, test=25)
    given = [f"data.path={tmp_path / 'shapes'}", "train.batch_size=8", "train.rates={}"]
    config = CONFIGS / "finetune_squeezenet.yaml"
    tuned = read(
        config, [*given, f"init_from.path={squeezenet}", "train.freeze=features/**", "train.epochs=4"]
    )
    assert fnn.train(tuned).summary["test"]["accuracy"] >= 0.85
    scratch = read(config, [*given, "init_from=null", "train.epochs=1"])
    assert fnn.train(scratch).summary["test"]["accuracy"] < 0.4
