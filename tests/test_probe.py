"""fnn.probe: what it shows are the true values and gradients, and what it adds changes no bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.probe import Probe

X = jax.random.normal(jax.random.key(1), (4, 3))
MODELS = {
    "plain": fnn.serial(fnn.dense(3), fnn.tanh),
    "residual": fnn.serial(fnn.dense(3), fnn.residual(fnn.serial(fnn.dense(3), fnn.tanh))),
    "repeat": fnn.serial(fnn.dense(3), fnn.repeat(fnn.serial(fnn.dense(3), fnn.tanh), 2)),
    "remat": fnn.serial(fnn.remat(fnn.serial(fnn.dense(3), fnn.tanh)), fnn.batch_norm(), fnn.dropout(0.5)),
}


def probed(model):
    """Loss and gradient with and without the probe, and what the probe shows."""
    probe, key = Probe(model), jax.random.key(2)
    params, state = model.init(jax.random.key(0), X)
    zeros = probe.zeros(params, state, X, key)

    def loss(apply, params, state):
        y, new = apply(params, state, X, key=key, train=True)
        return jnp.sum(y**2), new

    def watched(params, added):
        value, new = loss(probe.model.apply, params, probe.adding(state, added))
        return value, probe.values(new)

    plain = jax.value_and_grad(lambda p: loss(model.apply, p, state)[0])(params)
    (value, values), (gradient, arriving) = jax.value_and_grad(watched, (0, 1), has_aux=True)(params, zeros)
    return probe, params, plain, (value, gradient), values, arriving


@pytest.mark.parametrize("name", ["plain", "repeat", pytest.param("remat", marks=pytest.mark.slow)])
def test_the_zeros_change_no_bit(name):
    _, _, plain, watched, *_ = probed(MODELS[name])
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(watched), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_negative_zero_stays_one():
    probe = Probe(fnn.serial(fnn.dense(1), inverse=fnn.stateless("inverse", lambda params, x: 1 / x)))
    x, params = jnp.ones((1, 1)), {"dense1": {"kernel": -jnp.zeros((1, 1)), "bias": -jnp.zeros(1)}}
    added = probe.zeros(params, {}, x, None)
    assert probe.model.apply(params, probe.adding({}, added), x, train=True)[0].item() == -jnp.inf


def test_the_gradients_are_those_of_the_chain_rule():
    probe, params, _, _, values, arriving = probed(MODELS["residual"])
    y, h = values["residual1/@output"], values["residual1/body/tanh1/@output"]
    by_tanh = 2 * y * (1 - h**2)
    by_body = by_tanh @ params["residual1"]["body"]["dense1"]["kernel"].T
    wanted = {
        "dense1/@output": by_body + 2 * y,
        "residual1/@input": by_body + 2 * y,
        "residual1/@output": 2 * y,
        "residual1/body/dense1/@input": by_body,
        "residual1/body/dense1/@output": by_tanh,
        "residual1/body/tanh1/@input": by_tanh,
        "residual1/body/tanh1/@output": 2 * y,
    }
    assert arriving.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(arriving[name], wanted[name], rtol=1e-5, err_msg=name)
    assert [path for path, site in probe.sites.items() if site.container] == ["residual1"]


def test_what_is_repeated_is_stacked_and_its_place_is_noted():
    probe, _, _, _, values, arriving = probed(MODELS["repeat"])
    assert probe.repeats == ["repeat1"]
    assert values["repeat1/layer/tanh1/@output"].shape == (2, 4, 3)
    assert probe.sites["repeat1/layer/tanh1"].output.shape == (4, 3)
    first, second = values["repeat1/layer/tanh1/@output"]
    np.testing.assert_array_equal(values["repeat1/layer/dense1/@input"][1], first)
    np.testing.assert_array_equal(arriving["repeat1/layer/tanh1/@output"][1], 2 * second)


def test_no_gradient_is_asked_for_where_no_parameter_has_a_part():
    branches = fnn.concat(a=fnn.relu, b=fnn.serial(fnn.relu, fnn.dense(3), fnn.relu))
    probe = Probe(fnn.serial(fnn.flatten, branches))
    params, state = probe.model.init(jax.random.key(0), X)
    zeros = probe.zeros(params, state, X, None)
    assert list(zeros) == [
        "concat1/@output",
        "concat1/b/dense1/@output",
        "concat1/b/relu2/@input",
        "concat1/b/relu2/@output",
    ]


def test_whole_numbers_get_nothing_added():
    rounded = fnn.stateless("rounded", lambda params, x: x.astype(jnp.int32))
    probe = Probe(fnn.serial(fnn.dense(2), rounded))
    params, state = probe.model.init(jax.random.key(0), X)
    assert list(probe.zeros(params, state, X, None)) == ["dense1/@output", "rounded1/@input"]
