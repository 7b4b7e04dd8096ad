"""fnn.training.step: one training step against the same step written by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.data import Mixed, Paired
from fnn.losses import cross_entropy, hinge, l2_penalty, squared_error
from fnn.metrics import accuracy, mae
from fnn.training import Recipe, initial_state, make_step
from fnn.training.step import losses, objective, prepare_batch

KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
INPUTS = RNG.integers(0, 17, (8, 5)).astype(np.uint8)
TARGETS = RNG.integers(0, 3, 8).astype(np.int32)
MODEL = fnn.serial(fnn.dense(6), fnn.batch_norm(), fnn.relu, fnn.dense(3))
L2, RATE, MOMENTUM = 0.02, 0.1, 0.9


def recipe(**changes):
    given = {
        "model": MODEL,
        "optimizer": optax.with_extra_args_support(optax.sgd(RATE, MOMENTUM)),
        "loss": cross_entropy,
        "penalty": lambda params: l2_penalty(params, L2),
        "metrics": {"accuracy": accuracy()},
        "normalize": lambda x: (x - 8) / 4,
    }
    return Recipe(**given | changes)


def no_penalty(params):
    return jnp.zeros(())


def run(made, steps=1, state=None, key=KEY):
    """States and logs of so many steps on the one batch."""
    state = initial_state(made, jax.random.key(0), INPUTS) if state is None else state
    step, states, logs = jax.jit(make_step(made)), [state], []
    for _ in range(steps):
        state, log = step(state, INPUTS, TARGETS, key)
        states.append(state)
        logs.append(log)
    return states, logs


def leaves(tree):
    return {path: np.asarray(leaf, np.float64) for path, leaf in fnn.paths(tree).items()}


# ---------------------------------------------------------------- the step in NumPy


def by_hand(p):
    """Loss with its penalty, gradients, logits and batch statistics, in float64, differentiated by hand."""
    x, n = (INPUTS.astype(np.float64) - 8) / 4, len(INPUTS)
    z = x @ p["dense1/kernel"] + p["dense1/bias"]
    mean, var = z.mean(0), z.var(0)
    normal = (z - mean) / np.sqrt(var + 1e-5)
    shifted = normal * p["batch_norm1/scale"] + p["batch_norm1/bias"]
    hidden = np.maximum(shifted, 0)
    logits = hidden @ p["dense2/kernel"] + p["dense2/bias"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    chances = odds / odds.sum(1, keepdims=True)
    kernels = [path for path in p if path.endswith("kernel")]
    loss = -np.log(chances[np.arange(n), TARGETS]).mean()
    loss += 0.5 * L2 * sum((p[path] ** 2).sum() for path in kernels)

    d_logits = (chances - np.eye(3)[TARGETS]) / n
    d_shifted = (d_logits @ p["dense2/kernel"].T) * (shifted > 0)
    d_normal = d_shifted * p["batch_norm1/scale"]
    d_z = (d_normal - d_normal.mean(0) - normal * (d_normal * normal).mean(0)) / np.sqrt(var + 1e-5)
    gradient = {
        "dense2/kernel": hidden.T @ d_logits,
        "dense2/bias": d_logits.sum(0),
        "batch_norm1/scale": (d_shifted * normal).sum(0),
        "batch_norm1/bias": d_shifted.sum(0),
        "dense1/kernel": x.T @ d_z,
        "dense1/bias": d_z.sum(0),
    }
    for path in kernels:
        gradient[path] = gradient[path] + L2 * p[path]
    return loss, gradient, logits, mean, z.var(0, ddof=1)


def norm(tree):
    return np.sqrt(sum((leaf**2).sum() for leaf in tree.values()))


@pytest.fixture(scope="module")
def three_steps():
    return run(recipe(), 3)


def test_three_steps_are_those_of_the_formulas(three_steps):
    states, logs = three_steps
    params = leaves(states[0].params)
    velocity = {path: np.zeros_like(leaf) for path, leaf in params.items()}
    running_mean, running_var = np.zeros(6), np.ones(6)
    for i, log in enumerate(logs):
        loss, gradient, logits, mean, var = by_hand(params)
        velocity = {path: gradient[path] + MOMENTUM * velocity[path] for path in params}
        params = {path: params[path] - RATE * velocity[path] for path in params}
        running_mean, running_var = 0.9 * running_mean + 0.1 * mean, 0.9 * running_var + 0.1 * var

        np.testing.assert_allclose(log["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(log["gradient_norm"], norm(gradient), rtol=1e-4)
        np.testing.assert_allclose(log["update_norm"], RATE * norm(velocity), rtol=1e-4)
        np.testing.assert_allclose(log["parameter_norm"], norm(params), rtol=1e-5)
        right = int((logits.argmax(1) == TARGETS).sum())
        assert {name: int(v) for name, v in log["metrics"]["accuracy"].items()} == {
            "total": right,
            "count": 8,
        }

        after = states[i + 1]
        assert int(after.step) == i + 1
        for path, leaf in leaves(after.params).items():
            np.testing.assert_allclose(leaf, params[path], rtol=1e-4, atol=1e-6, err_msg=path)
        np.testing.assert_allclose(after.state["batch_norm1"]["mean"], running_mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after.state["batch_norm1"]["var"], running_var, rtol=1e-5)


def test_the_log_has_what_is_logged_and_nothing_else(three_steps):
    _, logs = three_steps
    assert set(logs[0]) == {"loss", "gradient_norm", "update_norm", "parameter_norm", "metrics"}


def test_the_step_keeps_the_form_of_its_state(three_steps):
    states, _ = three_steps
    assert [fnn.spec(state) == fnn.spec(states[0]) for state in states] == [True] * 4


def test_the_penalty_pulls_kernels_by_strength_times_weight_and_nothing_else():
    sgd = optax.with_extra_args_support(optax.sgd(1.0))
    (start, with_it), _ = run(recipe(optimizer=sgd, penalty=lambda p: l2_penalty(p, 0.25)))
    (_, without), _ = run(recipe(optimizer=sgd, penalty=no_penalty))
    before, pulled, free = leaves(start.params), leaves(with_it.params), leaves(without.params)
    for path in before:
        expected = -0.25 * before[path] if path.endswith("kernel") else 0 * before[path]
        np.testing.assert_allclose(pulled[path] - free[path], expected, atol=1e-6, err_msg=path)


def test_a_sum_of_losses_has_the_batch_size_times_the_gradient_of_the_mean():
    _, (mean,) = run(recipe(penalty=no_penalty))
    _, (total,) = run(recipe(penalty=no_penalty, reduction="sum"))
    np.testing.assert_allclose(total["loss"], 8 * mean["loss"], rtol=1e-6)
    np.testing.assert_allclose(total["gradient_norm"], 8 * mean["gradient_norm"], rtol=1e-5)


# ---------------------------------------------------------------- the average


def test_the_average_is_numpys_corrected_for_its_start():
    decay = 0.8
    made = recipe(ema=decay)
    states, _ = run(made, 5)
    running = {path: np.zeros_like(leaf) for path, leaf in leaves(states[0].params).items()}
    for n, state in enumerate(states[1:], start=1):
        params = leaves(state.params)
        running = {path: decay * running[path] + (1 - decay) * params[path] for path in params}
        for path, leaf in leaves(made.evaluated(state)).items():
            np.testing.assert_allclose(
                leaf, running[path] / (1 - decay**n), rtol=1e-5, atol=1e-7, err_msg=path
            )


def test_after_one_step_the_average_is_the_parameters():
    made = recipe(ema=0.999)
    (_, state), _ = run(made)
    for path, leaf in leaves(made.evaluated(state)).items():
        np.testing.assert_allclose(leaf, leaves(state.params)[path], rtol=1e-4, atol=1e-6)


def test_the_average_does_not_touch_the_training(three_steps):
    plain = leaves(three_steps[0][-1].params)
    averaged = leaves(run(recipe(ema=0.9), 3)[0][-1].params)
    for path in plain:
        np.testing.assert_array_equal(averaged[path], plain[path])


def test_without_an_average_the_parameters_are_evaluated(three_steps):
    state = three_steps[0][-1]
    assert state.average == {}
    assert fnn.digest(recipe().evaluated(state), {}) == fnn.digest(state.params, {})


# ---------------------------------------------------------------- precision


def test_bfloat16_is_the_activations_dtype_and_the_parameters_stay_float32(three_steps):
    seen = set()

    def look(x):
        seen.add(x.dtype)
        return x

    made = recipe(dtype=jnp.bfloat16, model=fnn.serial(fnn.fn(look), *(child for _, child in MODEL.children)))
    states, logs = run(made, 3)
    assert seen == {jnp.dtype("bfloat16")}
    for state in states:
        kept = (state.params, state.state, state.optimizer)
        assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
    assert logs[0]["loss"].dtype == jnp.float32
    losses, wide = (np.array([log["loss"] for log in each]) for each in (logs, three_steps[1]))
    np.testing.assert_allclose(losses, wide, rtol=0.02)
    assert np.any(losses != wide)


# ---------------------------------------------------------------- randomness


@pytest.fixture(scope="module")
def noisy():
    return recipe(model=fnn.serial(fnn.dense(6), fnn.dropout(0.5), fnn.dense(3)))


def test_randomness_comes_from_the_key_and_the_steps_number_alone(noisy):
    step = jax.jit(make_step(noisy))
    start = initial_state(noisy, jax.random.key(0), INPUTS)

    def loss(number, key):
        return float(step(start._replace(step=jnp.int32(number)), INPUTS, TARGETS, key)[1]["loss"])

    assert loss(3, KEY) == loss(3, KEY)
    assert len({loss(number, KEY) for number in range(6)}) == 6
    assert loss(3, KEY) != loss(3, jax.random.key(8))


def test_a_run_can_go_on_from_any_state_to_the_bit(noisy):
    states, _ = run(noisy, 4)
    again, _ = run(noisy, 2, state=states[2])
    assert fnn.digest(again[-1].params, again[-1].state) == fnn.digest(states[-1].params, states[-1].state)


@pytest.mark.slow
def test_augmentation_and_model_draw_from_keys_of_their_own():
    keys = {"augment": [], "model": []}

    def augment(key, x):
        keys["augment"].append(jax.random.key_data(key).tolist())
        return x

    def apply(params, state, x, *, key=None, train=False):
        if train:
            keys["model"].append(jax.random.key_data(key).tolist())
        return MODEL.apply(params, state, x, key=key, train=train)

    made = recipe(augment=augment, model=fnn.Layer(MODEL.init, apply))
    step, state = make_step(made), initial_state(made, jax.random.key(0), INPUTS)
    for _ in range(2):  # not compiled, so that the keys have values
        state, _ = step(state, INPUTS, TARGETS, KEY)
    drawn = [*keys["augment"], *keys["model"]]
    assert len(drawn) == 4
    assert len({str(key) for key in drawn}) == 4


# ---------------------------------------------------------------- what the model sees


def test_inputs_are_augmented_before_they_are_normalised_and_only_in_training():
    made = recipe(augment=lambda key, x: x + 1, normalize=lambda x: 2 * x, dtype=jnp.bfloat16)
    x = np.array([[1], [255]], np.uint8)
    trained = prepare_batch(made, jnp.int32(0), x, TARGETS[:2], KEY).inputs
    for got, expected in [(made.prepare(x), [[2], [510]]), (trained, [[4], [512]])]:
        assert got.dtype == jnp.bfloat16
        np.testing.assert_array_equal(got.astype(np.float32), expected)


def test_inputs_are_normalised_before_they_are_narrowed():
    made = recipe(normalize=lambda x: x - 1000, dtype=jnp.bfloat16)
    got = made.prepare(np.array([[1000.5], [1001.25]], np.float32))  # 8 bits cannot tell them from 1000
    np.testing.assert_array_equal(got.astype(np.float32), [[0.5], [1.25]])


def test_augmentation_sees_float32():
    seen = []
    made = recipe(augment=lambda key, x: seen.append(x.dtype) or x, dtype=jnp.bfloat16)
    prepare_batch(made, jnp.int32(0), jnp.asarray(INPUTS), TARGETS, KEY)
    assert seen == [jnp.dtype("float32")]


# ---------------------------------------------------------------- mixed examples

PARTNER = np.array([3, 0, 1, 2, 7, 5, 4, 6], np.int32)
SHARE = np.linspace(0, 1, 8, dtype=np.float32)


def mixing(key, x):
    share = jnp.asarray(SHARE)
    own = share.reshape(-1, 1)
    return Mixed(own * x + (1 - own) * x[PARTNER], jnp.asarray(PARTNER), share)


def mixed_batch(**changes):
    made = recipe(augment=mixing, **changes)
    return made, prepare_batch(made, jnp.int32(0), jnp.asarray(INPUTS), jnp.asarray(TARGETS), KEY)


def test_inputs_are_mixed_before_they_are_normalised():
    _, batch = mixed_batch()
    raw = SHARE[:, None] * INPUTS + (1 - SHARE[:, None]) * INPUTS[PARTNER]
    np.testing.assert_allclose(batch.inputs, (raw - 8) / 4, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(batch.targets, TARGETS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_cross_entropy_of_a_mixed_example_is_that_of_its_mixed_labels(smoothing):
    def loss(outputs, targets):
        return cross_entropy(outputs, targets, label_smoothing=smoothing)

    made, batch = mixed_batch(loss=loss)
    outputs = jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32)
    rows = np.eye(3, dtype=np.float32)[TARGETS]
    mixed = SHARE[:, None] * rows + (1 - SHARE[:, None]) * rows[PARTNER]
    np.testing.assert_allclose(losses(made, outputs, batch), loss(outputs, mixed), rtol=1e-5)


def test_every_loss_is_mixed_by_share():
    made, batch = mixed_batch(loss=hinge)
    outputs = jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32)
    own, other = np.asarray(hinge(outputs, TARGETS)), np.asarray(hinge(outputs, TARGETS[PARTNER]))
    np.testing.assert_allclose(losses(made, outputs, batch), SHARE * own + (1 - SHARE) * other, rtol=1e-5)


def test_a_mixed_step_descends_the_mixed_loss_and_measures_against_its_own_targets():
    made, batch = mixed_batch(ema=0.5, optimizer=optax.with_extra_args_support(optax.sgd(RATE)))
    (before, after), (log,) = run(made)
    rows = np.eye(3, dtype=np.float32)[TARGETS]
    soft = jnp.asarray(SHARE[:, None] * rows + (1 - SHARE[:, None]) * rows[PARTNER])

    def wanted(params):  # as if labels had been soft from the start
        logits, _ = MODEL.apply(params, before.state, batch.inputs, train=True)
        return cross_entropy(logits, soft).mean() + l2_penalty(params, L2), logits

    (loss, logits), gradient = jax.value_and_grad(wanted, has_aux=True)(before.params)
    np.testing.assert_allclose(log["loss"], loss, rtol=1e-5)
    moved = leaves(jax.tree.map(lambda p, g: p - RATE * g, before.params, gradient))
    for path, leaf in leaves(after.params).items():
        np.testing.assert_allclose(leaf, moved[path], rtol=1e-4, atol=1e-6, err_msg=path)
    assert int(log["metrics"]["accuracy"]["total"]) == int((logits.argmax(1) == TARGETS).sum())
    again, _ = objective(made, {})(before.params, before.state, batch)
    np.testing.assert_allclose(again, loss, rtol=1e-5)


@pytest.mark.cpu
def test_the_first_state_is_the_models_own():
    made = recipe()
    state = initial_state(made, jax.random.key(3), INPUTS)
    params, own = MODEL.init(jax.random.key(3), jnp.zeros((8, 5)))
    assert fnn.digest(state.params, state.state) == fnn.digest(params, own)
    assert int(state.step) == 0
    shapes = initial_state(made, jax.random.key(3), jax.ShapeDtypeStruct((8, 5), jnp.uint8))
    assert fnn.digest(shapes.params, shapes.state) == fnn.digest(params, own)


@pytest.mark.slow
def test_a_run_begins_with_what_the_models_own_init_gives_to_the_bit():
    model = fnn.serial(
        fnn.conv(4, 3), fnn.batch_norm(), fnn.relu, fnn.flatten, fnn.repeat(fnn.dense(64), 2), fnn.dense(3)
    )
    x = jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32)
    made = recipe(model=model, ema=0.9, optimizer=optax.with_extra_args_support(optax.adam(0.1)))
    start = initial_state(made, KEY, x)
    params, state = model.init(KEY, x)
    assert fnn.digest(start.params, start.state) == fnn.digest(params, state)
    assert int(start.average.values) == 0
    assert fnn.digest(start.optimizer, start.average.total) == fnn.digest(
        made.optimizer.init(params), optax.tree.zeros_like(params)
    )


# ---------------------------------------------------------------- what optimisers ask for


def test_the_optimiser_gets_the_loss_its_gradient_and_the_function():
    asked = {}

    def update(updates, state, params, *, value, grad, value_fn):
        asked.update(value=value, grad=grad, updates=updates, there=value_fn(params), params=params)
        asked["elsewhere"] = value_fn(jax.tree.map(lambda leaf: 0.5 * leaf, params))
        return jax.tree.map(jnp.zeros_like, updates), state

    made = recipe(optimizer=optax.GradientTransformationExtraArgs(lambda params: (), update))
    state = initial_state(made, jax.random.key(0), INPUTS)
    _, log = make_step(made)(state, INPUTS, TARGETS, KEY)
    loss, gradient, *_ = by_hand(leaves(state.params))
    np.testing.assert_allclose(asked["value"], loss, rtol=1e-5)
    np.testing.assert_allclose(asked["there"], loss, rtol=1e-5)
    halved = {path: 0.5 * leaf for path, leaf in leaves(state.params).items()}
    np.testing.assert_allclose(asked["elsewhere"], by_hand(halved)[0], rtol=1e-5)
    for name in ("grad", "updates"):
        for path, leaf in leaves(asked[name]).items():
            np.testing.assert_allclose(leaf, gradient[path], rtol=1e-3, atol=1e-6, err_msg=f"{name} {path}")
    assert float(log["update_norm"]) == 0.0


# ---------------------------------------------------------------- pairs of pictures

SMALL = RNG.integers(0, 256, (4, 3, 3, 1)).astype(np.uint8)
LARGE = RNG.integers(0, 256, (4, 6, 6, 1)).astype(np.uint8)


def cutting(key, pair):
    assert isinstance(pair, Paired)
    assert {images.dtype for images in pair} == {jnp.dtype("float32")}
    return Paired(pair.inputs[:, 1:], pair.targets[:, 2:])


def test_pictures_with_pictures_as_targets_are_augmented_together():
    made = recipe(augment=cutting, normalize=lambda x: x / 255, dtype=jnp.bfloat16)
    batch = prepare_batch(made, jnp.int32(0), jnp.asarray(SMALL), jnp.asarray(LARGE), KEY)
    np.testing.assert_array_equal(batch.targets, LARGE[:, 2:].astype(np.float32))
    assert batch.targets.dtype == jnp.float32
    np.testing.assert_allclose(batch.inputs.astype(np.float32), SMALL[:, 1:] / 255, rtol=0.01)
    assert batch.inputs.dtype == jnp.bfloat16
    plain = prepare_batch(recipe(), jnp.int32(0), jnp.asarray(SMALL), jnp.asarray(LARGE), KEY)
    np.testing.assert_array_equal(plain.targets, LARGE)


@pytest.mark.parametrize("targets", [TARGETS[:4], LARGE[:, 0, 0]])
def test_other_targets_are_left_alone(targets):
    def augment(key, images):
        assert not isinstance(images, Paired)
        return images + 1

    batch = prepare_batch(
        recipe(augment=augment), jnp.int32(0), jnp.asarray(SMALL), jnp.asarray(targets), KEY
    )
    np.testing.assert_array_equal(batch.targets, targets)
    np.testing.assert_allclose(batch.inputs, (SMALL.astype(np.float32) - 7) / 4)


def test_a_step_of_pairs_learns_from_and_measures_what_was_cut():
    model = fnn.serial(fnn.upsample(2), fnn.conv(1, 1))
    made = recipe(
        model=model,
        augment=cutting,
        loss=squared_error,
        penalty=no_penalty,
        metrics={"mae": mae()},
        normalize=lambda x: x / 255,
    )
    state = initial_state(made, jax.random.key(0), SMALL)
    _, log = jax.jit(make_step(made))(state, SMALL, LARGE, KEY)
    kernel, bias = (float(np.squeeze(state.params["conv1"][name])) for name in ("kernel", "bias"))
    outputs = kernel * SMALL[:, 1:].repeat(2, 1).repeat(2, 2) / 255 + bias
    error = outputs - LARGE[:, 2:]
    assert float(log["loss"]) == pytest.approx(np.mean(error**2), rel=1e-5)
    assert made.metrics["mae"].value(log["metrics"]["mae"]) == pytest.approx(np.abs(error).mean(), rel=1e-5)
