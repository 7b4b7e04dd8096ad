"""A run that begins with weights: fine-tuning, and the same again to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fnn
from fnn.choices import ConfigError
from fnn.commands.debug import debug
from fnn.commands.evaluate import evaluate_run
from fnn.experiment import read
from fnn.training import RunFolder, Stopped
from fnn.training.weights import read_metadata

CONFIG = """\
data: {source: {synthetic: {shape: [3, 3, 3], classes: 3, size: 40, seed: 5}}}
model: [flatten, {dense: {features: 4, name: stem}}, batch_norm, relu, {dense: {features: 3, name: head}}]
init_from: {path: before, replace: head/*}
optimizer: {adamw: {learning_rate: 1e-2, weight_decay: 0.5}}
train: {epochs: 2, batch_size: 8, l2: 1e-2, ema: 0.9, freeze: [stem/*, batch_norm1/*]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run of other data, with an average, in the folder ``before``; and a config that begins with it."""
    home = tmp_path_factory.mktemp("home")
    (home / "config.yaml").write_text(CONFIG)
    overrides = ["init_from=null", "train.freeze=[]", "data.source.synthetic.seed=1"]
    train(read(home / "config.yaml", overrides), home / "before")
    return home


@pytest.fixture(scope="module")
def tuned(home):
    said = []
    run = train(read(home / "config.yaml"), home / "tuned", on_message=said.append)
    return run, said


def train(experiment, out, **options):
    return fnn.train(experiment, folder=lambda: RunFolder.create(out, "x"), **options)


def resume(experiment, out, **options):
    return fnn.train(experiment, folder=lambda: RunFolder.resume(out), resume=True, **options)


def test_it_begins_with_the_average_and_leaves_what_is_frozen(home, tuned):
    before, after = (load_file(home / name / "model.safetensors") for name in ("before", "tuned"))
    kept = {
        name for name in after if not name.startswith("raw/") and np.array_equal(before[name], after[name])
    }
    layers = ("params/stem", "params/batch_norm1", "state/batch_norm1")
    assert kept == {name for name in before if name.startswith(layers)}
    assert not np.array_equal(before["params/stem/kernel"], before["raw/stem/kernel"])
    assert tuned[0].log[-1]["gradient_norm"] > 0


def test_inputs_are_normalised_as_they_were_for_the_weights_and_it_is_said(home, tuned):
    run, said = tuned
    began = json.loads(_metadata(home / "before")["preprocess"])
    ended = json.loads(_metadata(run.folder)["preprocess"])
    assert began == ended
    assert said[0] == (
        f"beginning with 6 tensors of {home}/before/model.safetensors; made anew: head/bias, head/kernel"
    )
    assert said[1].startswith(f"inputs: mean {began['mean'][0]:.4g}, ")


def test_its_config_says_which_weights_and_gives_the_same_run_again(home, tuned, tmp_path):
    run, _ = tuned
    written = read(run.folder / "config.yaml")
    assert written.init_from.path == str(home / "before")
    assert len(written.init_from.sha256) == 64
    assert train(written, tmp_path / "again").summary["params_sha256"] == run.summary["params_sha256"]


def test_the_rest_of_the_way_needs_no_weights(home, tuned, tmp_path, monkeypatch):
    """Interrupted, and resumed by the same config when the weights are gone."""
    run, _ = tuned
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    (home / "before").rename(tmp_path / "before")
    try:
        monkeypatch.setattr("fnn.training.loop.CALL", 0)
        asked = iter([False] * 4)
        with pytest.raises(Stopped):
            resume(read(config), tmp_path / "run", stopped=lambda: next(asked, True))
        (tmp_path / "before").rename(home / "before")
        ended = resume(read(config), tmp_path / "run")
        assert ended.summary["params_sha256"] == run.summary["params_sha256"]
        assert evaluate_run(tmp_path / "run", "train")["loss"] > 0
        assert resume(read(config), tmp_path / "run").summary == ended.summary
    finally:
        if not (home / "before").exists():
            (tmp_path / "before").rename(home / "before")


def test_its_own_weights_may_be_overwritten(home, tmp_path):
    """They are read before the folder is emptied."""
    own = tmp_path / "own"
    own.mkdir()
    weights = (home / "before" / "model.safetensors").read_bytes()
    (own / "model.safetensors").write_bytes(weights)
    experiment = read(home / "config.yaml", [f"init_from.path={own}", "train.epochs=1"])
    run = fnn.train(experiment, folder=lambda: RunFolder.create(own, "x", overwrite=True))
    before = load_file(home / "before" / "model.safetensors")
    np.testing.assert_array_equal(run.params["stem"]["kernel"], before["params/stem/kernel"])


def test_a_step_of_it_is_taken_apart(home, tuned):
    report = debug(tuned[0].folder, step=1)
    assert report.failure is None
    rows = {row.path: row for row in report.findings.rows}
    assert rows["head"].parameter_gradients
    assert not rows["stem"].parameter_gradients
    assert rows["stem"].parameters


@pytest.mark.parametrize(
    "override, message",
    [
        ("init_from.replace=[]", "override init_from.path=before: init_from.path: "),
        (
            "init_from.replace=haed/*",
            "override init_from.replace=haed/*: init_from.replace: pattern 'haed/*'",
        ),
        ("init_from.path=nothing", "override init_from.path=nothing: init_from.path: "),
        ("train.freeze=stm/*", "override train.freeze=stm/*: train.freeze: pattern 'stm/*' matches no"),
        ("train.rates={stem/*: 0.1}", "override train.rates={stem/*: 0.1}: train.rates.stem/*: pattern"),
        ("data.source.synthetic.shape=[3, 3, 2]", "config.yaml:1: data.normalize: expected mean of 1 or 2"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(home, tmp_path, override, message, monkeypatch):
    monkeypatch.chdir(home)
    overrides = ["init_from.path=before", "model.head.features=3", override]
    if override.endswith("[]"):
        overrides[1] = "model.head.features=4"
    with pytest.raises(ConfigError) as error:
        train(read(home / "config.yaml", overrides), tmp_path / "out")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_another_file_is_not_the_same_run(tuned, tmp_path):
    written = read(tuned[0].folder / "config.yaml", [f"init_from.path={tuned[0].folder}"])
    with pytest.raises(
        ConfigError, match=r"config\.yaml:\d+: init_from\.sha256: expected .* it is another file"
    ):
        train(written, tmp_path / "out")


def test_pictures_for_a_model_of_another_order_are_reversed(home, tmp_path):
    """A file of a model from Caffe; its run says so of itself."""
    metadata = _metadata(home / "before")
    preprocess = json.loads(metadata["preprocess"]) | {
        "bgr": True,
        "mean": [104.0, 117.0, 123.0],
        "std": [1.0],
    }
    tensors = load_file(home / "before" / "model.safetensors")
    save_file(tensors, tmp_path / "bgr.safetensors", metadata | {"preprocess": json.dumps(preprocess)})
    overrides = [f"init_from.path={tmp_path / 'bgr.safetensors'}", "train.epochs=1"]
    run = train(read(home / "config.yaml", overrides), tmp_path / "run")
    told = json.loads(_metadata(run.folder)["preprocess"])
    assert (told["bgr"], told["mean"]) == (True, [104.0, 117.0, 123.0])
    assert read(run.folder / "config.yaml").data.normalize.bgr


def _metadata(folder: Path) -> dict[str, str]:
    return read_metadata(folder / "model.safetensors")
