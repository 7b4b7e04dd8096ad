"""Patterns over the paths of parameters: trained, how fast, penalised."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from fnn.choices import ConfigError
from fnn.experiment.parameters import make_penalty, rate_factors, trained_part

PARAMS = {
    "features": {"conv1": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.zeros(2)}},
    "head": {"kernel": jnp.full((2, 1), 2.0), "bias": jnp.zeros(1)},
}
STATE = {"features": {"norm": {"mean": jnp.zeros(2)}}}


def refused(function, *arguments):
    with pytest.raises(ConfigError) as error:
        function(*arguments)
    return str(error.value)


def test_what_a_pattern_freezes_is_not_trained():
    assert trained_part([], PARAMS, STATE) == PARAMS
    assert set(trained_part(["features/**"], PARAMS, STATE)) == {"head"}
    assert set(trained_part(["*/kernel"], PARAMS, STATE)["head"]) == {"bias"}
    assert trained_part(["*/mean"], PARAMS, STATE) == PARAMS  # statistics alone


@pytest.mark.parametrize(
    "freeze, message",
    [
        (["feature/**"], "train.freeze: pattern 'feature/**' matches no parameter; nearest: features/"),
        (["*"], "train.freeze: covers every parameter: nothing is left to train"),
        (["*/kernel", "*/bias"], "train.freeze: covers every parameter: nothing is left to train"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_refused(freeze, message):
    assert refused(trained_part, freeze, PARAMS, STATE).startswith(message)


def test_the_first_pattern_that_fits_says_the_factor():
    assert rate_factors({}, PARAMS) is None
    rates = {"*/bias": 2.0, "features/**": 0.1}
    assert rate_factors(rates, PARAMS) == {
        "features": {"conv1": {"kernel": 0.1, "bias": 2.0}},
        "head": {"kernel": 1.0, "bias": 2.0},
    }


def test_a_factor_for_what_is_frozen_is_refused():
    message = refused(rate_factors, {"features/**": 0.1}, {"head": PARAMS["head"]})
    assert message.startswith(
        "train.rates.features/**: pattern 'features/**' matches no parameter; nearest: "
    )


def test_what_is_frozen_has_no_part_in_the_penalty():
    assert float(make_penalty(0.5, PARAMS, PARAMS)(PARAMS)) == 0.25 * (4 * 9 + 2 * 4)
    assert float(make_penalty(0.5, PARAMS, {"head": PARAMS["head"]})(PARAMS)) == 0.25 * 2 * 4
