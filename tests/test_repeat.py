"""Repeat, remat and batch_norm over a mapped axis, by value; and how often a model is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import kernels
from fnn.layer import Layer, LayerError, name_key
from fnn.repeat import slow_in_a_loop

KEY = jax.random.key(0)
ROWS = np.random.default_rng(0).standard_normal((5, 4), np.float32)
PICTURES = np.random.default_rng(1).standard_normal((4, 6, 6, 2), np.float32)


def assert_close(one: Any, other: Any, **tolerance: float) -> None:
    assert list(fnn.paths(one)) == list(fnn.paths(other))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **({"rtol": 1e-5, "atol": 1e-5} | tolerance)),
        one,
        other,
    )


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


@pytest.mark.parametrize(
    ("platform", "active", "scanned"),
    [
        pytest.param("cpu", "xla", False, marks=pytest.mark.slow),
        ("cpu", "jax", False),
        ("cpu", "onednn", True),
        pytest.param("gpu", "xla", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("body", "x"), [(NOISY, ROWS), (CONVOLVED, PICTURES)], ids=["dense", "conv"])
def test_repeat_scanned_or_unrolled_is_the_loop(
    body: Layer, x: np.ndarray, platform: str, active: str, scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(kernels, "status", lambda: kernels.Status(active, "", None, None, 1))
    assert slow_in_a_loop(body) == (body is CONVOLVED and not scanned)
    model = fnn.repeat(body, 3)
    params, state = model.init(KEY, x)
    text = str(jax.make_jaxpr(lambda p: model.apply(p, state, x)[0])(params))
    assert ("scan[" in text) == (body is NOISY or scanned)
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
            LayerError,
            match=r"^layer: expected .* is like its input to repeat, got float32\[\d, 4\] and \w+\[\d, \d\]$",
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
    assert (saving.name, saving.kind, [name for name, _ in saving.children]) == (
        "block",
        "serial",
        ["dense1", "relu1"],
    )
    outer = fnn.serial(saving, fnn.remat(fnn.tanh))
    assert [name for name, _ in outer.children] == ["block", "tanh1"]


# Together with JAX


@pytest.mark.slow
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
