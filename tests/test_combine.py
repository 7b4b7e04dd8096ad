"""Containers: the names and keys of children, their order, their errors; repeat and remat by value."""

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


# Repeat


NOISY = fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.dropout(0.25), fnn.tanh)
CONVOLVED = fnn.serial(fnn.conv(2, 3), fnn.batch_norm(), fnn.dropout(0.25), fnn.tanh)


def by_hand(body: Layer, n: int, params: Any, state: Any, x: Any, key: Any, train: bool) -> Any:
    """``repeat`` as a Python loop over slices of the stacked parameters."""
    states = []
    for i in range(n):
        own, old = (jax.tree.map(lambda leaf: leaf[i], tree.get("layer", {})) for tree in (params, state))  # noqa: B023
        own_key = None if key is None else jax.random.fold_in(name_key(key, "layer"), i)
        x, new = body.apply(own, old, x, key=own_key, train=train)
        states.append(new)
    return x, {"layer": jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)}


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("body", "x"), [(NOISY, ROWS), (CONVOLVED, PICTURES)], ids=["dense", "conv"])
def test_repeat_scanned_or_unrolled_is_the_loop(
    body: Layer, x: np.ndarray, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    model = fnn.repeat(body, 3)
    params, state = model.init(KEY, x)
    text = str(jax.make_jaxpr(lambda p: model.apply(p, state, x)[0])(params))
    assert ("scan[" in text) == (body is NOISY or platform == "gpu")
    for train in (False, True):
        got = model.apply(params, state, x, key=KEY, train=train)
        assert_close(got, by_hand(body, 3, params, state, x, KEY, train))

    def loss(run: Callable[..., Any], p: Any) -> Any:
        return jnp.sum(jnp.square(run(p)[0]))

    got = jax.grad(lambda p: loss(lambda q: model.apply(q, state, x, key=KEY, train=True), p))(params)
    wanted = jax.grad(lambda p: loss(lambda q: by_hand(body, 3, q, state, x, KEY, True), p))(params)
    assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_repeat_stacks_members_that_start_from_keys_of_their_own() -> None:
    params, state = fnn.repeat(NOISY, 3).init(KEY, ROWS)
    assert list(fnn.paths(params)) == [
        "layer/batch_norm1/bias", "layer/batch_norm1/scale", "layer/dense1/bias", "layer/dense1/kernel",
    ]  # fmt: skip
    for i in range(3):
        own, _ = NOISY.init(jax.random.fold_in(name_key(KEY, "layer"), i), ROWS)
        assert_close(jax.tree.map(lambda leaf: leaf[i], params["layer"]), own)  # noqa: B023
    assert {leaf.shape for leaf in jax.tree.leaves(state)} == {(3, 4)}


def test_repeat_draws_other_noise_in_every_round() -> None:
    y, _ = fnn.repeat(fnn.dropout(0.5), 2).apply({}, {}, jnp.ones((1, 4000)), key=KEY, train=True)
    assert set(np.unique(y)) == {0.0, 4.0}
    assert 0.2 < np.mean(np.asarray(y) > 0) < 0.3  # the same noise twice would keep a half


def test_repeat_traces_its_body_as_often_for_many_rounds_as_for_few() -> None:
    def traces(n: int) -> int:
        seen = []
        model = fnn.repeat(fnn.fn(lambda x: seen.append(1) or jnp.sin(x)), n)
        y = jax.jit(model.apply)({}, {}, jnp.asarray(ROWS))[0]
        expected = ROWS
        for _ in range(n):
            expected = np.sin(expected)
        assert_close(y, expected)
        return len(seen)

    assert traces(2) == traces(20) <= 2


def test_repeat_refuses_a_body_that_changes_its_input() -> None:
    for body in (fnn.dense(3), fnn.fn(lambda x: x.astype(jnp.bfloat16))):
        with pytest.raises(
            LayerError, match=r"^layer: expected a layer whose output is like its input to repeat"
        ):
            fnn.repeat(body, 2).init(KEY, ROWS)


def test_repeat_takes_a_weakly_typed_input() -> None:
    x = jnp.full((5, 4), 1.0)  # JAX calls it weakly typed, as it comes from a Python number
    params, state = fnn.repeat(fnn.dense(4), 2).init(KEY, x)
    assert_close(
        *(fnn.repeat(fnn.dense(4), 2).apply(params, state, v)[0] for v in (x, np.ones((5, 4), np.float32)))
    )


def test_repeat_of_a_layer_without_params_keeps_both_trees_empty() -> None:
    model = fnn.repeat(fnn.tanh, 2)
    assert model.init(KEY, ROWS) == ({}, {})
    y, state = model.apply({}, {}, ROWS)
    assert_close(y, np.tanh(np.tanh(ROWS)))
    assert state == {}


# Remat


def test_remat_keeps_paths_values_states_and_gradients() -> None:
    plain, saving = (
        fnn.serial(block=wrap(NOISY), head=fnn.dense(2)) for wrap in (lambda layer: layer, fnn.remat)
    )
    params, state = plain.init(KEY, ROWS)
    assert fnn.digest(params, state) == fnn.digest(*saving.init(KEY, ROWS))

    def loss(model: Layer, p: Any) -> Any:
        y, new = model.apply(p, state, ROWS, key=KEY, train=True)
        return jnp.sum(jnp.square(y)), new

    for model in (saving, fnn.map_layers(lambda path, layer: layer, saving)):
        (value, new), gradient = jax.value_and_grad(lambda p: loss(model, p), has_aux=True)(params)  # noqa: B023
        (expected, wanted), wanted_gradient = jax.value_and_grad(lambda p: loss(plain, p), has_aux=True)(
            params
        )
        assert_close((value, new, gradient), (expected, wanted, wanted_gradient))


def test_remat_computes_inner_values_again() -> None:
    def tanhs(layer: Layer) -> int:
        gradient = jax.grad(lambda x: jnp.sum(layer.apply({}, {}, x)[0]))
        return str(jax.make_jaxpr(gradient)(jnp.asarray(ROWS))).count("= tanh")

    body = fnn.serial(fnn.tanh, fnn.tanh)
    assert tanhs(body) == 2
    assert tanhs(fnn.remat(body)) > 2
    assert tanhs(fnn.map_layers(lambda path, layer: layer, fnn.remat(body))) > 2


def test_remat_keeps_name_kind_and_children() -> None:
    body = fnn.named("block", fnn.serial(fnn.dense(4), fnn.relu))
    saving = fnn.remat(body)
    assert (saving.name, saving.kind, names(saving)) == ("block", "serial", ["dense1", "relu1"])
    assert names(fnn.serial(saving, fnn.remat(fnn.tanh))) == ["block", "tanh1"]


# Together with JAX


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch() -> None:
    spread = fnn.serial(fnn.dense(3), fnn.batch_norm(axis_name="devices"))
    whole = fnn.serial(fnn.dense(3), fnn.batch_norm())
    params, state = whole.init(KEY, PICTURES)
    parts = PICTURES.reshape(2, 2, 6, 6, 2)
    mapped = jax.vmap(
        lambda x: spread.apply(params, state, x, train=True), axis_name="devices", out_axes=(0, None)
    )
    (y, new), (wanted, expected) = mapped(parts), whole.apply(params, state, PICTURES, train=True)
    assert_close((y.reshape(wanted.shape), new), (wanted, expected))
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(jax.vmap(
        lambda x: spread.apply(p, state, x, train=True)[0], axis_name="devices")(parts))))  # fmt: skip
    reference = jax.grad(lambda p: jnp.sum(jnp.sin(whole.apply(p, state, PICTURES, train=True)[0])))
    assert_close(gradient(params), reference(params), rtol=1e-4, atol=1e-4)


def test_a_step_is_traced_once_for_all_states_params_and_keys() -> None:
    seen = []
    model = fnn.serial(NOISY, fnn.fn(lambda x: seen.append(x.shape) or x), fnn.repeat(NOISY, 2))
    params, state = model.init(KEY, ROWS)
    seen.clear()
    run = jax.jit(model.apply, static_argnames="train")
    for i in range(4):
        params = jax.tree.map(lambda p: p * 0.9, params)
        _, state = run(params, state, ROWS, key=jax.random.key(i), train=True)
    assert len(seen) == 1
    for _ in range(2):
        run(params, state, ROWS, train=False)
    assert len(seen) == 2


def test_a_compiled_init_makes_the_same_params_for_every_batch_size() -> None:
    model = fnn.serial(NOISY, fnn.dense(2))
    made = [jax.jit(model.init)(KEY, ROWS[:n]) for n in (1, 5)]
    assert_equal(*made)
