"""Containers: the names and keys of their children, their values and their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layer import Layer, LayerError, name_key

KEY = jax.random.key(0)
ROWS = np.random.default_rng(0).standard_normal((5, 4), np.float32)
PICTURES = np.random.default_rng(1).standard_normal((4, 6, 6, 2), np.float32)


def names(layer: Layer) -> list[str]:
    return [name for name, _ in layer.children]


def assert_equal(one: Any, other: Any) -> None:
    assert list(fnn.paths(one)) == list(fnn.paths(other))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one: Any, other: Any, **tolerance: float) -> None:
    assert list(fnn.paths(one)) == list(fnn.paths(other))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **({"rtol": 1e-5, "atol": 1e-5} | tolerance)),
        one,
        other,
    )


# Names, keys and places


def test_the_unnamed_are_numbered_within_their_kind_and_the_named_keep_their_place() -> None:
    stem = fnn.named("stem", fnn.conv(4, 3))
    model = fnn.serial(
        stem, fnn.relu, fnn.conv(4, 3), fnn.relu, fnn.conv(4, 1), pool=fnn.flatten, head=fnn.dense(2)
    )
    assert names(model) == ["stem", "relu1", "conv1", "relu2", "conv2", "pool", "head"]


def test_one_layer_may_stand_in_two_places() -> None:
    layer = fnn.dense(4)
    params, _ = fnn.serial(layer, layer).init(KEY, ROWS)
    assert list(params) == ["dense1", "dense2"]
    assert not np.array_equal(params["dense1"]["kernel"], params["dense2"]["kernel"])


def test_an_inserted_layer_renumbers_its_own_kind_alone() -> None:
    def model(*inserted: Layer) -> Layer:
        return fnn.serial(
            fnn.conv(2, 3), *inserted, fnn.relu, fnn.named("mid", fnn.conv(2, 3)), fnn.batch_norm(),
            fnn.conv(2, 3), fnn.flatten, head=fnn.dense(3),
        )  # fmt: skip

    params, state = model().init(KEY, PICTURES)
    more, after = model(fnn.batch_norm(), fnn.conv(2, 1)).init(KEY, PICTURES)
    for name in ("conv1", "mid", "head", "batch_norm1"):
        assert_equal(more[name], params[name])
    assert list(more) == ["conv1", "batch_norm1", "conv2", "mid", "batch_norm2", "conv3", "head"]
    assert list(state) == ["batch_norm1"] and list(after) == ["batch_norm1", "batch_norm2"]
    assert more["conv2"]["kernel"].shape == (1, 1, 2, 2)
    assert not np.array_equal(more["conv3"]["kernel"], params["conv2"]["kernel"])  # its name is another


def test_a_child_starts_from_the_key_of_its_path() -> None:
    block = fnn.serial(fnn.dense(4), inner=fnn.dense(3))
    params, _ = fnn.serial(fnn.relu, block=block).init(KEY, ROWS)
    alone, _ = fnn.dense(4).init(name_key(name_key(KEY, "block"), "dense1"), ROWS)
    assert_equal(params["block"]["dense1"], alone)


def test_a_child_draws_from_the_key_of_its_path() -> None:
    model = fnn.serial(fnn.relu, fnn.dropout(0.5), fnn.dropout(0.5))
    y, _ = model.apply({}, {}, ROWS, key=KEY, train=True)
    x = np.maximum(ROWS, 0)
    for name in ("dropout1", "dropout2"):
        x, _ = fnn.dropout(0.5).apply({}, {}, x, key=name_key(KEY, name), train=True)
    np.testing.assert_array_equal(y, x)


def test_children_run_in_their_order_whatever_the_order_of_params() -> None:
    model = fnn.serial(z=fnn.dense(3), a=fnn.dense(2))
    params, state = model.init(KEY, ROWS)
    assert list(params) == ["z", "a"]
    jumbled = dict(sorted(params.items()))
    assert_equal(model.apply(jumbled, state, ROWS)[0], model.apply(params, state, ROWS)[0])
    assert model.apply(jumbled, state, ROWS)[0].shape == (5, 2)


def test_children_without_params_or_state_are_left_out() -> None:
    model = fnn.serial(fnn.relu, fnn.serial(fnn.tanh), norm=fnn.batch_norm(scale=False, bias=False))
    params, state = model.init(KEY, ROWS)
    assert params == {}
    assert list(fnn.paths(state)) == ["norm/mean", "norm/var"]


def test_an_empty_serial_is_the_identity() -> None:
    assert_equal(fnn.serial().apply({}, {}, ROWS), (ROWS, {}))


# Values


def test_residual_add_and_concat_by_value() -> None:
    body, skip = fnn.dense(4), fnn.dense(4, bias=False)
    relu, tanh = np.maximum(ROWS, 0), np.tanh(ROWS)
    params, state = fnn.residual(body, skip).init(KEY, ROWS)
    params["body"]["bias"] = jnp.arange(4.0)
    w, b, s = (np.asarray(v) for v in (*params["body"].values(), params["skip"]["kernel"]))
    assert_close(fnn.residual(body, skip).apply(params, state, ROWS)[0], ROWS @ (w + s) + b)
    assert_close(fnn.residual(body).apply({"body": params["body"]}, {}, ROWS)[0], ROWS @ w + b + ROWS)
    after = fnn.residual(body, activation=fnn.relu)
    assert_close(after.apply({"body": params["body"]}, {}, ROWS)[0], np.maximum(ROWS @ w + b + ROWS, 0.0))
    assert_close(fnn.add(fnn.relu, fnn.tanh, fnn.relu).apply({}, {}, ROWS)[0], 2 * relu + tanh)
    joined = fnn.concat(fnn.tanh, raw=fnn.relu).apply({}, {}, PICTURES)[0]
    assert_close(joined, np.concatenate([np.tanh(PICTURES), np.maximum(PICTURES, 0)], -1))


def test_branches_have_state_and_keys_of_their_own() -> None:
    model = fnn.concat(fnn.batch_norm(0.5), fnn.serial(fnn.dropout(0.5), fnn.batch_norm(0.5)))
    params, state = model.init(KEY, ROWS)
    _, state = model.apply(params, state, ROWS, key=KEY, train=True)
    inner_key = name_key(name_key(KEY, "serial1"), "dropout1")
    dropped, _ = fnn.dropout(0.5).apply({}, {}, ROWS, key=inner_key, train=True)
    assert_close(state["batch_norm1"]["mean"], 0.5 * ROWS.mean(0))
    assert_close(state["serial1"]["batch_norm1"]["mean"], 0.5 * np.asarray(dropped).mean(0))


# What containers refuse


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.serial(fnn.named("a", fnn.relu), a=fnn.tanh), "serial has two children named 'a'"),
        (lambda: fnn.serial(fnn.named("relu1", fnn.tanh), fnn.relu), "serial has two children named 'relu1'"),
        (
            lambda: fnn.concat(fnn.named("a", fnn.relu), fnn.named("a", fnn.relu)),
            "concat has two children named 'a'",
        ),
        (
            lambda: fnn.serial(fnn.dense),
            r"serial is made of layers, got dense: write dense\(\.\.\.\), a call",
        ),
        (lambda: fnn.serial(fnn.relu, norm=fnn.batch_norm), r"got batch_norm: write batch_norm\(\.\.\.\)"),
        (lambda: fnn.residual(fnn.gelu), r"residual is made of layers, got gelu: write gelu\(\.\.\.\)"),
        (lambda: fnn.repeat(fnn.conv, 2), r"repeat is made of layers, got conv: write conv\(\.\.\.\)"),
        (lambda: fnn.serial([fnn.relu]), "serial is made of layers, got "),
        (lambda: fnn.serial(None), "serial is made of layers, got None"),
        (lambda: fnn.serial("relu"), "serial is made of layers, got 'relu'"),
        (lambda: fnn.serial(**{"a/b": fnn.relu}), "'a/b' cannot name a layer"),
        (lambda: fnn.concat(), "concat needs a layer or more"),
        (lambda: fnn.add(), "add needs a layer or more"),
    ],
)
def test_what_is_no_set_of_children_is_refused(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        make()


def test_remat_of_an_uncalled_constructor_says_how_to_write_it() -> None:
    with pytest.raises(LayerError, match=r"remat is made of layers, got dense: write dense\(\.\.\.\)"):
        fnn.remat(fnn.dense)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3"])
def test_repeat_wants_a_positive_whole_number(n: Any) -> None:
    with pytest.raises(ValueError, match="repeat: n must be a positive whole number, got "):
        fnn.repeat(fnn.relu, n)


@pytest.mark.parametrize(
    "wrap", [fnn.serial, fnn.concat, fnn.add, fnn.residual, lambda layer: fnn.remat(fnn.serial(layer))]
)
def test_strangers_are_refused_with_the_nearest_name(wrap: Callable[[Layer], Layer]) -> None:
    model = wrap(fnn.named("body", fnn.batch_norm()))
    params, state = model.init(KEY, ROWS)
    with pytest.raises(LayerError, match="'boddy' in params names no child; nearest: body"):
        model.apply({**params, "boddy": params["body"]}, state, ROWS)
    with pytest.raises(LayerError, match="'boddy' in state names no child; nearest: body"):
        model.apply(params, {**state, "boddy": state["body"]}, ROWS)


def test_repeat_refuses_strangers_too() -> None:
    model = fnn.repeat(fnn.dense(4), 2)
    params, _ = model.init(KEY, ROWS)
    with pytest.raises(LayerError, match="'layers' in params names no child; nearest: layer"):
        model.apply({"layers": params["layer"]}, {}, ROWS)


def test_a_missing_subtree_is_named_by_its_path() -> None:
    model = fnn.serial(block=fnn.serial(fnn.dense(4), fnn.batch_norm()), head=fnn.dense(2))
    params, state = model.init(KEY, ROWS)
    with pytest.raises(
        LayerError, match=r"^head: expected 'kernel' among its parameters and state, got nothing$"
    ):
        model.apply({"block": params["block"]}, state, ROWS)
    with pytest.raises(LayerError, match=r"^block/batch_norm1: expected 'mean' .* got nothing$"):
        model.apply(params, {}, ROWS)
    half = {**params, "head": {"bias": params["head"]["bias"]}}
    with pytest.raises(LayerError, match=r"^head: expected 'kernel' .* got bias$"):
        model.apply(half, state, ROWS)


# Errors say where


WRONG = {
    "serial": (
        fnn.serial(features=fnn.serial(fnn.conv(4, 3), fnn.flatten, fnn.conv(4, 3))),
        PICTURES,
        "features/conv2: expected an input of rank 4 (batch, height, width, channels), got (4, 144)",
    ),
    "residual": (
        fnn.serial(fnn.residual(fnn.serial(pool=fnn.max_pool(2)))),
        ROWS,
        "residual1/body/pool: expected an input of rank 4 (batch, height, width, channels), got (5, 4)",
    ),
    "skip": (
        fnn.serial(stage=fnn.residual(fnn.relu, fnn.max_pool(2))),
        ROWS,
        "stage/skip: expected an input of rank 4 (batch, height, width, channels), got (5, 4)",
    ),
    "sum": (
        fnn.serial(fnn.relu, stage=fnn.residual(fnn.dense(3))),
        ROWS,
        "stage: expected outputs of one shape and dtype to add, got body float32[5, 3], input float32[5, 4]",
    ),
    "add": (
        fnn.serial(fnn.add(fnn.dense(3), other=fnn.relu)),
        ROWS,
        "add1: expected outputs of one shape and dtype to add, got dense1 float32[5, 3], other float32[5, 4]",
    ),
    "concat": (
        fnn.serial(fnn.concat(fnn.relu, fnn.max_pool(2))),
        PICTURES,
        "concat1: expected outputs that differ in their last axis alone, "
        "got relu1 float32[4, 6, 6, 2], max_pool1 float32[4, 3, 3, 2]",
    ),
    "axis": (
        fnn.serial(fnn.conv(1, 1, padding=2**31 - 1)),
        PICTURES,
        f"conv1: expected an output whose axes are below 2**31, got {(4, 2**32 + 4, 2**32 + 4, 1)}",
    ),
    "branch": (
        fnn.serial(fnn.concat(fnn.relu, pool=fnn.max_pool(2))),
        ROWS,
        "concat1/pool: expected an input of rank 4 (batch, height, width, channels), got (5, 4)",
    ),
    "repeat": (
        fnn.serial(fnn.repeat(fnn.serial(fnn.tanh, fnn.max_pool(2)), 3)),
        ROWS,
        "repeat1/layer/max_pool1: expected an input of rank 4 (batch, height, width, channels), got (5, 4)",
    ),
    "remat": (
        fnn.serial(fnn.remat(fnn.serial(fnn.tanh, fnn.max_pool(2)))),
        ROWS,
        "serial1/max_pool1: expected an input of rank 4 (batch, height, width, channels), got (5, 4)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_error_with_its_path_in_init_apply_and_under_every_transformation(case: str) -> None:
    model, x, message = WRONG[case]
    runs = [
        lambda: model.init(KEY, x),
        lambda: model.init(KEY, fnn.spec(jnp.asarray(x))),
        lambda: jax.jit(model.init)(KEY, x),
        lambda: jax.eval_shape(model.init, KEY, x),
    ]
    if case in ("skip", "sum", "concat", "branch", "repeat", "remat", "residual"):  # its params do not matter
        params = {"stage": {"body": fnn.dense(3).init(KEY, ROWS)[0]}} if case == "sum" else {}
        runs += [
            lambda: model.apply(params, {}, x),
            lambda: jax.jit(model.apply)(params, {}, x),
            lambda: jax.eval_shape(model.apply, params, {}, x),
            lambda: jax.grad(lambda v: jnp.sum(model.apply(params, {}, v)[0]))(jnp.asarray(x)),
            lambda: jax.vmap(lambda v: model.apply(params, {}, v)[0])(jnp.stack([x, x])),
        ]
    for run in runs:
        with pytest.raises(LayerError) as error:
            run()
        assert str(error.value) == message


def test_dropout_without_a_key_is_named_by_its_path() -> None:
    model = fnn.serial(block=fnn.serial(fnn.relu, fnn.dropout(0.5)))
    assert_equal(model.apply({}, {}, ROWS)[0], np.maximum(ROWS, 0))
    with pytest.raises(LayerError) as error:
        model.apply({}, {}, ROWS, train=True)
    assert str(error.value) == (
        "block/dropout1: dropout draws at random in training and needs a key: "
        "apply(params, state, x, key=jax.random.key(0), train=True)"
    )


def test_a_compiled_init_makes_the_same_params_for_every_batch_size() -> None:
    model = fnn.serial(fnn.dense(3), fnn.batch_norm(), fnn.dense(2))
    made = [jax.jit(model.init)(KEY, ROWS[:n]) for n in (1, 5)]
    assert_equal(*made)


# ---------------------------------------------------------------- max pooling before what keeps the order


def pooled_in_order(model, params, x):
    """The children of a serial one by one."""
    for name, child in model.children:
        x, _ = child.apply(params.get(name, {}), {}, x)
    return x


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("pool", [fnn.max_pool(2), fnn.max_pool(3, 2, "SAME")], ids=["apart", "overlapping"])
def test_max_pooling_first_changes_no_bit_and_no_gradient(dtype, pool):
    model = fnn.serial(fnn.conv(8, 3), fnn.relu, pool, fnn.conv(4, 3, bias=False), fnn.relu6, pool)
    x = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(dtype)
    params, _ = model.init(jax.random.key(0), x)
    params["conv1"]["bias"] = jnp.linspace(-1, 1, 8)
    y, _ = model.apply(params, {}, x)
    np.testing.assert_array_equal(y, pooled_in_order(model, params, x))
    gradients = [
        jax.grad(lambda p, f=f: jnp.sum(f(p).astype(jnp.float32) ** 2))(params)
        for f in (lambda p: model.apply(p, {}, x)[0], lambda p: pooled_in_order(model, p, x))
    ]
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05  # where rounding makes values equal, another one wins
    for got, wanted in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max())


def test_max_pooling_comes_before_the_bias_and_relu_written_before_it():
    model = fnn.serial(fnn.conv(8, 3), fnn.relu, fnn.max_pool(2))
    x = jnp.ones((1, 12, 12, 3))
    params, _ = model.init(jax.random.key(0), x)
    names = [str(e.source_info.name_stack) for e in jax.make_jaxpr(model.apply)(params, {}, x).eqns]
    assert names.index("max_pool1") < names.index("relu1")
    captured = fnn.capture(model)
    _, state = captured.apply(params, captured.init(jax.random.key(0), x)[1], x)
    assert fnn.captured(state)["relu1"].shape == (1, 12, 12, 8)  # what a reader of the model expects


def test_nothing_passes_what_does_not_keep_the_order():
    model = fnn.serial(fnn.conv(4, 3), fnn.relu, fnn.dropout(0.5), fnn.max_pool(2))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    params, _ = model.init(jax.random.key(0), x)
    names = [str(e.source_info.name_stack) for e in jax.make_jaxpr(model.apply)(params, {}, x).eqns]
    assert names.index("relu1") < names.index("max_pool1")
