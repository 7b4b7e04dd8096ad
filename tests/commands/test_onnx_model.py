"""fnn export --format onnx, run by onnxruntime. Where the extra [onnx] is: .ci/run brings it last."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import fnn
from fnn import document
from fnn.commands.export import export
from fnn.commands.import_weights import import_weights
from fnn.commands.onnx_model import OnnxError, onnx_model
from fnn.experiment import build_model
from fnn.experiment.saved import read_saved
from fnn.models.catalog import ARCHITECTURES
from fnn.training.weights import save_weights
from tests.commands.tiny_network import ARCHITECTURE, tensors, tinynet

pytest.importorskip("jax2onnx", reason="needs the extra [onnx]")
PAGE = (Path(fnn.__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
MODELS = {
    "perceptron": (["flatten", {"dense": 16}, "relu", {"dense": 10}], (8, 8, 1)),
    "lenet": ({"lenet": {}}, (28, 28, 1)),
    "resnet18": ({"resnet18": {"classes": 10}}, (32, 32, 3)),
    "squeezenet1_0": ({"squeezenet1_0": {"classes": 10}}, (40, 40, 3)),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(file, examples):
    """The outputs of a file for a batch of examples."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["outputs"], {"examples": examples})[0]


@pytest.mark.filterwarnings("default")  # of libraries that jax2onnx looks for
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_fnns_for_batches_of_any_size(here, name):
    config, shape = MODELS[name]
    x = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    params, state = build_model(config).init(jax.random.key(0), x[:1].astype(np.float32))
    metadata = {
        "config": document.write({"model": config}),
        "input": json.dumps(shape),
        "preprocess": json.dumps({"size": shape[:2], "channels": shape[2], "mean": [120], "std": [60]}),
    }
    (here / "model.safetensors").write_bytes(save_weights(params, state, metadata))
    export(Path("model.safetensors"), "onnx")
    saved = read_saved("model.safetensors")
    wanted, _ = jax.jit(saved.model.apply)(saved.params, saved.state, saved.normalizer(x))
    np.testing.assert_allclose(run("model.onnx", x), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run("model.onnx", x[:1]), wanted[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("default")
def test_the_example_on_the_page_runs(here, monkeypatch, capsys):
    from PIL import Image

    fnn.register(tinynet)
    monkeypatch.setitem(ARCHITECTURES, "tinynet", ARCHITECTURE)
    save_file(tensors(), "theirs.safetensors")
    (here / "names.txt").write_text("\n".join("abcde"))
    import_weights(
        "tinynet", Path("theirs.safetensors"), Path("model.safetensors"), classes=Path("names.txt")
    )
    export(Path("model.safetensors"), "onnx")
    Image.new("RGB", (9, 7), "orange").save("picture.png")
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "onnxruntime" in block
    )
    exec(compile(code, "export.md", "exec"), {})
    assert capsys.readouterr().out.strip() in set("abcde")


@pytest.mark.filterwarnings("default")
def test_what_cannot_be_converted_is_one_clear_line():
    def program(x):
        return jax.lax.cumlogsumexp(jax.lax.linalg.cholesky(x))

    with pytest.raises(OnnxError, match=r"^jax2onnx cannot convert this model: [^\n]+$"):
        onnx_model(program, (3, 3), np.dtype(np.float32), {})
