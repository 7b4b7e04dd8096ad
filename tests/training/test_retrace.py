"""fnn.training.retrace: what is compiled again after the first epoch is said, and nothing else is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.experiment import check
from fnn.training.retrace import RetraceWarning, watch_retraces


def make_mean():
    @jax.jit
    def mean(values, scale):
        return scale * values.mean()

    return mean


def test_it_says_what_changed_in_which_argument_once():
    mean, told = make_mean(), []
    mean(jnp.ones(3), jnp.ones(()))
    with watch_retraces(told.append):
        mean(jnp.ones(3), jnp.ones(()))
        assert not told
        for n in (4, 5):
            mean(jnp.ones(n), jnp.ones(()))
    assert told == ["mean is compiled again: at values, now f32[4] and before f32[3]"]


def test_what_is_traced_for_the_first_time_and_what_jax_does_itself_is_no_matter():
    with watch_retraces():  # a warning would be an error
        jax.jit(lambda x: x + 1)(jnp.ones(3))
        for n in (3, 4):
            jnp.concatenate([jnp.ones(n), jnp.zeros(n)]).sum()


def test_a_run_warns_of_a_listener_that_compiles_at_every_record():
    mean, losses = make_mean(), []

    def on_log(record):
        losses.append(record["loss"])
        mean(jnp.array(losses), jnp.ones(()))

    experiment = check(
        {
            "data": {"source": {"synthetic": {"shape": [5], "classes": 3, "size": 16}}, "validation": 0.25},
            "model": [{"dense": 3}],
            "train": {"epochs": 4, "batch_size": 4, "log_every": "1 epoch"},
        }
    )
    with pytest.warns(RetraceWarning, match=r"^mean is compiled again: at values, now f32\[\d\]") as caught:
        fnn.train(experiment, on_log=on_log)
    assert len(caught) == 1
    fnn.train(experiment)  # by itself it never does
