"""fnn.training.keeper: when a run is saved, when it stops, what it goes back to."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.choices import ConfigError
from fnn.experiment import build, check
from fnn.training import DivergedError, Keeper, Period, Selection, Stopped, TrainState
from fnn.training.keeper import ATTEMPTS
from fnn.training.loop import CALL


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class Recorded:
    """In place of the checkpoints on disk."""

    def __init__(self):
        self.saved = []

    def save(self, step, arrays, info, also):
        self.saved.append((step, also))


def state(step=0, value=0.0):
    return TrainState(jnp.int32(step), {"kernel": jnp.full(2, value)}, {}, {}, {})


def meter(step):
    return SimpleNamespace(step=step, arrays=dict, info=dict)


def saves(period, times, steps=None, better=(), **options):
    """The steps after which a run is saved that is asked after each of its steps, at such times."""
    with pytest.MonkeyPatch.context() as patch:
        clock, recorded = Clock(patch), Recorded()
        keeper = Keeper(period, recorded, **options)
        keeper.begin(state(), 0)
        for step, passed in enumerate(times, start=1):
            clock.now = 100 + passed
            keeper.after(state(step), meter(step), None, step in better)
    return [step for step, _ in recorded.saved]


def test_a_period_in_steps_is_at_its_multiples():
    assert saves(Period(3, 0.0), [0.0] * 10) == [3, 6, 9]
    assert saves(Period(1, 0.0), [0.0] * 3) == [1, 2, 3]


def test_between_two_is_the_spacing_at_least():
    assert saves(Period(2, 5.0), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) == [6, 12]
    assert saves(Period(2, 5.0), [0.1 * i for i in range(1, 40)]) == []


def test_a_period_in_seconds_is_after_any_step():
    assert saves(Period(None, 5.0), [1, 2, 5, 6, 9, 10, 11]) == [3, 6]
    assert saves(Period(), [1e9]) == []


def test_the_best_is_saved_whatever_the_period_but_not_its_spacing():
    assert saves(Period(100, 0.0), [0.0] * 5, better={2, 4}) == [2, 4]
    assert saves(Period(100, 5.0), [1, 2, 3, 6, 7, 12], better={1, 4, 5, 6}) == [4, 6]
    assert saves(Period(), [0.0] * 5, better={2, 4}) == []


def test_the_next_call_ends_where_the_run_is_saved(monkeypatch):
    clock = Clock(monkeypatch)
    keeper = Keeper(Period(10, 5.0))
    keeper.begin(state(), 0)
    assert keeper.limit(3) == math.inf, "nothing is due"
    clock.now += 5
    assert [keeper.limit(step) for step in (0, 3, 9, 10, 19)] == [10, 10, 10, 20, 20]
    keeper.after(state(10), meter(10), None)
    assert keeper.limit(10) == math.inf
    assert Keeper(Period(None, 5.0)).limit(3) == math.inf


def test_a_run_that_is_to_stop_is_saved_and_stops():
    recorded, asked = Recorded(), []
    keeper = Keeper(
        Period(), recorded, stopped=lambda: bool(asked), before_save=lambda: asked.append("synced")
    )
    keeper.begin(state(), 0)
    keeper.after(state(1), meter(1), None)
    assert recorded.saved == []
    asked.append("stop")
    with pytest.raises(Stopped) as caught:
        keeper.after(state(2), meter(2), None)
    assert caught.value.step == 2
    assert recorded.saved == [(2, [])]
    assert asked == ["stop", "synced"]
    with pytest.raises(Stopped, match="after step 2"):
        keeper.after(state(2), meter(2), None)
    assert len(recorded.saved) == 1, "it is saved already"
    with pytest.raises(Stopped, match="after step 7"):
        Keeper(Period(), recorded, stopped=lambda: True).begin(state(7), 7)


def test_a_run_that_goes_back_is_not_saved_where_it_stops():
    """Or else it would go back to another state than the run that was let alone."""
    recorded = Recorded()
    keeper = Keeper(Period(4, 0.0), recorded, rollback=True, stopped=lambda: bool(recorded.saved))
    keeper.begin(state(), 0)
    for step in (1, 2, 3, 4):
        keeper.after(state(step), meter(step), None)
    assert [step for step, _ in recorded.saved] == [4]
    with pytest.raises(Stopped, match="after step 5"):
        keeper.after(state(5), meter(5), None)
    assert [step for step, _ in recorded.saved] == [4]


def test_the_checkpoint_of_the_best_epoch_is_named_to_stay():
    recorded, selection = Recorded(), Selection("max", "accuracy")
    keeper = Keeper(Period(1, 0.0), recorded)
    keeper.begin(state(), 0)
    for step, accuracy in enumerate([0.5, 0.9, 0.8], start=1):
        better = selection.judge({"accuracy": accuracy}, step, {}, {})
        keeper.after(state(step), meter(step), selection, better)
    assert recorded.saved == [(1, [1]), (2, [2]), (3, [2])]


def test_going_back_is_to_the_state_that_was_saved_last():
    said = []
    keeper = Keeper(Period(2, 0.0), rollback=True, on_message=said.append)
    keeper.begin(state(0, 1.0), 0)
    keeper.after(state(2, 5.0), meter(2), None)
    keeper.after(state(3, 7.0), meter(3), None)
    back = keeper.go_back(DivergedError("the loss is nan at step 4", 4), 4)
    assert int(back.step) == 4
    np.testing.assert_array_equal(back.params["kernel"], [5.0, 5.0])
    assert said == ["the loss is nan at step 4: back to step 2; the batches since then are left out"]


def test_it_goes_back_so_often_to_the_same_state_and_no_more():
    error = DivergedError("the loss is nan", 1)
    keeper = Keeper(Period(2, 0.0), rollback=True)
    keeper.begin(state(), 0)
    for step in range(1, ATTEMPTS + 1):
        again = keeper.go_back(error, step)
        keeper.after(again, meter(step), None)  # saved at step 2: the state is the same
    with pytest.raises(DivergedError):
        keeper.go_back(error, ATTEMPTS + 1)
    keeper = Keeper(Period(2, 0.0), rollback=True)
    keeper.begin(state(), 0)
    for step in range(1, 20, 2):  # every other step is good: the state is another each time
        keeper.after(keeper.go_back(error, step), meter(step), None)
        keeper.after(state(step + 1), meter(step + 1), None)


def test_without_rollback_the_error_is_raised():
    error = DivergedError("the loss is nan", 1)
    keeper = Keeper(Period(2, 0.0))
    keeper.begin(state(), 0)
    with pytest.raises(DivergedError) as caught:
        keeper.go_back(error, 1)
    assert caught.value is error


# ---------------------------------------------------------------- from a config

SOURCE = {"source": {"synthetic": {"shape": [2], "classes": 2, "size": 40}}}


def period(every, **train):
    checkpoint = {} if every is ... else {"every": every}
    tree = {"data": SOURCE, "model": [{"dense": 2}], "train": {"batch_size": 4, "epochs": 20, **train}}
    tree["train"]["checkpoint"] = {**checkpoint, **train.pop("checkpoint", {})}
    return build(check(tree)).save_every


@pytest.mark.parametrize(
    "every, expected",
    [
        (..., Period(10, 5.0)),
        (7, Period(7, 5.0)),
        ("2 epochs", Period(20, 5.0)),
        ("0.5 epochs", Period(5, 5.0)),
        ("25%", Period(50, 5.0)),
        ("30 seconds", Period(None, 30.0)),
        ("1 second", Period(None, 1.0)),
        ("0.5 minutes", Period(None, 30.0)),
        (None, Period()),
    ],
)
def test_a_period_is_steps_epochs_a_share_or_a_time(every, expected):
    assert period(every) == expected


def test_a_run_that_goes_back_is_saved_at_the_same_steps_whatever_the_time():
    assert period("1 epoch", on_nonfinite="rollback") == Period(10, 0.0)
    for every in ("5 minutes", None):
        with pytest.raises(
            ConfigError, match=r"train\.checkpoint\.every: expected a number of steps or epochs"
        ):
            period(every, on_nonfinite="rollback")


@pytest.mark.parametrize("every", ["often", "5 hours", "minutes", "-1 epochs"])
def test_another_period_is_an_error(every):
    with pytest.raises(ConfigError, match=r"^train\.checkpoint\.every: expected"):
        period(every)


def test_a_call_is_short_enough_to_be_stopped():
    assert CALL <= 1
