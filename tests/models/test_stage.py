"""Blocks scanned and recomputed: the same network, its parameters stacked."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.models.blocks import regrouped, stage

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((4, 16, 16, 3), np.float32)
MODELS = {
    "resnet": lambda **how: fnn.resnet([2], classes=3, width=4, **how),
    "bottlenecks": lambda **how: fnn.resnet([3], classes=3, width=2, bottleneck=True, **how),
    "cifar_resnet": lambda **how: fnn.cifar_resnet(14, 3, width=2, **how),
    "preact_resnet": lambda **how: fnn.preact_resnet(14, 3, width=2, **how),
    "convnext": lambda **how: fnn.convnext([2, 1], [4, 8], classes=3, **how),
    "mlp_mixer": lambda **how: fnn.mlp_mixer(2, 4, patch=4, size=16, classes=3, **how),
}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "resnet" else []) for name in MODELS]
)


def stacked(tree, like):
    """The leaves of a plain model's tree where a scanned one has them."""
    plain = fnn.paths(tree)

    def leaf(path, shape):
        where = re.search(r"blocks(\d+)-(\d+)/layer/", path)
        if where is None:
            return plain[path]
        first, last = map(int, where.groups())
        members = [path.replace(where[0], f"block{i}/") for i in range(first, last + 1)]
        return jnp.stack([plain[member] for member in members])

    leaves = [leaf(path, shape) for path, shape in fnn.paths(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def drawn(shapes, least):
    """Values up to 1, none of them at its default."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.uniform(least, 1.0, leaf.shape).astype(np.float32), shapes)


def step(model, params, state):
    def loss(p):
        y, new = model.apply(p, state, X, key=KEY, train=True)
        return jnp.mean(jnp.sin(y)), (y, new)

    (_, (y, new)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return y, new, gradient


def near(got, wanted):
    assert list(fnn.paths(got)) == list(fnn.paths(wanted))
    for path, leaf in fnn.paths(wanted).items():
        atol = 1e-4 * float(np.abs(leaf).max()) + 1e-7
        np.testing.assert_allclose(fnn.paths(got)[path], leaf, rtol=0, atol=atol, err_msg=path)


pytestmark = pytest.mark.usefixtures("quick_compiler")


@EACH
def test_scanned_and_recomputed_blocks_make_the_same_step(name):
    plain, scanned = MODELS[name](), MODELS[name](scan=True, remat=True)
    shapes = jax.eval_shape(plain.init, KEY, X)
    params, state = drawn(shapes[0], -1.0), drawn(shapes[1], 0.5)
    like = jax.eval_shape(scanned.init, KEY, X)
    assert len(fnn.paths(like[0])) < len(fnn.paths(params))
    y, new, gradient = step(plain, params, state)
    assert all(np.any(leaf) for leaf in jax.tree.leaves((y, new)))
    got = step(scanned, stacked(params, like[0]), stacked(state, like[1]))
    near(got, (y, stacked(new, like[1]), stacked(gradient, like[0])))


def test_only_equal_blocks_in_a_row_are_scanned():
    one, other = fnn.dense(4), fnn.dense(4)
    model = stage([one, other, other, one, one, one], scan=True)
    assert [name for name, _ in model.children] == ["block1", "blocks2-3", "blocks4-6"]
    params, _ = jax.eval_shape(model.init, KEY, np.zeros((1, 4), np.float32))
    assert fnn.count(params) == 6 * 20


def test_recomputed_blocks_are_checkpointed():
    body = fnn.serial(fnn.dense(4), fnn.tanh)
    for scan, regions in ((False, 3), (True, 1)):
        model = stage([body] * 3, remat=True, scan=scan)
        params, _ = jax.eval_shape(model.init, KEY, np.zeros((1, 4), np.float32))
        text = str(jax.make_jaxpr(lambda p: model.apply(p, {}, jnp.zeros((1, 4)))[0])(params))  # noqa: B023
        assert len(re.findall(r"checkpoint\[|remat\d*\[", text)) == regions


def shape_of(*shape, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_shapes_are_regrouped_as_arrays_are():
    apart = {f"a/block{i}/k": np.full((2, 3), i, np.int8) for i in range(1, 12)} | {"b": np.ones(())}
    names = ["a/blocks1-2/layer/k", "a/blocks4-11/layer/k", "b"]
    arrays = regrouped(apart, names)
    assert list(arrays) == ["a/block3/k", "a/blocks1-2/layer/k", "a/blocks4-11/layer/k", "b"]
    np.testing.assert_array_equal(arrays[names[1]][:, 0, 0], range(4, 12))
    shapes = {path: shape_of(*leaf.shape, dtype=leaf.dtype) for path, leaf in apart.items()}
    assert regrouped(shapes, names) == {
        path: shape_of(*leaf.shape, dtype=leaf.dtype) for path, leaf in arrays.items()
    }
    assert regrouped(regrouped(shapes, names), ()) == shapes
    assert regrouped(regrouped(shapes, names), names) == regrouped(shapes, names)
    other = regrouped(regrouped(shapes, names), ["a/blocks1-3/layer/k"])
    assert other["a/blocks1-3/layer/k"] == shape_of(3, 2, 3, dtype=np.int8)


@pytest.mark.parametrize(
    "name",
    [
        "blocks1-3/layer/k",  # of which one is of another shape
        "blocks4-5/layer/k",  # of another dtype
        "blocks5-6/layer/k",  # is not there
        "blocks1-999999999999999999999/layer/k",
        "blocks5-4/layer/k",
    ],
)
def test_what_cannot_be_stacked_stays_as_it_is(name):
    apart = {f"block{i}/k": shape_of(2) for i in (1, 2)} | {"block3/k": shape_of(3), "block4/k": shape_of(2)}
    apart |= {"block5/k": shape_of(2, dtype=np.int8)}
    assert regrouped(apart, [name]) == apart


@pytest.mark.parametrize("path", ["blocks1-4/layer/k", "myblocks1-3/layer/k", "blocks1-3/k"])
def test_what_only_looks_like_a_stack_stays_as_it_is(path):
    assert regrouped({path: shape_of(3, 2)}, ()) == {path: shape_of(3, 2)}
