"""fnn import: another library's weights as a model, whose they are, and what is refused in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import fnn
from fnn.choices import ConfigError
from fnn.commands.import_weights import import_weights
from fnn.commands.output import OutputError
from fnn.data import DataError
from fnn.data.class_names import imagenet_classes
from fnn.experiment.saved import read_saved
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import ExchangeError
from fnn.training.weights import WeightsError
from tests.commands.tiny_network import ARCHITECTURE, tensors, tinynet, torch_network


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder to work in, in which tinynet is a published network."""
    monkeypatch.chdir(tmp_path)
    fnn.register(tinynet)
    monkeypatch.setitem(ARCHITECTURES, "tinynet", ARCHITECTURE)
    return tmp_path


def kept(**changes):
    """A file of weights in torchvision's names."""
    save_file(tensors(**changes), "theirs.safetensors")
    return Path("theirs.safetensors")


def test_the_weights_file_says_all_that_it_takes():
    done = import_weights("tinynet", kept(), Path("out.safetensors"))
    assert done == (
        "out.safetensors: tinynet with 845 parameters from torchvision's names, 5 outputs (without names)"
    )
    saved = read_saved("out.safetensors")
    assert (saved.config, saved.classes) == ({"tinynet": {"classes": 5}}, None)
    assert saved.inputs.shape == (1, 6, 6, 3)
    assert saved.preprocessing == ARCHITECTURE.preprocessing
    np.testing.assert_array_equal(saved.params["head"]["bias"], tensors()["classifier.bias"])
    np.testing.assert_array_equal(saved.state["norm"]["var"], tensors()["features.1.running_var"])


@pytest.mark.oracle
def test_its_outputs_are_pytorchs():
    torch = pytest.importorskip("torch")
    import_weights("tinynet", kept(), Path("out.safetensors"))
    saved = read_saved("out.safetensors")
    network = torch_network()
    network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors().items()})
    x = np.random.default_rng(1).standard_normal((2, 6, 6, 3), np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    y, _ = saved.model.apply(saved.params, saved.state, x)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(dtype):
    half = {name: t.astype(dtype) if t.ndim else t for name, t in tensors().items()}
    save_file(half, "half.safetensors")
    import_weights("tinynet", Path("half.safetensors"), Path("out.safetensors"))
    bias = read_saved("out.safetensors").params["head"]["bias"]
    np.testing.assert_array_equal(bias, half["classifier.bias"].astype(np.float32))


def test_whose_names_they_are_decides_arguments_and_preprocessing():
    names = {"features.0": "conv1", "features.1": "norm", "classifier": "head"}
    caffe = {re.sub("|".join(names), lambda m: names[m[0]], n): t for n, t in tensors(width=2).items()}
    np.savez("theirs.npz", **caffe)
    import_weights("tinynet", Path("theirs.npz"), Path("out.safetensors"))
    saved = read_saved("out.safetensors")
    assert saved.config == {"tinynet": {"classes": 5, "width": 2}}
    assert saved.preprocessing.bgr
    with pytest.raises(ExchangeError, match=r"^theirs.npz as tinynet in timm's names: .*missing stem.bias"):
        import_weights("tinynet", Path("theirs.npz"), Path("other.safetensors"), naming="timm")


def test_arguments_of_the_network_are_given_behind():
    import_weights("tinynet", kept(width=3), Path("out.safetensors"), ["width=3"])
    assert read_saved("out.safetensors").config == {"tinynet": {"classes": 5, "width": 3}}


def test_what_a_network_was_wrapped_in_does_not_matter():
    save_file({f"module.{name}": tensor for name, tensor in tensors().items()}, "wrapped.safetensors")
    import_weights("tinynet", Path("wrapped.safetensors"), Path("out.safetensors"))
    bias = read_saved("out.safetensors").params["head"]["bias"]
    np.testing.assert_array_equal(bias, tensors()["classifier.bias"])


def test_classes_get_their_names(here):
    (here / "pets.txt").write_text("a cat\na dog\ncow\nhen\npig\n")
    done = import_weights("tinynet", kept(), Path("out.safetensors"), classes=Path("pets.txt"))
    assert done.endswith("5 outputs (a cat to pig)")
    assert read_saved("out.safetensors").classes == ("a cat", "a dog", "cow", "hen", "pig")
    import_weights("tinynet", kept(classes=1000), Path("imagenet.safetensors"))
    assert read_saved("imagenet.safetensors").classes == imagenet_classes()
    with pytest.raises(ConfigError, match=r"^pets.txt: expected 1000 names, one an output, found 5$"):
        import_weights("tinynet", kept(classes=1000), Path("no.safetensors"), classes=Path("pets.txt"))


def test_tensors_that_do_not_fit_are_named_and_nothing_is_written(here):
    wrong = tensors() | {"features.0.bias": np.ones(3, np.float32), "other": np.ones(1, np.float32)}
    del wrong["features.1.bias"]
    save_file(wrong, "theirs.safetensors")
    with pytest.raises(ExchangeError) as error:
        import_weights("tinynet", Path("theirs.safetensors"), Path("out.safetensors"))
    assert str(error.value) == (
        "theirs.safetensors as tinynet in torchvision's names: the tensors do not fit the model: "
        "missing features.1.bias; features.0.bias: expected the shape [4], got [3]; "
        "unknown other; nearest: features.1.bias"
    )
    assert os.listdir(here) == ["theirs.safetensors"]


def test_tensors_of_something_else_are_told_by_their_names():
    save_file({"a": np.ones(1), "b": np.ones(1)}, "theirs.safetensors")
    wanted = "as torchvision or timm or caffe calls them, such as classifier.bias (torchvision), found a, b"
    with pytest.raises(ExchangeError, match=re.escape(wanted)):
        import_weights("tinynet", Path("theirs.safetensors"), Path("out.safetensors"))


@pytest.mark.parametrize(
    "architecture, more, error, message",
    [
        ("tinynett", {}, ConfigError, "unknown architecture 'tinynett'; nearest: tinynet"),
        ("tinynet", {"naming": "tim"}, ConfigError, "unknown naming of tinynet 'tim'; nearest: timm"),
        ("alexnet_2012", {}, ConfigError, "alexnet_2012: no library's names of its tensors are known"),
        ("tinynet", {"overrides": ["with=3"]}, ConfigError, "unknown argument of tinynet; nearest: width"),
        ("tinynet", {"overrides": ["width"]}, ConfigError, "as key=value, got 'width'"),
        ("tinynet", {"weights": Path("no.npz")}, WeightsError, "no.npz: expected weights as safetensors"),
        (
            "tinynet",
            {"out": Path("there.txt")},
            OutputError,
            "there.txt exists: choose another name or --over",
        ),
        ("tinynet", {"out": Path(".")}, OutputError, "expected a file to write, found a folder"),
        ("tinynet", {"out": Path("no/out")}, OutputError, "no/out: cannot be written: no is no folder"),
        ("tinynet", {"classes": Path("no.txt")}, DataError, "no.txt: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_is_one_clear_line(here, architecture, more, error, message):
    (here / "there.txt").write_text("mine")
    before = {kept().name, "there.txt"}
    arguments = {"weights": Path("theirs.safetensors"), "out": Path("out.safetensors")} | more
    with pytest.raises(error) as caught:
        import_weights(architecture, **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(os.listdir(here)) == before
    assert (here / "there.txt").read_text() == "mine"


def test_what_is_there_is_overwritten_on_demand(here):
    (here / "out.safetensors").write_text("mine")
    import_weights("tinynet", kept(), Path("out.safetensors"), overwrite=True)
    assert read_saved("out.safetensors").inputs.shape == (1, 6, 6, 3)


def test_an_archive_of_objects_is_not_unpickled():
    np.savez("theirs.npz", **{"conv1.weight": np.array([{}], dtype=object)})
    with pytest.raises(DataError, match=r"conv1.weight: .* objects, which would have to be unpickled"):
        import_weights("tinynet", Path("theirs.npz"), Path("out.safetensors"))


@pytest.mark.oracle
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_with_a_command_that_works(here, zipped):
    torch = pytest.importorskip("torch")
    network = torch_network()
    torch.save(network.state_dict(), "it's $HOME.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="is a pickle, which runs what its maker wrote") as error:
        import_weights("tinynet", Path("it's $HOME.pth"), Path("out.safetensors"))
    command = str(error.value).partition("this makes it safe: ")[2]
    assert command.startswith("python -c ")
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    import_weights("tinynet", Path("it's $HOME.safetensors"), Path("out.safetensors"))
    bias = read_saved("out.safetensors").params["head"]["bias"]
    np.testing.assert_array_equal(bias, network.classifier.bias.detach().numpy())


@pytest.mark.data
def test_the_release_of_squeezenet():
    folder = Path(os.environ["FNN_DATA"]) / "squeezenet"
    done = import_weights("squeezenet1_0", folder / "squeezenet_v1.0.npz", Path("out.safetensors"))
    assert "1,248,424 parameters from caffe's names, 1000 outputs" in done
    saved = read_saved("out.safetensors")
    assert saved.config == {"squeezenet1_0": {"classes": 1000, "final_padding": 1}}
    assert (saved.preprocessing.size, saved.preprocessing.bgr) == ((227, 227), True)
