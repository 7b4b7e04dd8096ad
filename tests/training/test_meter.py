"""fnn.training.meter: what is told of steps that were done together, and when they were."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.losses import cross_entropy
from fnn.metrics import accuracy
from fnn.training import DivergedError, Recipe
from fnn.training.meter import Meter

RECIPE = Recipe(
    model=fnn.serial(fnn.dense(3)),
    optimizer=optax.with_extra_args_support(optax.sgd(0.1)),
    loss=cross_entropy,
    penalty=lambda params: jnp.zeros(()),
    metrics={"accuracy": accuracy()},
    normalize=lambda x: x,
)


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("fnn.training.meter.time", clock := Clock())
    return clock


def log(loss, right=0):
    """The log of a step on 4 rows."""
    outputs = jnp.eye(2)[jnp.array([0] * right + [1] * (4 - right))]
    statistics = accuracy().measure(outputs, jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
    return {
        "loss": np.float32(loss),
        "gradient_norm": np.float32(2 * loss),
        "metrics": {"accuracy": statistics},
    }


def meter(**changes):
    records, told = [], []
    given = {
        "steps_per_epoch": 4, "epochs": 2, "batch": 4, "log_every": 2, "learning_rate": None,
        "on_log": records.append, "on_progress": told.append,
    }  # fmt: skip
    return Meter(RECIPE, **given | changes), records, told


def test_records_are_means_since_the_last_and_norms_of_their_step(clock):
    made, records, _ = meter(log_every=3, learning_rate=lambda i: 10.0 * i)
    made.read([log(1, 4), log(2, 2)], 1.0)
    assert records == []
    made.read([log(6, 0), *[log(i) for i in range(5)]], 1.0)
    assert [(r["step"], r["epoch"], r["loss"]) for r in records] == [(3, 1, 3.0), (6, 2, 1.0), (8, 2, 3.5)]
    assert [r["gradient_norm"] for r in records] == [12.0, 4.0, 8.0]
    assert [r["accuracy"] for r in records] == [0.5, 0.0, 0.0]
    assert [r["learning_rate"] for r in records] == [20.0, 50.0, 70.0]


def test_steps_of_one_call_are_timed_evenly(clock):
    made, records, _ = meter()
    clock.now += 5.0  # 1 s before the call, 4 s in it
    made.read([log(1)] * 8, 4.0)
    assert [r["seconds"] for r in records] == [2.0, 3.0, 4.0, 5.0]
    assert [r["examples_per_second"] for r in records] == [4.0, 8.0, 8.0, 8.0]


def test_what_lies_between_steps_is_no_part_of_their_speed(clock):
    made, records, told = meter()
    clock.now += 2.0
    made.read([log(1)] * 4, 2.0)
    with made.apart():
        clock.now += 7.0
    clock.now += 2.0
    made.read([log(1)] * 4, 2.0)
    assert [r["seconds"] for r in records] == [1.0, 2.0, 10.0, 11.0]
    assert [r["examples_per_second"] for r in records] == [8.0] * 4
    assert [p.examples_per_second for p in told] == [8.0] * len(told)


def test_progress_is_told_with_each_record_and_after_half_a_second(clock):
    made, _, told = meter(log_every=99)
    clock.now += 0.4
    made.read([log(1)], 0.4)
    assert told == []
    clock.now += 0.4
    made.read([log(3)] * 3, 0.4)
    assert [(p.step, p.steps, p.epoch, p.epochs, p.figures["loss"]) for p in told] == [(4, 8, 1, 2, 2.5)]
    assert told[0].examples_per_second == pytest.approx(4 * 4 / 0.8)
    made.read([log(1)] * 4, 0.1)
    assert [p.step for p in told] == [4, 8]


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number_is_named_by_its_step_after_the_records_before_it(clock, loss):
    made, records, _ = meter()
    with pytest.raises(DivergedError, match=rf"the loss is {loss} at step 4: "):
        made.read([log(1), log(1), log(1), log(loss), log(1)], 1.0)
    assert [r["step"] for r in records] == [2]
