"""fnn.training.selection: the best epoch, and when to stop looking for a better one."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.training import Selection

INF, NAN = math.inf, math.nan


def judged(direction, values, patience=None):
    """Whether each value was better than all before, and the selection after them."""
    selection = Selection(direction, "figure", patience)
    params = [{"kernel": jnp.full((2,), i, jnp.float32)} for i in range(len(values))]
    better = [
        selection.judge({"figure": value}, 10 * (i + 1), params[i], {"mean": jnp.float32(i)})
        for i, value in enumerate(values)
    ]
    return better, selection


@pytest.mark.parametrize(
    "direction, values, better, step, stale",
    [
        ("max", [0.1, 0.3, 0.2, 0.3], [True, True, False, False], 20, 2),
        ("min", [0.3, 0.1, 0.2, 0.05], [True, True, False, True], 40, 0),
        ("min", [NAN, 0.5, NAN, 0.4], [False, True, False, True], 40, 0),
        ("max", [NAN, NAN], [False, False], 0, 2),
        ("min", [INF, 2.0], [True, True], 20, 0),
        ("max", [INF, 2.0], [True, False], 10, 1),
        ("max", [-INF, -INF], [True, False], 10, 1),
    ],
)
def test_the_first_of_the_best_is_kept(direction, values, better, step, stale):
    found, selection = judged(direction, values)
    assert (found, selection.step, selection.stale) == (better, step, stale)
    if step:
        params, state = selection.model()
        np.testing.assert_array_equal(params["kernel"], np.full(2, step // 10 - 1, np.float32))
        assert state["mean"] == step // 10 - 1


def test_patience_counts_epochs_in_a_row():
    for values, exhausted in (([3, 4, 2, 3], False), ([3, 4, 4], True), ([NAN, NAN], True), ([3, 4], False)):
        assert judged("min", values, patience=2)[1].exhausted is exhausted
    assert not judged("min", [1] * 50)[1].exhausted


def test_it_goes_on_from_what_it_noted():
    values = [0.5, 0.2, 0.3, 0.1, 0.4, 0.6]
    for cut in range(1, len(values)):
        _, first = judged("min", values[:cut])
        second = Selection("min", "figure")
        second.restore(first.info(), first.arrays)
        for i, value in enumerate(values[cut:], start=cut):
            second.judge({"figure": value}, 10 * (i + 1), {"kernel": jnp.full((2,), i, jnp.float32)}, {})
        _, whole = judged("min", values)
        assert second.info() == whole.info()
        np.testing.assert_array_equal(second.model()[0]["kernel"], whole.model()[0]["kernel"])


def test_what_another_looked_for_is_forgotten():
    _, first = judged("min", [0.5, 0.2])
    for other in (Selection("max", "figure"), Selection("min", "loss")):
        other.restore(first.info(), first.arrays)
        assert (other.step, other.arrays) == (0, {})
