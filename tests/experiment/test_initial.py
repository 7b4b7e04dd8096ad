"""Weights to begin with: what is taken, what is made anew, and what is refused."""

from __future__ import annotations

import hashlib

import jax
import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.experiment.initial import read_initial
from fnn.experiment.schema import InitSection
from fnn.models.blocks import stage
from fnn.training import save_weights

X = jax.ShapeDtypeStruct((1, 4), np.float32)


def model(classes=3, **more):
    return fnn.serial(stem=fnn.dense(5), norm=fnn.batch_norm(), **more, head=fnn.dense(classes))


def shapes(layer):
    return jax.eval_shape(layer.init, jax.random.key(0), X)


@pytest.fixture
def file(tmp_path):
    params, state = model().init(jax.random.key(7), X)
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_weights(params, state, {"config": ""}, raw=params))
    return path


def begin(path, replace=(), layer=None, sha256=None):
    section = InitSection(path=str(path), replace=list(replace), sha256=sha256)
    return read_initial(section, *shapes(layer or model()))


def refused(*arguments, **named):
    with pytest.raises(ConfigError) as error:
        begin(*arguments, **named)
    assert "\n" not in str(error.value)
    return error.value


def test_everything_is_taken_statistics_too(file):
    params, state = model().init(jax.random.key(7), X)
    found = begin(file)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.new == ()
    wanted = fnn.paths({"params": params, "state": state})
    assert list(found.arrays) == list(wanted)
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(found.arrays[path], leaf)


def test_a_runs_folder_stands_for_its_weights(file):
    file.rename(file.parent / "model.safetensors")
    assert begin(file.parent).file == file.parent / "model.safetensors"


def test_what_is_replaced_need_not_fit_and_need_not_be_there(file):
    found = begin(file, ["head/**"], model(7))
    assert found.new == ("head/bias", "head/kernel")
    assert not any("head" in path for path in found.arrays)
    assert found.message == f"beginning with 6 tensors of {file}; made anew: head/bias, head/kernel"
    assert begin(file, ["more/*", "head/*"], model(7, more=fnn.dense(2))).new[:2] == (
        "head/bias",
        "head/kernel",
    )
    shorter = fnn.serial(stem=fnn.dense(5), norm=fnn.batch_norm())
    assert begin(file, ["head/*"], shorter).new == ()
    assert begin(file, ["norm/mean"]).new == ("norm/mean",)


def test_another_last_layer_is_told_with_what_to_write(file):
    error = refused(file, layer=model(7))
    assert str(error) == (
        f"init_from.path: {file} does not fit the model: "
        "params/head/bias: expected float32[7], got float32[3]; "
        "params/head/kernel: expected float32[5, 7], got float32[5, 3]; "
        'init_from.replace: ["head/*"] makes that anew'
    )
    renamed = fnn.serial(stem=fnn.dense(5), norm=fnn.batch_norm(), last=fnn.dense(7))
    told = str(refused(file, layer=renamed))
    assert "missing params/last/bias; missing params/last/kernel; unknown params/head/bias" in told
    assert told.endswith('init_from.replace: ["last/*", "head/*"] makes that anew')


def test_another_model_is_told_without(file):
    told = str(refused(file, layer=fnn.serial(fnn.dense(2), fnn.dense(3))))
    assert "missing params/dense1/bias" in told
    assert "replace" not in told


@pytest.mark.parametrize(
    "replace, message",
    [
        (["haed/*"], "init_from.replace: pattern 'haed/*' matches no parameter; nearest: head/bias"),
        (["*"], "init_from.replace: covers all that the model has: nothing is left to take"),
    ],
)
def test_a_pattern_that_fits_nothing_or_everything_is_refused(file, replace, message):
    assert str(refused(file, replace)).startswith(message)


def test_another_file_than_it_was_is_refused(file):
    digest = begin(file).sha256
    assert begin(file, sha256=digest).sha256 == digest
    params, state = model().init(jax.random.key(8), X)
    file.write_bytes(save_weights(params, state, {}))
    error = refused(file, sha256=digest)
    assert error.path == ("init_from", "sha256")
    assert digest in str(error)


def test_what_is_no_weights_file_is_refused(file, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "found a zip archive" in str(refused(tmp_path / "w.pth"))
    assert "found none" in str(refused(tmp_path / "nothing"))
    (tmp_path / "folder").mkdir()
    assert "expected a run that has ended" in str(refused(tmp_path / "folder"))


def staged(scan, n=3, classes=3):
    return fnn.serial(body=stage([fnn.dense(4)] * n, scan=scan), head=fnn.dense(classes))


@pytest.fixture
def files(tmp_path):
    """The weights of the same three blocks, one by one and stacked: the files and what is in them."""
    params, _ = staged(scan=False).init(jax.random.key(7), X)
    blocks = [params["body"][f"block{i}"] for i in (1, 2, 3)]
    stack = {name: np.stack([block[name] + i for i, block in enumerate(blocks)]) for name in blocks[0]}
    apart = {f"block{i + 1}": {name: stack[name][i] for name in stack} for i in range(3)}
    found = {}
    for scan, body in ((False, apart), (True, {"blocks1-3": {"layer": stack}})):
        tree = params | {"body": body}
        path = tmp_path / f"{scan}.safetensors"
        path.write_bytes(save_weights(tree, {}, {}))
        found[scan] = path, fnn.paths({"params": tree})
    return found


def same(found, wanted):
    assert list(found) == list(wanted)
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


@pytest.mark.parametrize("scan", [False, True])
def test_scanned_blocks_begin_with_those_of_a_file_that_has_them_one_by_one_and_back(files, scan):
    path, _ = files[not scan]
    _, wanted = files[scan]
    same(begin(path, layer=staged(scan)).arrays, wanted)
    found = begin(path, ["head/*"], staged(scan, classes=7))
    assert found.new == ("head/bias", "head/kernel")
    same(found.arrays, {name: leaf for name, leaf in wanted.items() if "head" not in name})


def test_blocks_of_either_kind_may_be_made_anew(files):
    (apart, in_apart), (stacked, in_stack) = files[False], files[True]
    found = begin(apart, ["body/blocks1-3/layer/bias"], staged(scan=True))
    assert found.new == ("body/blocks1-3/layer/bias",)
    same(
        found.arrays, {name: leaf for name, leaf in in_stack.items() if name.count("/") < 4 or "ker" in name}
    )
    found = begin(stacked, ["body/block2/*"], staged(scan=False))
    assert found.new == ("body/block2/bias", "body/block2/kernel")
    same(found.arrays, {name: leaf for name, leaf in in_apart.items() if "block2" not in name})


def test_another_number_of_blocks_or_classes_is_told(files):
    path, _ = files[False]
    assert str(refused(path, layer=staged(scan=True, n=4))) == (
        f"init_from.path: {path} does not fit the model: "
        "missing params/body/block4/bias; missing params/body/block4/kernel"
    )
    told = str(refused(path, layer=staged(scan=True, classes=7)))
    assert told.endswith('init_from.replace: ["head/*"] makes that anew')
    told = str(refused(files[True][0], layer=staged(scan=True, n=2)))
    assert "missing params/body/block2/kernel; unknown params/body/blocks1-3/layer/bias" in told


@pytest.mark.parametrize(
    "scan, pattern, theirs, ours",
    [
        (True, "body/block2/bias", "body/block2/bias", "body/blocks1-3/layer/bias"),
        (False, "body/blocks*/bias", "body/blocks1-3/layer/bias", "body/block1/bias"),
    ],
)
def test_a_pattern_for_the_files_blocks_alone_is_refused(files, scan, pattern, theirs, ours):
    path, _ = files[not scan]
    assert str(refused(path, [pattern], staged(scan))) == (
        f"init_from.replace: covers {theirs} of {path}, which the model stacks otherwise: "
        f"expected a pattern for the model's own paths, such as {ours}"
    )
