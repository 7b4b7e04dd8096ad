"""fnn.training.numerics: planted faults, each found where it was planted."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import Mixed
from fnn.losses import cross_entropy, squared_error
from fnn.training import Recipe, TrainState, inspect, make_step
from fnn.training.step import Average

KEY = jax.random.key(7)
X = np.random.default_rng(0).uniform(0.5, 2, (8, 3)).astype(np.float32)
Y = np.random.default_rng(1).uniform(-1, 1, (8, 2)).astype(np.float32)


def layer(kind, function):
    return fnn.stateless(kind, lambda params, x: function(x))


LOG, ROOT, INVERSE = layer("log", jnp.log), layer("root", jnp.sqrt), layer("inverse", lambda x: 1 / x)
OFF = layer("off", lambda x: 0 * x)
DTYPES = pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.bfloat16])


def recipe(model, **changes):
    given = {
        "model": model,
        "optimizer": optax.with_extra_args_support(optax.sgd(0.1)),
        "loss": squared_error,
        "penalty": lambda params: jnp.zeros(()),
        "metrics": {},
        "normalize": lambda x: x,
    }
    return Recipe(**given | changes)


def found(made, x=X, y=Y, state=None):
    """The findings: there is a fault just where one of the numbers that a run looks at is not finite."""
    findings = inspect(made, start(made) if state is None else state, x, y, KEY)
    fails = not all(map(math.isfinite, findings.scalars.values()))
    assert fails == (findings.fault is not None)
    return findings


def start(made):
    """The state before the first step; operation by operation, which tests have compiled already."""
    params, state = made.model.init(jax.random.key(0), X)
    return TrainState(jnp.int32(0), params, state, made.optimizer.init(params), {})


def with_values(x, where, value):
    changed = x.copy()
    changed[where] = value
    return changed


# ---------------------------------------------------------------- forward


@pytest.mark.parametrize("fault, value, kind", [(LOG, -1.0, "nan"), (INVERSE, 0.0, "inf")])
def test_a_layer_that_fails_for_one_example_is_named_with_it(fault, value, kind):
    findings = found(recipe(fnn.serial(fault, fnn.dense(2))), with_values(X, (5, 1), value))
    assert (findings.fault.stage, findings.fault.path) == ("forward", fault.kind + "1")
    assert findings.examples == {"input": (), "activation": (5,), "loss": (5,)}
    output = findings.fault.evidence["output"]
    assert (output.shape, output.nan, output.inf) == ((8, 3), int(kind == "nan"), int(kind == "inf"))
    assert findings.fault.evidence["input"].low == min(value, X.min())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_after_batch_norm_every_example_fails_and_the_cause_is_named(dtype):
    """The bad example alone is named: what fails later is spoiled by the statistics of the batch."""
    model = fnn.serial(fnn.residual(LOG), fnn.dense(4), fnn.batch_norm(), fnn.relu, fnn.dense(2))
    findings = found(recipe(model, dtype=dtype), with_values(X, (2, 0), -1.0))
    assert (findings.fault.path, findings.examples["activation"]) == ("residual1/body", (2,))
    assert findings.examples["loss"] == tuple(range(8))
    spoiled = next(row for row in findings.rows if row.path == "batch_norm1")
    assert spoiled.examples == tuple(range(8))


@DTYPES
def test_an_overflow_is_named_with_the_parameters_that_made_it(dtype):
    made = recipe(fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(4), fnn.relu, fnn.dense(2)), dtype=dtype)
    state = start(made)
    state.params["dense2"]["kernel"] = jnp.full((4, 4), 3e38)
    findings = found(made, 100 * X, state=state)
    assert (findings.fault.stage, findings.fault.path) == ("forward", "dense2")
    assert findings.fault.evidence["output"].inf > 0
    assert findings.fault.evidence["its kernel"].largest == np.float32(3e38)


@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_of_a_repeated_layer_the_repetition_is_named(remat):
    body = fnn.serial(fnn.dense(3), fnn.relu, shift=fnn.batch_norm())
    model = fnn.serial(fnn.repeat(fnn.remat(body) if remat else body, 3), fnn.dense(2))
    made = recipe(model)
    state = start(made)
    scale = state.params["repeat1"]["layer"]["shift"]["bias"]
    state.params["repeat1"]["layer"]["shift"]["bias"] = scale.at[1].set(3e38)
    findings = found(made, state=state)
    assert (findings.fault.path, findings.fault.repetition) == ("repeat1/layer/dense1", (2,))
    names = [row.name for row in findings.rows]
    steps = ["dense1", "relu1", "shift"]
    assert names == [f"repeat1/layer/{s}[{i}]" for i in range(3) for s in steps] + ["repeat1", "dense1"]
    assert findings.rows[5].parameters["repeat1/layer/shift/bias"].low == np.float32(3e38)


@pytest.mark.slow
def test_repeats_in_a_repeat_are_in_the_order_in_which_they_run():
    inner = fnn.repeat(fnn.dense(3), 2)
    findings = found(recipe(fnn.serial(fnn.repeat(fnn.serial(inner, fnn.relu), 2), fnn.dense(2))))
    path = "repeat1/layer/repeat1/layer"
    one = [f"{path}[{{0}}][0]", f"{path}[{{0}}][1]", "repeat1/layer/repeat1[{0}]", "repeat1/layer/relu1[{0}]"]
    wanted = [name.format(i) for i in range(2) for name in one] + ["repeat1", "dense1"]
    assert [row.name for row in findings.rows] == wanted


@pytest.mark.slow
def test_statistics_that_overflow_are_found_though_the_output_is_finite():
    made = recipe(fnn.serial(fnn.dense(2), fnn.batch_norm(), fnn.dense(2)))
    state = start(made)
    state.params["dense1"]["kernel"] *= 1e25
    findings = inspect(made, state, X, Y, KEY)
    assert (findings.fault.stage, findings.fault.path) == ("forward", "batch_norm1")
    assert "its new state batch_norm1/var" in findings.fault.text


def test_a_parameter_that_was_not_finite_before_is_said_instead():
    made = recipe(fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2)))
    state = start(made)
    state.params["dense2"]["bias"] = jnp.array([0.0, jnp.nan])
    findings = found(made, state=state._replace(step=jnp.int32(41)))
    assert (findings.fault.stage, findings.fault.path) == ("parameter", "dense2")
    assert findings.fault.text.endswith("before this step: the update of step 41 made it so")
    assert "dense2/bias" in findings.fault.text


# ---------------------------------------------------------------- input and loss


def test_an_example_that_is_not_finite_is_found_in_the_data():
    findings = found(recipe(fnn.dense(2)), with_values(X, (3, 2), np.inf))
    assert (findings.fault.stage, findings.examples["input"]) == ("input", (3,))
    assert "the data are not" in findings.fault.text


def test_data_that_the_normalisation_spoils_are_told_from_those_that_are_not_finite():
    findings = found(recipe(fnn.dense(2), normalize=lambda x: x / 0.0))
    assert findings.fault.text.startswith("the data are finite, and are not any more once augmented")
    assert findings.examples["input"] == tuple(range(8))


def test_a_loss_that_fails_alone_is_named_with_its_example():
    findings = found(recipe(fnn.dense(2)), y=with_values(Y, (6, 0), 1e30))
    assert (findings.fault.stage, findings.examples["loss"]) == ("loss", (6,))
    assert findings.examples["activation"] == ()
    assert findings.fault.evidence["losses"].inf == 1


@pytest.mark.slow
def test_a_penalty_and_a_sum_that_overflow_are_told_apart():
    penalty = found(recipe(fnn.dense(2), penalty=lambda params: jnp.float32(jnp.inf)))
    assert "penalty (train.l2) is inf" in penalty.fault.text
    losses = found(recipe(fnn.dense(2), loss=lambda p, t: p.sum(1) * 0 + 1e38, reduction="sum"))
    assert "all together are not" in losses.fault.text


# ---------------------------------------------------------------- backward


def test_a_gradient_of_infinity_is_named_where_it_is_made():
    """The root of 0 is 0, and its derivative infinite: dense1 gets what root1 made, and so does relu1."""
    made = recipe(fnn.serial(fnn.dense(4), ROOT, fnn.dense(2)))
    state = start(made)
    state.params["dense1"]["kernel"] = jnp.abs(state.params["dense1"]["kernel"].at[:, 0].set(0))
    findings = found(made, state=state)
    assert (findings.fault.stage, findings.fault.path) == ("backward", "root1")
    assert findings.fault.text.endswith("by its input")
    assert findings.fault.evidence["gradient by its output"].finite
    assert findings.fault.evidence["gradient by its input"].inf == 8
    assert all(not rows for rows in findings.examples.values())


@pytest.mark.slow
def test_an_infinity_that_a_relu_takes_away_is_not_blamed():
    """The derivative of relu at 0 is 0: what root2 makes there does not arrive, what root1 makes does."""
    made = recipe(fnn.serial(fnn.dense(4), OFF, ROOT, fnn.dense(4), fnn.relu, ROOT, fnn.dense(2)))
    state = start(made)
    state.params["dense2"]["kernel"] = -jnp.ones((4, 4))
    findings = found(made, state=state)
    top = next(row for row in findings.rows if row.path == "root2")
    assert top.output_gradient.finite
    assert not top.input_gradient.finite
    assert findings.fault.path == "root1"


@pytest.mark.slow
def test_in_a_container_the_layer_is_named_and_not_the_container():
    body = fnn.residual(fnn.serial(OFF, ROOT))
    findings = found(recipe(fnn.serial(fnn.dense(3), body, fnn.dense(2))))
    assert findings.fault.path == "residual1/body/root1"


def test_a_gradient_that_no_parameter_needs_is_no_fault():
    """The root of the input 0 has an infinite derivative that training never asks for."""
    branches = fnn.concat(a=fnn.dense(2), b=ROOT)
    findings = found(recipe(fnn.serial(branches, fnn.dense(2))), with_values(X, (0, 0), 0.0))
    assert findings.fault is None


@pytest.mark.slow
def test_a_gradient_by_a_parameter_alone_is_named():
    """|scale| ** 0.5 at scale 0: the output is finite, as is the gradient by the input."""

    def init(key, x):
        return {"scale": jnp.zeros(())}

    own = fnn.stateless("scaled", lambda params, x: x + jnp.sqrt(params["scale"]), init)
    findings = found(recipe(fnn.serial(fnn.dense(3), own, fnn.dense(2))))
    assert (findings.fault.stage, findings.fault.path) == ("backward", "scaled1")
    assert findings.fault.text.endswith("by its scale")


@pytest.mark.slow
def test_the_gradient_of_the_loss_itself_is_named():
    def loss(outputs, targets):
        return jnp.sqrt(0 * outputs).sum(-1)

    findings = found(recipe(fnn.serial(fnn.dense(3), fnn.dense(2)), loss=loss))
    assert "its gradient by the model's output is not" in findings.fault.text
    assert findings.fault.stage == "backward"


def test_a_norm_that_overflows_is_no_gradient_that_is_not_finite():
    findings = found(recipe(fnn.dense(2), loss=lambda p, t: 1e25 * jnp.tanh(p).sum(-1)))
    assert (findings.fault.stage, findings.fault.path) == ("gradient", "kernel")
    assert "every value is finite, and the gradient norm overflows" in findings.fault.text


# ---------------------------------------------------------------- optimiser


def chained(*parts):
    return optax.with_extra_args_support(optax.chain(*parts))


@pytest.mark.parametrize(
    "factor, what",
    [
        (np.nan, "the gradient is finite, and dense1/bias is the first parameter whose update is not"),
        (np.inf, "the gradient is finite, and dense1/bias is the first parameter whose update is not"),
        (1e25, "every value is finite, and the update norm overflows"),
    ],
)
def test_an_update_that_fails_is_the_optimizer_s(factor, what):
    optimizer = chained(optax.scale(factor))
    findings = found(recipe(fnn.serial(fnn.dense(3), fnn.dense(2)), optimizer=optimizer))
    assert findings.fault.stage == "optimizer"
    assert findings.fault.text.startswith(what)


def test_parameters_that_grow_beyond_the_norm_are_said_to():
    made = recipe(fnn.dense(2), loss=lambda p, t: (0 * p).sum(-1))
    state = start(made)
    state.params["kernel"] = jnp.full((3, 2), 1e19)
    findings = found(made, state=state)
    assert findings.fault.text.startswith("every value is finite, and the parameter norm overflows")


def test_a_mixed_step_has_the_losses_of_the_step_itself():
    """One example's target is at fault: of its partner, too, who learns a part of it."""
    partner = jnp.array([1, 0, 2, 3, 4, 5, 6, 7])

    def mixing(key, x):
        return Mixed(x, partner, jnp.full(8, 0.75))

    made = recipe(fnn.dense(2), augment=mixing)
    targets = np.zeros((8, 2), np.float32)
    state = start(made)
    findings, (_, log) = (
        inspect(made, state, X, targets, KEY),
        jax.jit(make_step(made))(state, X, targets, KEY),
    )
    np.testing.assert_allclose(findings.scalars["loss"], log["loss"], rtol=1e-5)
    targets[0] = np.inf
    findings = inspect(made, state, X, targets, KEY)
    assert findings.fault.stage == "loss"
    assert findings.examples["loss"] == (0, 1)


# ---------------------------------------------------------------- nothing is wrong


def test_a_sound_step_has_no_fault_and_the_numbers_of_the_step_itself():
    """Dropout, augmentation, batch norm, bfloat16: the same keys, so the same numbers."""
    made = recipe(
        fnn.serial(fnn.dense(8), fnn.batch_norm(), fnn.relu, fnn.dropout(0.5), fnn.dense(3)),
        loss=cross_entropy,
        augment=lambda key, x: x + jax.random.normal(key, x.shape),
        dtype=jnp.bfloat16,
        ema=0.9,
    )
    targets = np.arange(8, dtype=np.int32) % 3
    state = start(made)
    state = state._replace(step=jnp.int32(5), average=Average(state.params, jnp.int32(5)))
    findings = inspect(made, state, X, targets, KEY)
    new, log = jax.jit(make_step(made))(state, X, targets, KEY)
    assert findings.fault is None
    assert findings.step == 6
    for name, value in findings.scalars.items():
        np.testing.assert_allclose(value, log[name], rtol=1e-3)
    largest = {path: float(jnp.abs(leaf).max()) for path, leaf in fnn.paths(new.params).items()}
    assert {path: e.largest for path, e in findings.new_parameters.items()} == pytest.approx(
        largest, rel=1e-3
    )
    assert str(findings).startswith("step 6: everything is finite\n\nlayer ")


def test_the_table_shows_the_layers_in_order_with_an_arrow_at_the_fault():
    model = fnn.serial(fnn.dense(2), layer("minus", lambda x: -1 - x**2), LOG)
    text = found(recipe(model)).table().splitlines()
    names = [line.split("  ")[0] for line in text if "─" not in line]
    assert names == ["layer", "input", "dense1", "minus1", "→ log1", "loss"]
    assert text[-3].split()[-1] == "nan"
