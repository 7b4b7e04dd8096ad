"""Inner outputs by path: equal to those of the layers run by hand, through every transformation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layer import Layer, name_key

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((6, 4), np.float32)

BLOCK = fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.tanh)
MODEL = fnn.serial(fnn.dense(4), block=fnn.residual(BLOCK), head=fnn.dense(2))
PARAMS, STATE = MODEL.init(KEY, X)


def by_hand(x: Any, state: Any = STATE, train: bool = False) -> dict[str, Any]:
    """Every output of ``MODEL``, each layer run by itself."""
    outputs = {}

    def run(path: str, layer: Layer, params: Any, state: Any, x: Any) -> Any:
        outputs[path], _ = layer.apply(params, state, x, train=train)
        return outputs[path]

    body, norm = PARAMS["block"]["body"], state["block"]["body"]["batch_norm1"]
    first = run("dense1", fnn.dense(4), PARAMS["dense1"], {}, x)
    y = run("block/body/dense1", fnn.dense(4), body["dense1"], {}, first)
    y = run("block/body/batch_norm1", fnn.batch_norm(), body["batch_norm1"], norm, y)
    y = run("block/body/tanh1", fnn.tanh, {}, {}, y)
    outputs["block/body"], outputs["block"] = y, y + first
    outputs[""] = run("head", fnn.dense(2), PARAMS["head"], {}, y + first)
    return dict(sorted(outputs.items()))


def assert_close(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for path in other:
        np.testing.assert_allclose(one[path], other[path], rtol=1e-5, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("train", [False, True])
def test_every_output_is_that_of_the_layer_by_itself(train: bool) -> None:
    y, state = fnn.capture(MODEL).apply(PARAMS, STATE, X, train=train)
    plain, after = MODEL.apply(PARAMS, STATE, X, train=train)
    assert_close(fnn.captured(state), by_hand(X, train=train))
    np.testing.assert_array_equal(y, plain)
    moved = state["block"]["body"]["batch_norm1"]
    for name, value in after["block"]["body"]["batch_norm1"].items():
        np.testing.assert_array_equal(moved[name], value)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("head", ["head"]),
        ("block/*", ["block/body", "block/body/batch_norm1", "block/body/dense1", "block/body/tanh1"]),
        ("*dense1", ["block/body/dense1", "dense1"]),
        ("", [""]),
    ],
)
def test_a_pattern_says_whose(pattern: str, paths: list[str]) -> None:
    _, state = fnn.capture(MODEL, pattern).apply(PARAMS, STATE, X)
    expected = by_hand(X)
    assert_close(fnn.captured(state), {path: expected[path] for path in paths})


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="capture: pattern 'stem/\\*' matches no layer"):
        fnn.capture(MODEL, "stem/*")


def test_a_captured_model_starts_as_the_model_does_with_room_for_its_outputs() -> None:
    params, state = fnn.capture(MODEL).init(KEY, X)
    assert fnn.digest(params, {}) == fnn.digest(PARAMS, {})
    assert {p: v.shape for p, v in fnn.captured(state).items()} == {p: v.shape for p, v in by_hand(X).items()}
    _, after = fnn.capture(MODEL).apply(params, state, X)
    assert fnn.spec(after) == fnn.spec(state)
    assert_close(fnn.captured(after), by_hand(X))


def test_a_plain_state_has_no_outputs() -> None:
    assert fnn.captured(STATE) == {}
    assert fnn.captured({}) == {}


def test_through_jit_and_a_second_pass() -> None:
    run = jax.jit(fnn.capture(MODEL).apply)
    _, state = run(PARAMS, STATE, X)
    assert_close(fnn.captured(state), by_hand(X))
    _, state = run(PARAMS, state, 2 * X)  # what was captured before does not matter
    assert_close(fnn.captured(state), by_hand(2 * X))


def test_through_grad() -> None:
    def loss(params: Any) -> Any:
        _, state = fnn.capture(MODEL, "block").apply(params, STATE, X)
        return jnp.sum(fnn.captured(state)["block"]), state

    gradient, state = jax.grad(loss, has_aux=True)(PARAMS)
    np.testing.assert_allclose(gradient["head"]["kernel"], 0)
    assert float(jnp.abs(gradient["dense1"]["kernel"]).max()) > 0
    assert_close(fnn.captured(state), {"block": by_hand(X)["block"]})


def test_through_vmap() -> None:
    xs = np.stack([X, -X, 2 * X])
    _, state = jax.vmap(lambda x: fnn.capture(MODEL).apply(PARAMS, STATE, x))(xs)
    each = [by_hand(x) for x in xs]
    assert_close(fnn.captured(state), {path: np.stack([one[path] for one in each]) for path in each[0]})


def test_through_scan() -> None:
    model = fnn.capture(MODEL)
    xs = np.stack([X, -X, 2 * X])

    def step(state: Any, x: Any) -> Any:
        _, state = model.apply(PARAMS, state, x, train=True)
        return state, fnn.captured(state)

    _, start = model.init(KEY, X)
    _, outputs = jax.lax.scan(step, start, xs)
    state, each = STATE, []
    for x in xs:
        each.append(by_hand(x, state, train=True))
        _, state = MODEL.apply(PARAMS, state, x, train=True)
    assert_close(outputs, {path: np.stack([one[path] for one in each]) for path in each[0]})


def test_through_remat() -> None:
    model = fnn.serial(fnn.dense(4), block=fnn.remat(fnn.residual(BLOCK)), head=fnn.dense(2))

    def loss(params: Any) -> Any:
        y, state = fnn.capture(model).apply(params, STATE, X)
        return jnp.sum(y), state

    _, state = jax.grad(loss, has_aux=True)(PARAMS)
    assert_close(fnn.captured(state), by_hand(X))


@pytest.mark.parametrize("body", [BLOCK, fnn.serial(fnn.conv(4, 1), fnn.tanh)], ids=["scanned", "unrolled"])
def test_through_repeat_with_a_leading_axis(body: Layer) -> None:
    x = X[:, None, None] if body is not BLOCK else X
    model = fnn.serial(fnn.repeat(body, 3))
    params, state = model.init(KEY, x)
    _, after = jax.jit(fnn.capture(model).apply)(params, state, x)
    outputs = fnn.captured(after)
    rounds = []
    y = x
    for i in range(3):
        inner = (tree.get("repeat1", {}).get("layer", {}) for tree in (params, state))
        own, old = (jax.tree.map(lambda leaf, i=i: leaf[i], tree) for tree in inner)
        y, _ = body.apply(own, old, y)
        rounds.append(y)
    np.testing.assert_allclose(outputs["repeat1/layer"], np.stack(rounds), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["repeat1/layer/tanh1"], np.stack(rounds), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["repeat1"], rounds[-1], rtol=1e-5, atol=1e-5)


def test_noise_is_that_of_the_plain_model() -> None:
    model = fnn.serial(fnn.relu, fnn.dropout(0.5))
    _, state = fnn.capture(model).apply({}, {}, X, key=KEY, train=True)
    expected, _ = fnn.dropout(0.5).apply({}, {}, jax.nn.relu(X), key=name_key(KEY, "dropout1"), train=True)
    np.testing.assert_array_equal(fnn.captured(state)["dropout1"], expected)


def test_a_captured_model_is_a_model_like_any_other() -> None:
    expected, seen = by_hand(X), []
    again = fnn.map_layers(lambda path, layer: seen.append(path) or layer, fnn.capture(MODEL, "block*"))
    assert sorted(seen) == list(expected)
    _, state = again.apply(PARAMS, STATE, X)
    assert_close(fnn.captured(state), {path: y for path, y in expected.items() if path.startswith("block")})
    _, state = fnn.capture(fnn.capture(MODEL, "block"), "head").apply(PARAMS, STATE, X)
    assert_close(fnn.captured(state), {path: expected[path] for path in ("block", "head")})
    _, state = fnn.serial(fnn.relu, inner=fnn.capture(fnn.tanh)).apply({}, {}, X)
    assert_close(fnn.captured(state), {"inner": np.tanh(np.maximum(X, 0))})


def test_names_and_kinds_stay() -> None:
    block = fnn.named("block", fnn.separable_conv(4, 3))
    assert (fnn.capture(block).name, fnn.capture(block).kind) == ("block", "separable_conv")
    assert [name for name, _ in fnn.serial(fnn.capture(fnn.dense(3))).children] == ["dense1"]
