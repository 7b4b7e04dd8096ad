"""docs/export.md: its examples run; that of ONNX in tests/commands/test_onnx_model.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import fnn
from fnn.commands.export import export
from fnn.training.weights import save_weights
from tests.models.reference import torchvision_models

TEXT = (Path(fnn.__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a SqueezeNet of three classes, which is not trained, and a picture."""
    monkeypatch.chdir(tmp_path)
    network, rng = fnn.squeezenet1_0(3), np.random.default_rng(0)
    shapes, _ = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
    metadata = {
        "config": "model: {squeezenet1_0: 3}",
        "input": "[64, 64, 3]",
        "preprocess": json.dumps({"size": [64, 64]}),
        "classes": json.dumps(["cat", "dog", "hen"]),
    }
    (tmp_path / "model.safetensors").write_bytes(save_weights(params, {}, metadata))
    Image.new("RGB", (90, 70), "orange").save("picture.png")


def run(word):
    (code,) = (block for block in BLOCKS if word in block)
    exec(compile(code, "export.md", "exec"), {})


def test_stablehlo(capsys):
    export(Path("model.safetensors"), "stablehlo")
    run("jax.export")
    assert re.fullmatch(r"(cat|dog|hen): \d+\.\d %\n", capsys.readouterr().out)


@pytest.mark.oracle
def test_safetensors(capsys):
    torchvision_models()
    export(Path("model.safetensors"), "safetensors")
    run("torchvision")
    assert capsys.readouterr().out == "torch.Size([1, 3])\n"


def test_the_commands_are_there():
    commands = re.findall(r"^fnn (\w+) .*?$", TEXT, flags=re.MULTILINE)
    assert commands == ["import", "export", "export", "export"]
    formats = re.findall(r"--format (\w+)", TEXT)
    assert set(formats) == {"stablehlo", "onnx", "safetensors"}
