"""Layers whose state is frozen, and steps in which parameters are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layer import LayerError
from fnn.losses import cross_entropy
from fnn.training import Recipe, initial_state, make_step, still

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (8, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 8).astype(np.int32)
BODY = fnn.serial(fnn.dense(6), fnn.batch_norm(), fnn.relu, fnn.dropout(0.5))
MODEL = fnn.serial(features=BODY, between=fnn.batch_norm(), head=fnn.dense(3))


def made(**changes):
    given = {
        "model": MODEL,
        "optimizer": optax.with_extra_args_support(optax.adamw(0.1, weight_decay=0.5)),
        "loss": cross_entropy,
        "penalty": lambda params: jnp.zeros(()),
        "metrics": {},
        "normalize": lambda x: x,
    }
    return Recipe(**given | changes)


def steps(recipe, many=1):
    state = initial_state(recipe, jax.random.key(0), X)
    step, states, logs = jax.jit(make_step(recipe)), [state], []
    for _ in range(many):
        state, log = step(state, X, Y, jax.random.key(1))
        states.append(state)
        logs.append(log)
    return states, logs


def equal(one, other):
    one, other = fnn.paths(one), fnn.paths(other)
    assert list(one) == list(other)
    return {path: np.array_equal(one[path], other[path]) for path in one}


# ---------------------------------------------------------------- layers


def test_a_layer_of_frozen_state_runs_as_in_evaluation():
    params, state = MODEL.init(jax.random.key(0), X)
    state = jax.tree.map(lambda s: s + 1.5, state)  # nothing that a batch could have
    model = still(MODEL, ["features/**"], state)
    key = jax.random.key(3)
    y, after = model.apply(params, state, X, key=key, train=True)
    moved = equal(after, state)
    assert moved["features/batch_norm1/mean"]
    assert moved["features/batch_norm1/var"]
    assert not moved["between/mean"]
    own = params["features"]["dense1"]
    hidden = (X @ own["kernel"] + own["bias"] - 1.5) / np.sqrt(2.5 + 1e-5)
    dropped = fnn.dropout(0.5).apply(
        {},
        {},
        jnp.maximum(hidden, 0),
        key=fnn.layer.name_key(fnn.layer.name_key(key, "features"), "dropout1"),
        train=True,
    )[0]
    normal = (dropped - dropped.mean(0)) / np.sqrt(dropped.var(0) + 1e-5)
    head = params["head"]
    np.testing.assert_allclose(y, normal @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patterns", [[], ["features/**/kernel"], ["features/*/mean"]])
def test_a_layer_with_something_to_move_moves_it(patterns):
    params, state = MODEL.init(jax.random.key(0), X)
    model = still(MODEL, patterns, state)
    _, after = model.apply(params, state, X, key=jax.random.key(3), train=True)
    assert not any(equal(after, state).values())


def test_repeated_layers_are_found_by_their_path():
    model = fnn.repeat(fnn.serial(fnn.dense(5), fnn.batch_norm()), 2)
    params, state = model.init(jax.random.key(0), X)
    _, after = still(model, ["layer/batch_norm1/*"], state).apply(params, state, X, train=True)
    assert all(equal(after, state).values())


def test_train_is_no_tracer_there_either():
    params, state = MODEL.init(jax.random.key(0), X)
    frozen = still(MODEL, ["*"], state)
    with pytest.raises(LayerError, match="static_argnames"):
        jax.jit(lambda t: frozen.apply(params, state, X, train=t))(True)


# ---------------------------------------------------------------- steps


@pytest.fixture(scope="module")
def frozen():
    """Four steps of a recipe."""
    recipe = made(freeze=("features/**",), ema=0.9)
    return recipe, *steps(recipe, 4)


def test_nothing_moves_what_is_frozen_and_all_else_moves_as_ever(frozen):
    _, states, logs = frozen
    same = equal(states[0].params, states[-1].params)
    assert {path.split("/")[0] for path, kept in same.items() if kept} == {"features"}
    assert {path.split("/")[0] for path, kept in same.items() if not kept} == {"between", "head"}
    free, free_logs = steps(made(), 1)
    assert logs[0]["loss"] == free_logs[0]["loss"]
    for path, leaf in fnn.paths(free[1].params).items():
        if not path.startswith("features/"):
            np.testing.assert_allclose(fnn.paths(states[1].params)[path], leaf, rtol=1e-5, atol=1e-6)


def test_the_optimizer_and_the_norms_are_of_what_is_trained(frozen):
    recipe, states, logs = frozen
    trained, left = recipe.split(states[0].params)
    assert (set(trained), set(left)) == ({"between", "head"}, {"features"})
    moments = sum(leaf.size for leaf in jax.tree.leaves(states[0].optimizer) if leaf.ndim)
    assert moments == 2 * fnn.count(trained)
    after, _ = recipe.split(states[1].params)
    wanted = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(after)))
    np.testing.assert_allclose(logs[0]["parameter_norm"], wanted, rtol=1e-6)


def test_the_average_is_of_what_is_trained(frozen):
    recipe, states, _ = frozen
    assert set(states[0].average.total) == {"between", "head"}
    evaluated = recipe.evaluated(states[-1])
    same = equal(evaluated, states[0].params)
    assert all(kept for path, kept in same.items() if path.startswith("features/"))
    values = [states[i].params["head"]["bias"] for i in range(1, 5)]
    weights = 0.9 ** np.arange(3, -1, -1)
    wanted = (weights[:, None] * np.array(values)).sum(0) / weights.sum()
    np.testing.assert_allclose(evaluated["head"]["bias"], wanted, rtol=1e-4)


def test_no_gradient_is_computed_by_what_is_frozen():
    wide = fnn.serial(features=fnn.serial(*[fnn.dense(64) for _ in range(4)]), head=fnn.dense(3))

    def flops(recipe):
        state = initial_state(recipe, jax.random.key(0), X)
        compiled = jax.jit(make_step(recipe)).lower(state, X, Y, jax.random.key(1)).compile()
        return compiled.cost_analysis()["flops"]

    sgd = optax.with_extra_args_support(optax.sgd(0.1))
    free = made(model=wide, optimizer=sgd)
    # forward, by the inputs and by the kernels: a third is left
    assert flops(made(model=wide, optimizer=sgd, freeze=("features/**",))) < 0.45 * flops(free)


def test_given_arrays_stand_in_the_place_of_the_first_ones():
    recipe = made()
    own = initial_state(recipe, jax.random.key(0), X)
    given = {
        "params/head/bias": np.full(3, 7.0, np.float32),
        "state/between/var": np.full(6, 2.0, np.float32),
    }
    begin = initial_state(recipe, jax.random.key(0), X, given)
    assert {p for p, kept in equal(begin.params, own.params).items() if not kept} == {"head/bias"}
    assert {p for p, kept in equal(begin.state, own.state).items() if not kept} == {"between/var"}
    assert begin.params["head"]["bias"].tolist() == [7.0] * 3
    jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)(begin)
    assert given["params/head/bias"].tolist() == [7.0] * 3  # whatever became of what was donated
