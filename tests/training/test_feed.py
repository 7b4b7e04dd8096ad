"""fnn.training.feed: batches read ahead of the step are those of data in memory, to the bit."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import Dataset, OnDisk, Split
from fnn.losses import cross_entropy
from fnn.metrics import accuracy
from fnn.training import Keeper, Period, Recipe, Stopped, evaluate, fit, initial_state, predict
from fnn.training.checkpoint import Checkpoints
from fnn.training.feed import Plan

RNG = np.random.default_rng(0)
N, BATCH, STEPS, EPOCHS = 46, 8, 5, 3
PICTURES, LABELS = RNG.integers(0, 256, (N, 6, 6, 1), np.uint8), RNG.integers(0, 3, N).astype(np.int32)
MEMORY = Split(PICTURES, LABELS)
DISK = Split(OnDisk(PICTURES.__getitem__, np.arange(N), (6, 6, 1), np.dtype(np.uint8)), LABELS)
KEY = jax.random.key(1)
TIMES = {"seconds", "examples_per_second"}
RECIPE = Recipe(  # with all that a step may carry from one to the next, or draw at random
    model=fnn.serial(fnn.flatten, fnn.dense(4), fnn.batch_norm(), fnn.relu, fnn.dropout(0.3), fnn.dense(3)),
    optimizer=optax.with_extra_args_support(optax.MultiSteps(optax.adam(0.1), 2)),
    loss=cross_entropy,
    penalty=lambda params: jnp.zeros(()),
    metrics={"accuracy": accuracy()},
    normalize=fnn.data.fit_normalizer(PICTURES),
    augment=fnn.data.shift(1),
    ema=0.5,
)


CONV = fnn.serial(fnn.conv(4, 3), fnn.relu, fnn.max_pool(2), fnn.flatten, fnn.dense(3))


def run(train, validation=None, recipe=RECIPE, **changes):
    """The whole last state as a hash, and the records without their times."""
    records = []
    settings = {"seed": 3, "epochs": EPOCHS, "batch_size": BATCH, "log_every": 2, "mode": "step"}
    settings |= {"on_log": records.append, **changes}
    start = initial_state(recipe, jax.random.key(0), jax.ShapeDtypeStruct((BATCH, 6, 6, 1), np.uint8))
    data = Dataset(train, validation=validation, classes=("a", "b", "c"))
    result = fit(recipe, start, data, KEY, **settings)
    untimed = [{k: v for k, v in record.items() if k not in TIMES} for record in records]
    return fnn.digest(result.train_state, {}), untimed


@pytest.fixture(scope="module")
def in_memory():
    return run(MEMORY, MEMORY)


def test_a_set_on_disk_trains_to_the_bits_of_one_in_memory(in_memory):
    assert run(DISK, DISK, steps_per_call=7) == in_memory


@pytest.mark.slow
def test_convolutions_of_a_set_on_disk_are_those_of_one_in_memory_to_the_bit():
    recipe = replace(RECIPE, model=CONV)
    assert run(DISK, recipe=recipe) == run(MEMORY, recipe=recipe)


def test_a_run_that_is_stopped_within_an_epoch_goes_on_to_the_same_bits(in_memory, tmp_path):
    asked = []

    def stop_at_7(record):
        if record["step"] >= 6:
            asked.append(record["step"])

    checkpoints = Checkpoints(tmp_path)
    keeper = Keeper(Period(), checkpoints, stopped=lambda: bool(asked))
    with pytest.raises(Stopped) as caught:
        run(DISK, DISK, steps_per_call=1, keeper=keeper, on_log=stop_at_7)
    checkpoints.close()
    assert caught.value.step % STEPS, "it was to stop within an epoch"
    resumed, records = run(DISK, DISK, resume=checkpoints.newest())
    whole, wanted = in_memory
    assert resumed == whole
    assert records == [record for record in wanted if record["step"] > caught.value.step]


def test_evaluation_and_outputs_are_the_same_to_the_bit():
    params, state = RECIPE.model.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    for batch_size in (1, 20, 64):
        one, other = (evaluate(RECIPE, params, state, split, batch_size) for split in (MEMORY, DISK))
        assert one == other
        one, other = (predict(RECIPE, params, state, s.inputs, batch_size) for s in (MEMORY, DISK))
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_set_on_disk_that_is_smaller_than_the_batch_is_one_batch():
    few = np.arange(3)
    assert run(DISK.rows(few)) == run(MEMORY.rows(few))


def test_no_example_is_read_that_no_step_takes():
    read = []

    def note(i):
        read.append(i)
        return PICTURES[i]

    inputs = OnDisk(note, np.arange(N), (6, 6, 1), np.dtype(np.uint8))
    run(Split(inputs, LABELS), recipe=replace(RECIPE, model=fnn.serial(fnn.flatten, fnn.dense(3))))
    plan = Plan(3, N, BATCH, EPOCHS)
    assert sorted(read) == sorted(np.concatenate([plan.orders(e, 1) for e in range(EPOCHS)]).ravel().tolist())


def test_a_compiled_loop_over_a_set_on_disk_is_refused():
    with pytest.raises(ValueError, match="expected the mode step for examples that stay on disk, got scan"):
        run(DISK, mode="scan")
