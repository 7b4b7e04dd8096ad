"""fnn.training.advance: any number of steps in one call, each with its log."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import mixup
from fnn.losses import cross_entropy
from fnn.metrics import accuracy
from fnn.training import Recipe, initial_state, make_step
from fnn.training.advance import compile_steps

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
DATA = (jnp.asarray(RNG.normal(size=(12, 5)), jnp.float32), jnp.asarray(RNG.integers(0, 3, 12), jnp.int32))
ORDER = jnp.asarray(RNG.permutation(24).reshape(6, 4) % 12, jnp.int32)
RECIPE = Recipe(
    model=fnn.serial(fnn.dense(4), fnn.relu, fnn.dropout(0.5), fnn.dense(3)),
    optimizer=optax.with_extra_args_support(optax.sgd(0.1)),
    loss=cross_entropy,
    penalty=lambda params: jnp.zeros(()),
    metrics={"accuracy": accuracy()},
    normalize=lambda x: x,
    augment=mixup(0.5),
)


def start():
    return initial_state(RECIPE, jax.random.key(0), DATA[0][:4])


def done(advance, *calls):
    """The last state as a hash, and the logs, of calls ``(first, count)``."""
    state, logs = start(), []
    for first, count in calls:
        state, new = advance(state, ORDER, first, count)
        assert len(new) == count
        logs += new
    return fnn.digest(state, {}), [fnn.paths(log) for log in logs]


@pytest.mark.parametrize("mode", ["scan", "step"])
def test_each_step_takes_its_rows_and_has_its_log(mode):
    advance = compile_steps(mode, RECIPE, start(), ORDER, DATA, KEY)
    state, step = start(), jax.jit(make_step(RECIPE))
    _, logs = done(advance, (2, 4))
    for rows, log in zip(ORDER[2:], logs, strict=True):
        state, wanted = step(state, DATA[0][rows], DATA[1][rows], KEY)
        wanted = fnn.paths(wanted)
        assert list(log) == list(wanted)
        for path in wanted:
            np.testing.assert_allclose(log[path], wanted[path], rtol=1e-5, err_msg=path)
            assert isinstance(log[path], (np.ndarray, np.generic)), "a log is on the host"


@pytest.mark.parametrize("mode", ["scan", "step"])
def test_calls_of_any_length_are_the_same_to_the_bit(mode):
    advance = compile_steps(mode, RECIPE, start(), ORDER, DATA, KEY)
    whole = done(advance, (0, 6))
    assert done(advance, *((i, 1) for i in range(6))) == whole
    assert done(advance, (0, 2), (2, 3), (5, 1)) == whole
    assert done(advance, (0, 0), (0, 6)) == whole


@pytest.mark.slow
def test_logs_that_are_larger_than_the_buffer_are_fetched_in_parts(monkeypatch):
    whole = done(compile_steps("scan", RECIPE, start(), ORDER, DATA, KEY), (0, 6))
    _, log = jax.eval_shape(make_step(RECIPE), start(), DATA[0][:4], DATA[1][:4], KEY)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(log))
    for buffer in (1, 4 * size):
        monkeypatch.setattr("fnn.training.advance.BUFFER", buffer)
        assert done(compile_steps("scan", RECIPE, start(), ORDER, DATA, KEY), (0, 6)) == whole


@pytest.mark.parametrize("mode", ["scan", "step"])
def test_the_old_state_is_donated(mode):
    state = start()
    compile_steps(mode, RECIPE, start(), ORDER, DATA, KEY)(state, ORDER, 0, 2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
