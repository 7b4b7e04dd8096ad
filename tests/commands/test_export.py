"""fnn export: weights that PyTorch takes, programs that run without fnn, and what is refused in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fnn
from fnn.choices import ConfigError
from fnn.commands.export import export
from fnn.commands.import_weights import import_weights
from fnn.commands.onnx_model import OnnxError
from fnn.commands.output import OutputError
from fnn.experiment.saved import read_saved
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import to_foreign
from fnn.training.weights import WeightsError, save_weights
from tests.commands.tiny_network import ARCHITECTURE, DEEP, tensors, tinynet, tinyres, torch_network

PICTURES = np.random.default_rng(2).integers(0, 256, (3, 6, 6, 3)).astype(np.uint8)
ROWS = np.random.default_rng(3).standard_normal((4, 7), np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a published network, and with one of the user's own on rows of numbers."""
    monkeypatch.chdir(tmp_path)
    fnn.register(tinynet)
    monkeypatch.setitem(ARCHITECTURES, "tinynet", ARCHITECTURE)
    fnn.register(tinyres)
    monkeypatch.setitem(ARCHITECTURES, "tinyres", DEEP)
    save_file(tensors(), "theirs.safetensors")
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    import_weights(
        "tinynet", Path("theirs.safetensors"), Path("model.safetensors"), classes=Path("names.txt")
    )
    params, state = fnn.serial(fnn.dense(3)).init(jax.random.key(0), ROWS)
    metadata = {
        "config": "precision: bfloat16\nmodel: [{dense: 3}]",
        "input": "[7]",
        "normalize": '{"mean": [1, 1, 1, 1, 1, 1, 1], "std": [2, 2, 2, 2, 2, 2, 2]}',
    }
    (tmp_path / "own.safetensors").write_bytes(save_weights(params, state, metadata, raw=params))
    return tmp_path


def outputs(file, examples):
    """What fnn itself makes of examples."""
    saved = read_saved(file)
    x = saved.normalizer(examples).astype(saved.inputs.dtype)
    return np.asarray(saved.model.apply(saved.params, saved.state, x)[0], np.float32)


def test_weights_go_back_as_they_came():
    done = export(Path("model.safetensors"), "safetensors")
    assert done == "model.torchvision.safetensors: 8 tensors in torchvision's names"
    back, theirs = load_file("model.torchvision.safetensors"), tensors()
    del theirs["features.1.num_batches_tracked"]
    assert back.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)
    with safe_open("model.torchvision.safetensors", "numpy") as opened:
        assert json.loads(opened.metadata()["classes"]) == list("abcde")


def test_scanned_blocks_are_taken_and_given_one_by_one():
    shapes = jax.eval_shape(tinyres(5).init, jax.random.key(0), PICTURES[:1] / np.float32(255))
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    theirs = to_foreign(DEEP.namings["torchvision"], params, state)
    save_file(theirs, "deep.safetensors")
    for form, arguments in (("plain", []), ("scanned", ["scan=true"])):
        import_weights("tinyres", Path("deep.safetensors"), Path(f"{form}.safetensors"), arguments)
        export(Path(f"{form}.safetensors"), "safetensors", Path(f"{form}.out"))
        back = load_file(f"{form}.out")
        assert back.keys() == theirs.keys()
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(back[name], tensor, err_msg=name)
    assert read_saved("scanned.safetensors").config == {"tinyres": {"classes": 5, "scan": True}}
    stack = load_file("scanned.safetensors")["params/layer1/blocks1-3/layer/body/conv2/kernel"]
    np.testing.assert_array_equal(stack[2], params["layer1"]["block3"]["body"]["conv2"]["kernel"])
    np.testing.assert_array_equal(
        load_file("plain.safetensors")["params/layer1/block3/body/conv2/kernel"], stack[2]
    )


@pytest.mark.oracle
def test_pytorch_takes_them_strictly():
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load

    export(Path("model.safetensors"), "safetensors")
    network = torch_network()
    network.load_state_dict(load("model.torchvision.safetensors"), strict=True)
    x = read_saved("model.safetensors").normalizer(PICTURES)
    with torch.no_grad():
        found = network(torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(found, outputs("model.safetensors", PICTURES), rtol=1e-5, atol=1e-5)


def test_a_network_of_ones_own_keeps_its_names(here):
    done = export(Path("own.safetensors"), "safetensors")
    assert done == (
        "own.fnn.safetensors: the tensors in fnn's own names and layouts; "
        "of no other library are the names of this model's known"
    )
    assert set(load_file("own.fnn.safetensors")) == {"params/dense1/bias", "params/dense1/kernel"}
    np.testing.assert_array_equal(outputs("own.fnn.safetensors", ROWS), outputs("own.safetensors", ROWS))


def test_a_program_runs_without_fnn(here):
    done = export(Path("model.safetensors"), "stablehlo", Path("p.stablehlo"))
    assert done == (
        "p.stablehlo and p.json: a program for cpu, cuda, tpu, from uint8 (batch, 6, 6, 3) to outputs that "
        "are no probabilities yet"
    )
    np.save("pictures.npy", PICTURES)
    code = """
import sys
sys.modules["fnn"] = None
import jax, numpy as np
program = jax.export.deserialize(bytearray(open("p.stablehlo", "rb").read()))
x = np.load("pictures.npy")
np.savez("outputs.npz", three=program.call(x), one=program.call(x[:1]))
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    wanted = outputs("model.safetensors", PICTURES)
    with np.load("outputs.npz") as found:
        np.testing.assert_allclose(found["three"], wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["one"], wanted[:1], rtol=1e-5, atol=1e-5)
    facts = json.loads((here / "p.json").read_text())
    assert (facts["input"], facts["dtype"], facts["classes"]) == ([6, 6, 3], "uint8", list("abcde"))
    assert facts["preprocess"]["mean"] == [100.0, 110.0, 120.0]


@pytest.mark.parametrize("name", ["model", "own"])
def test_a_program_holds_no_call_of_ours(here, name):
    export(here / f"{name}.safetensors", "stablehlo")
    program = jax.export.deserialize(bytearray((here / f"{name}.stablehlo").read_bytes()))
    text = program.mlir_module()
    assert "stablehlo." in text
    assert set(re.findall(r"custom_call @(\w+)", text)) <= {"shape_assertion"}  # that the batch is not empty
    assert program.platforms == ("cpu", "cuda", "tpu")


def test_examples_that_are_no_pictures_are_numbers(here):
    export(Path("own.safetensors"), "stablehlo")
    program = jax.export.deserialize(bytearray((here / "own.stablehlo").read_bytes()))
    found = program.call(ROWS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, outputs("own.safetensors", ROWS), rtol=1e-5, atol=1e-5)
    facts = json.loads((here / "own.json").read_text())
    assert (facts["dtype"], facts["input"]) == ("float32", [7])
    assert "classes" not in facts


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"form": "safetensor"}, ConfigError, "unknown format 'safetensor'; nearest: safetensors"),
        ({"form": "onnx", "naming": "timm"}, ConfigError, "--naming goes with --format safetensors, and not"),
        ({"naming": "tim"}, ConfigError, "unknown naming of this model 'tim'; nearest: timm"),
        (
            {"model": Path("no.safetensors")},
            WeightsError,
            "no.safetensors: expected a safetensors file, found",
        ),
        ({"model": Path(".")}, WeightsError, "expected a run that has ended, with model.safetensors in it"),
        (
            {"model": Path("theirs.safetensors")},
            WeightsError,
            "expected 'config' and 'input' in its metadata",
        ),
        ({"out": Path("names.txt")}, OutputError, "names.txt exists: choose another name or --overwrite"),
        ({"out": Path(".")}, OutputError, "expected a file to write, found a folder"),
        ({"out": Path("no/out")}, OutputError, "no/out: cannot be written: no is no folder"),
        ({"form": "stablehlo", "out": Path("p.json")}, OutputError, "p.json: expected another ending"),
    ],
)
def test_what_cannot_be_is_one_clear_line(here, arguments, error, message):
    if arguments.get("model") == Path("."):
        (here / "model.safetensors").unlink()
    before = sorted(os.listdir(here))
    with pytest.raises(error) as caught:
        export(**{"model": Path("model.safetensors"), "form": "safetensors"} | arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(here)) == before


def test_the_file_beside_is_not_overwritten_unasked(here):
    (here / "model.json").write_text("mine")
    with pytest.raises(OutputError, match=r"model.json exists"):
        export(Path("model.safetensors"), "stablehlo")
    assert not (here / "model.stablehlo").exists()
    export(Path("model.safetensors"), "stablehlo", overwrite=True)
    assert json.loads((here / "model.json").read_text())["input"] == [6, 6, 3]


def test_without_jax2onnx_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(OnnxError, match=r"pip install 'fnn\[onnx\]'"):
        export(Path("model.safetensors"), "onnx")


def test_no_orbax_is_needed():
    code = "import sys; sys.modules['orbax'] = None; import fnn.commands.export, fnn.commands.import_weights"
    subprocess.run([sys.executable, "-c", code], check=True)
