"""fnn.training.loop: one compilation, every example in its order, what is logged and when."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import Dataset, Split, epoch_order
from fnn.losses import cross_entropy
from fnn.metrics import Metric, accuracy
from fnn.training import DivergedError, Recipe, evaluate, fit, initial_state, make_step
from fnn.training.advance import compile_steps
from fnn.training.folder import to_json

N, BATCH, STEPS = 22, 4, 5  # 22 rows are 5 whole batches; 2 rows are left out
KEY = jax.random.key(1)
RNG = np.random.default_rng(0)


def split(n):
    return Split(RNG.normal(size=(n, 3)).astype(np.float32), RNG.integers(0, 3, n).astype(np.int32))


DATA = Dataset(split(N), validation=split(7), classes=("a", "b", "c"))
MODEL = fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.relu, fnn.dense(3))


def recipe(**changes):
    given = {
        "model": MODEL,
        "optimizer": optax.with_extra_args_support(optax.sgd(0.1)),
        "loss": cross_entropy,
        "penalty": lambda params: jnp.zeros(()),
        "metrics": {"accuracy": accuracy()},
        "normalize": lambda x: x,
    }
    return Recipe(**given | changes)


def trained(made, data=DATA, **changes):
    """What `fit` returns, and its records."""
    records = []
    settings = {"seed": 0, "epochs": 2, "batch_size": BATCH, "log_every": 1, "on_log": records.append}
    start = initial_state(made, jax.random.key(0), data.train.inputs[:BATCH])
    return fit(made, start, data, KEY, **settings | changes), records


def of(records, part):
    return [record for record in records if record["split"] == part]


@pytest.fixture(scope="module")
def every_step():
    return trained(recipe(), learning_rate=lambda i: 0.1 / (1 + i))


# ---------------------------------------------------------------- compilation


class Compilations(logging.Handler):
    """What XLA compiles, by name."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        message = record.getMessage()
        if message.startswith("Finished XLA compilation of "):
            self.names.append(message.split()[4])


@pytest.fixture
def compilations():
    handler, logger = Compilations(), logging.getLogger("jax")
    logger.addHandler(handler)
    with jax.log_compiles():
        yield handler.names
    logger.removeHandler(handler)


@pytest.mark.parametrize("mode", ["scan", "step"])
def test_a_run_compiles_its_step_once_and_its_evaluation_once(compilations, mode):
    traces = Counter()

    def apply(params, state, x, *, key=None, train=False):
        traces["training" if train else "evaluation"] += 1
        return MODEL.apply(params, state, x, key=key, train=train)

    made = recipe(model=fnn.Layer(MODEL.init, apply))
    after_first_epoch = []

    def on_log(record):
        if record["split"] == "validation" and record["epoch"] == 1:
            after_first_epoch.extend(compilations)

    trained(made, epochs=3, mode=mode, on_log=on_log)
    assert traces == {"training": 1, "evaluation": 1}
    assert Counter(compilations)[f"jit({'steps' if mode == 'scan' else 'step'})"] == 1
    assert after_first_epoch
    assert compilations == after_first_epoch, "something was compiled after the first epoch"


def test_seconds_of_compilation_and_training_are_told_apart(every_step):
    result, records = every_step
    assert result.compile_seconds > 0
    assert result.train_seconds >= of(records, "train")[-1]["seconds"] > 0


# ---------------------------------------------------------------- the steps


def test_the_run_is_the_pure_step_over_the_epochs_orders(every_step):
    made = recipe()
    state, step = initial_state(made, jax.random.key(0), DATA.train.inputs[:BATCH]), jax.jit(make_step(made))
    losses = []
    for epoch in range(2):
        for rows in np.asarray(epoch_order(0, epoch, N, BATCH)):
            state, log = step(state, DATA.train.inputs[rows], DATA.train.targets[rows], KEY)
            losses.append(float(log["loss"]))
    result, records = every_step
    np.testing.assert_allclose([r["loss"] for r in of(records, "train")], losses, rtol=1e-5)
    got, wanted = (fnn.paths((s.params, s.state)) for s in (result.train_state, state))
    for path in wanted:
        np.testing.assert_allclose(got[path], wanted[path], rtol=1e-4, atol=1e-6, err_msg=path)
    assert int(result.train_state.step) == 10


ROWS = Metric(  # the targets of the rows that were trained on
    lambda outputs, targets, mask: {"rows": targets},
    lambda a, b: {"rows": np.concatenate([a["rows"], b["rows"]])},
    lambda statistics: np.asarray(statistics["rows"]).tolist(),
)


def rows_seen(n=N, **changes):
    """Which rows each epoch trains on, in order."""
    data = Dataset(Split(np.ones((n, 1), np.float32), np.arange(n, dtype=np.int32)))
    made = recipe(
        model=fnn.serial(fnn.dense(1)),
        loss=lambda outputs, targets: outputs[:, 0],
        metrics={"rows": ROWS},
    )
    _, records = trained(made, data, log_every=max(1, n // BATCH), **changes)
    return [record["rows"] for record in records]


def test_every_epoch_takes_each_row_at_most_once_in_an_order_of_its_own():
    first, second, third = epochs = rows_seen(epochs=3)
    for epoch, rows in enumerate(epochs):
        assert len(set(rows)) == len(rows) == STEPS * BATCH
        assert rows == np.asarray(epoch_order(0, epoch, N, BATCH)).ravel().tolist()
    assert first != second
    left_out = [set(range(N)) - set(rows) for rows in epochs]
    assert len(set().union(*left_out)) > 2, "the same rows are left out of every epoch"
    assert rows_seen(epochs=3) == [first, second, third]
    assert rows_seen(epochs=1, seed=1) != [first]
    (last,) = rows_seen(epochs=1, seed=2**32 - 1)
    assert last == np.asarray(epoch_order(2**32 - 1, 0, N, BATCH)).ravel().tolist()


def test_a_set_smaller_than_the_batch_is_one_batch():
    (rows,) = rows_seen(n=3, epochs=1)
    assert sorted(rows) == [0, 1, 2]


# ---------------------------------------------------------------- many steps in a call


def everything(**changes):
    """A recipe with all that a step may carry from one to the next, or draw at random."""
    return recipe(
        model=fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.relu, fnn.dropout(0.3), fnn.dense(3)),
        optimizer=optax.with_extra_args_support(optax.MultiSteps(optax.adam(0.1), 2)),
        augment=lambda key, x: x + 0.1 * jax.random.normal(key, x.shape),
        ema=0.5,
        **changes,
    )


MANY = Split(RNG.normal(size=(46, 3)).astype(np.float32), RNG.integers(0, 3, 46).astype(np.int32))
TIMES = {"seconds", "examples_per_second"}


def outcome(validation=None, **changes):
    """The whole last state as a hash, and the records without their times."""
    data = Dataset(MANY, validation=validation, classes=DATA.classes)
    settings = {"epochs": 3, "log_every": 3} | changes
    result, records = trained(everything(), data, learning_rate=lambda i: 0.1, **settings)
    untimed = [{k: v for k, v in record.items() if k not in TIMES} for record in records]
    return fnn.digest(result.train_state, {}), untimed


@pytest.mark.parametrize(
    ("mode", "validation", "calls"),
    [
        pytest.param("scan", None, (1, 2, 7, 11, 99), marks=pytest.mark.slow),
        ("scan", DATA.validation, (7,)),
        ("step", None, (7,)),
    ],
    ids=["epochs together", "validated", "dispatched"],
)
def test_no_bit_depends_on_how_many_steps_a_call_does(mode, validation, calls):
    adaptive = outcome(validation, mode=mode)
    assert [r["step"] for r in of(adaptive[1], "train")] == list(range(3, 34, 3))  # epochs of 11 steps
    assert len(of(adaptive[1], "validation")) == (3 if validation else 0)
    for steps_per_call in calls:
        assert outcome(validation, mode=mode, steps_per_call=steps_per_call) == adaptive


@pytest.mark.slow
def test_no_bit_depends_on_how_many_epochs_are_put_together(monkeypatch):
    together = outcome()
    monkeypatch.setattr("fnn.training.feed.TOGETHER", 25)  # two epochs of 11 steps, and the third alone
    assert outcome() == together


def test_steps_in_a_loop_and_dispatched_are_the_same_but_for_rounding():
    (scanned, records), (dispatched, others) = (
        trained(everything(), mode=mode, epochs=1) for mode in ("scan", "step")
    )
    one, other = (fnn.paths(result.train_state) for result in (scanned, dispatched))
    for path in one:
        np.testing.assert_allclose(one[path], other[path], rtol=1e-3, atol=1e-5, err_msg=path)
    for mine, theirs in zip(records, others, strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(mine["loss"], theirs["loss"], rtol=1e-4)


def test_a_call_takes_about_0_3_seconds(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock, calls = Clock(), []

    def compiled(*arguments):
        advance = compile_steps(*arguments)

        def slow(state, order, first, count):
            clock.now += 0.01 * count
            calls.append((first, count))
            return advance(state, order, first, count)

        return slow

    monkeypatch.setattr("fnn.training.loop.time", clock)
    monkeypatch.setattr("fnn.training.feed.compile_steps", compiled)
    trained(recipe(), Dataset(split(BATCH * 200), classes=DATA.classes), epochs=1)
    firsts, counts = zip(*calls, strict=True)
    assert counts[:3] == (1, 4, 16)
    assert all(count in (29, 30) for count in counts[3:-1])
    assert firsts == tuple(itertools.accumulate((0, *counts[:-1])))
    assert sum(counts) == 200


# ---------------------------------------------------------------- records


def test_a_record_has_all_that_is_logged(every_step):
    _, records = every_step
    keys = {
        "step", "epoch", "split", "loss", "accuracy", "learning_rate", "gradient_norm", "update_norm",
        "parameter_norm", "examples_per_second", "seconds",
    }  # fmt: skip
    train = of(records, "train")
    assert [(r["step"], r["epoch"]) for r in train] == [(i, 1 if i <= STEPS else 2) for i in range(1, 11)]
    for i, record in enumerate(train):
        assert set(record) == keys
        assert record["learning_rate"] == 0.1 / (1 + i)
        assert record["examples_per_second"] > 0
        assert record["gradient_norm"] > 0
        np.testing.assert_allclose(record["update_norm"], 0.1 * record["gradient_norm"], rtol=1e-5)
        to_json(record)
    assert all(a["seconds"] < b["seconds"] for a, b in itertools.pairwise(train))


def test_without_a_learning_rate_none_is_logged():
    _, records = trained(recipe(), epochs=1)
    assert "learning_rate" not in records[0]


@pytest.mark.parametrize(("log_every", "steps"), [(1, range(1, 11)), (4, [4, 8, 10]), (99, [10])])
def test_points_are_logged_every_so_many_steps_and_at_the_end(every_step, log_every, steps):
    _, records = trained(recipe(), log_every=log_every)
    train = of(records, "train")
    assert [record["step"] for record in train] == list(steps)
    single = of(every_step[1], "train")
    begin = 0
    for record in train:
        since = single[begin : record["step"]]
        for name in ("loss", "accuracy"):  # means of the steps since the last point
            np.testing.assert_allclose(record[name], np.mean([r[name] for r in since]), rtol=1e-5, atol=1e-9)
        for name in ("gradient_norm", "update_norm", "parameter_norm"):  # of the point itself
            np.testing.assert_allclose(record[name], since[-1][name], rtol=1e-5)
        begin = record["step"]


def test_the_validation_part_is_evaluated_after_each_epoch(every_step):
    result, records = every_step
    validation = of(records, "validation")
    assert [(r["step"], r["epoch"]) for r in validation] == [(5, 1), (10, 2)]
    made = recipe()
    figures = evaluate(made, result.train_state.params, result.train_state.state, DATA.validation)
    assert {name: validation[-1][name] for name in figures} == pytest.approx(figures, rel=1e-5)
    assert [r["split"] for r in records[:6]] == ["train"] * 5 + ["validation"]


def test_the_validation_part_is_evaluated_with_the_average_where_there_is_one():
    made = recipe(ema=0.5)
    result, records = trained(made, epochs=1)
    average = made.evaluated(result.train_state)
    assert fnn.digest(average, {}) != fnn.digest(result.train_state.params, {})
    figures = evaluate(made, average, result.train_state.state, DATA.validation)
    assert {name: records[-1][name] for name in figures} == pytest.approx(figures, rel=1e-5)


def test_evaluation_changes_nothing_in_the_training(every_step):
    without = Dataset(DATA.train, classes=DATA.classes)
    result, records = trained(recipe(), without)
    assert of(records, "validation") == []
    mine, theirs = (fnn.digest(r.train_state.params, r.train_state.state) for r in (result, every_step[0]))
    assert mine == theirs


# ---------------------------------------------------------------- progress, divergence


def test_progress_is_told_at_every_logged_point_at_least():
    seen = []
    trained(recipe(), log_every=5, on_progress=seen.append)
    steps = [progress.step for progress in seen]
    assert {5, 10} <= set(steps)
    assert steps == sorted(steps)
    assert steps[-1] == seen[-1].steps == 10
    assert seen[-1].epoch == 2
    assert set(seen[-1].figures) == {"loss", "accuracy"}
    assert all(np.isfinite(progress.figures["loss"]) for progress in seen)
    assert seen[-1].examples_per_second > 0


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "nan|inf")])
@pytest.mark.parametrize("log_every", [1, 99])
@pytest.mark.parametrize("steps_per_call", [1, 3, 99])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(value, shown, log_every, steps_per_call):
    bad = int(epoch_order(0, 0, N, BATCH)[3, 1])  # trained on in step 4
    inputs = DATA.train.inputs.copy()
    inputs[bad, 0] = value
    data, records = Dataset(Split(inputs, DATA.train.targets), classes=DATA.classes), []
    made = recipe(model=fnn.serial(fnn.dense(3)))
    with pytest.raises(DivergedError, match=rf"the loss is ({shown}) at step 4: .*learning rate"):
        trained(made, data, log_every=log_every, steps_per_call=steps_per_call, on_log=records.append)
    assert [record["step"] for record in records] == ([1, 2, 3] if log_every == 1 else [])
