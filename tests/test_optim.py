"""fnn.optim: configs to optax, every name that optax has, values, errors."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import optax.losses
import pytest
from ruamel.yaml import YAML

from fnn.choices import ConfigError
from fnn.optim import build, evaluation_params
from fnn.optim.catalog import REFUSED, schedules, transformations
from fnn.optim.clock import STEPS

# Each of some 200 small programs runs twice: compiling them well would take most of the time.
FAST = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
RUN = {"total_steps": 100, "steps_per_epoch": 20}


def read(text):
    return YAML(typ="safe", pure=True).load(text)


def made(text, params, **run):
    return build(read(text), params, **(RUN | run))


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)

    def dense(rows, columns):
        kernel = rng.normal(size=(rows, columns)).astype(np.float32)
        return {"kernel": jnp.asarray(kernel), "bias": jnp.full(columns, 0.5, jnp.float32)}

    return {"dense1": dense(4, 3), "dense2": dense(3, 2)}


INPUTS, TARGETS = np.random.default_rng(1).normal(size=(2, 8, 4)).astype(np.float32)


def loss(params):
    hidden = jnp.tanh(INPUTS @ params["dense1"]["kernel"] + params["dense1"]["bias"])
    return jnp.mean((hidden @ params["dense2"]["kernel"] + params["dense2"]["bias"] - TARGETS[:, :2]) ** 2)


def run(transformation, params, steps, loss=loss, **extra):
    """Parameters and state after so many steps with all that a training step passes."""
    update = optax.with_extra_args_support(transformation).update

    @functools.partial(jax.jit, compiler_options=FAST)
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = update(grads, state, params, value=value, grad=grads, value_fn=loss, **extra)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def close(got, wanted, rtol=1e-6, atol=1e-7):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- every name of optax

EXAMPLES = {
    "adaptive_grad_clip": "adaptive_grad_clip: 0.1",
    "add_decayed_weights": "add_decayed_weights: 0.1",
    "add_noise": "add_noise: {eta: 0.01, gamma: 0.55, key: 3}",
    "apply_if_finite": "apply_if_finite: {inner: {sgd: 0.1}, max_consecutive_errors: 3}",
    "chain": "chain: [{clip: 1.0}, {sgd: 0.1}]",
    "clip": "clip: 0.1",
    "clip_by_block_rms": "clip_by_block_rms: 0.1",
    "clip_by_global_norm": "clip_by_global_norm: 0.1",
    "ema": "ema: 0.9",
    "flatten": "flatten: {inner: {adam: 0.1}}",
    "freeze": "freeze: '*/kernel'",
    "lookahead": "lookahead: {fast_optimizer: {sgd: 0.1}, sync_period: 2, slow_step_size: 0.5}",
    "masked": "masked: {inner: {sgd: 0.1}, mask: '*/kernel'}",
    "mechanize": "mechanize: {base_optimizer: {adam: 1.0}}",
    "multi_transform": "multi_transform: {'dense1/*': {sgd: 0.1}, '*': {adamw: 0.1}}",
    "named_chain": "named_chain: [[first, {clip: 1.0}], [second, {sgd: 0.1}]]",
    "partition": "partition: {'dense1/**': set_to_zero, '*': {adamw: 0.1}}",
    "sam": "sam: {optimizer: {sgd: 0.1}, adv_optimizer: [normalize, {sgd: 0.05}]}",
    "scale": "scale: -0.1",
    "scale_by_backtracking_linesearch": "[{sgd: 1.0}, {scale_by_backtracking_linesearch: 10}]",
    "scale_by_muon": """
        multi_transform:
          '*/kernel': [{scale_by_muon: {weight_dimension_numbers: {'*': {}}}}, {scale: -0.1}]
          '*': {sgd: 0.1}
        """,
    "scale_by_schedule": "scale_by_schedule: {step_size_fn: {constant_schedule: -0.1}}",
    "scale_by_zoom_linesearch": "[{sgd: 1.0}, {scale_by_zoom_linesearch: 10}]",
    "schedule_free": "schedule_free: {base_optimizer: {sgd: 0.1}, learning_rate: 0.1}",
    "selective_transform": "selective_transform: {optimizer: {sgd: 0.1}, freeze_mask: '*/bias'}",
    "split_real_and_imaginary": "split_real_and_imaginary: {inner: {sgd: 0.1}}",
    "trace": "trace: 0.9",
    "with_extra_args_support": "with_extra_args_support: {tx: {sgd: 0.1}}",
}

SCHEDULES = {
    "constant_schedule": "constant_schedule: 0.3",
    "cosine_decay_schedule": "cosine_decay_schedule: {init_value: 0.3, decay_steps: 100%}",
    "cosine_onecycle_schedule": "cosine_onecycle_schedule: {transition_steps: 5 epochs, peak_value: 0.3}",
    "exponential_decay": "exponential_decay: {init_value: 0.3, transition_steps: 10%, decay_rate: 0.5}",
    "join_schedules": "join_schedules: {schedules: [0.1, {constant_schedule: 0.2}], boundaries: [1 epoch]}",
    "linear_onecycle_schedule": "linear_onecycle_schedule: {transition_steps: 5 epochs, peak_value: 0.3}",
    "linear_schedule": "linear_schedule: {init_value: 0.3, end_value: 0.0, transition_steps: 50%}",
    "piecewise_constant_schedule": """
        piecewise_constant_schedule: {init_value: 0.3, boundaries_and_scales: {50%: 0.1, 80: 0.5}}""",
    "piecewise_interpolate_schedule": """
        piecewise_interpolate_schedule:
          {interpolate_type: cosine, init_value: 0.3, boundaries_and_scales: {2.5 epochs: 0.1}}""",
    "polynomial_schedule": """
        polynomial_schedule: {init_value: 0.3, end_value: 0.1, power: 2, transition_steps: 4 epochs,
                              transition_begin: 1 epoch}""",
    "sgdr_schedule": """
        sgdr_schedule:
          - {init_value: 0.0, peak_value: 0.3, warmup_steps: 10%, decay_steps: 40%}
          - {init_value: 0.0, peak_value: 0.2, warmup_steps: 10%, decay_steps: 3 epochs}""",
    "warmup_constant_schedule": """
        warmup_constant_schedule: {init_value: 0.0, peak_value: 0.3, warmup_steps: 10%}""",
    "warmup_cosine_decay_schedule": """
        warmup_cosine_decay_schedule:
          {init_value: 0.0, peak_value: 0.3, warmup_steps: 1 epoch, decay_steps: 100%}""",
    "warmup_exponential_decay_schedule": """
        warmup_exponential_decay_schedule:
          {init_value: 0, peak_value: 0.3, warmup_steps: 1 epoch, transition_steps: 10%, decay_rate: 0.5}""",
}

_COSINE = {"init_value": 0.0, "warmup_steps": 10}
DIRECT = {
    "constant_schedule": optax.constant_schedule(0.3),
    "cosine_decay_schedule": optax.cosine_decay_schedule(0.3, 100),
    "cosine_onecycle_schedule": optax.cosine_onecycle_schedule(100, 0.3),
    "exponential_decay": optax.exponential_decay(0.3, 10, 0.5),
    "join_schedules": lambda count: 0.1 if count < 20 else 0.2,
    "linear_onecycle_schedule": optax.linear_onecycle_schedule(100, 0.3),
    "linear_schedule": lambda count: 0.3 * max(0.0, 1 - count / 50),
    "piecewise_constant_schedule": lambda count: (
        0.3 * (0.1 if count >= 50 else 1) * (0.5 if count >= 80 else 1)
    ),
    "piecewise_interpolate_schedule": optax.piecewise_interpolate_schedule("cosine", 0.3, {50: 0.1}),
    "polynomial_schedule": optax.polynomial_schedule(0.3, 0.1, 2, 80, 20),
    "sgdr_schedule": optax.sgdr_schedule(
        [{**_COSINE, "peak_value": 0.3, "decay_steps": 40}, {**_COSINE, "peak_value": 0.2, "decay_steps": 60}]
    ),
    "warmup_constant_schedule": lambda count: 0.3 * min(1.0, count / 10),
    "warmup_cosine_decay_schedule": optax.warmup_cosine_decay_schedule(0.0, 0.3, 20, 100),
    "warmup_exponential_decay_schedule": optax.warmup_exponential_decay_schedule(0.0, 0.3, 20, 10, 0.5),
}

NEITHER = {  # of optax, and neither a transformation nor a schedule
    *("apply_updates", "bias_correction", "global_norm", "incremental_update", "init_empty_state"),
    *("matrix_inverse_pth_root", "microbatch", "multi_normal", "nnls", "per_example_global_norm_clip"),
    *("per_example_layer_norm_clip", "periodic_update", "power_iteration", "safe_increment"),
    *("safe_int32_increment", "safe_norm", "safe_root_mean_squares", "scale_gradient"),
    *("schedule_free_eval_params", "skip_large_updates", "skip_not_finite", "tree_map_params"),
    *("update_infinity_moment", "update_moment", "update_moment_per_elem_norm", "value_and_grad_from_state"),
    "WrappedSchedule",
}


def text_of(name):
    """A YAML text that names the transformation, with no more than what it needs."""
    parameters = inspect.signature(transformations()[name]).parameters.values()
    if name in EXAMPLES:
        return EXAMPLES[name]
    needed = [p.name for p in parameters if p.default is p.empty]
    assert needed in ([], ["learning_rate"]), f"{name} is new: give it an example"
    return f"{name}: 0.1" if needed else name


def test_every_public_name_of_optax_is_built_or_refused_with_a_reason():
    known = set(transformations()) | set(schedules()) | set(REFUSED)
    for module in (optax, optax.contrib):
        for name, item in vars(module).items():
            function = isinstance(item, types.FunctionType | functools.partial)
            wrapper = inspect.isclass(item) and hasattr(item, "init") and hasattr(item, "update")
            if name.startswith("_") or name in vars(optax.losses) or not (function or wrapper):
                continue
            if wrapper and issubclass(item, optax.GradientTransformation):
                continue
            assert name in known | NEITHER, f"{name} of {module.__name__} is neither built nor refused"
    assert not NEITHER & known
    assert not set(REFUSED) & (set(transformations()) | set(schedules()))
    assert known <= set(vars(optax)) | set(vars(optax.contrib))


@pytest.mark.parametrize("name", sorted(transformations()))
def test_every_transformation_takes_two_steps_from_yaml(name, params):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*optimistic_adam.* is deprecated", DeprecationWarning)
        transformation = made(text_of(name), params).transformation

    @functools.partial(jax.jit, donate_argnums=(0, 1), compiler_options=FAST)
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = transformation.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return optax.apply_updates(params, updates), state

    now = jax.tree.map(jnp.copy, params)
    state = transformation.init(now)
    for _ in range(2):
        now, state = step(now, state)
    assert step._cache_size() == 1, "the state changed its types"
    assert all(isinstance(leaf, jax.Array) and np.asarray(leaf).dtype for leaf in jax.tree.leaves(state))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(now))
    moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (now, params)), strict=True)]
    assert any(moved) is (name != "set_to_zero")
    assert jax.tree.structure(evaluation_params(state, now)) == jax.tree.structure(params)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_a_config_cannot_drive_is_refused_with_a_reason(name, params):
    with pytest.raises(ConfigError) as caught:
        made(f"{name}: {{}}", params)
    assert caught.value.path == ("optimizer", name)
    assert REFUSED[name] in caught.value.message


@pytest.mark.cpu
@pytest.mark.parametrize("name", sorted(schedules()))
def test_every_schedule_has_the_values_of_optax_step_by_step(name, params):
    given = read(SCHEDULES[name])
    rate = build({"sgd": {"learning_rate": given}}, params, **RUN).learning_rate
    counts = (0, 1, 9, 10, 19, 20, 21, 39, 40, 49, 50, 79, 80, 99, 100, 120)
    got, wanted = [float(rate(c)) for c in counts], [float(DIRECT[name](c)) for c in counts]
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-9)


def test_a_schedule_drives_the_updates(params):
    text = "sgd: {learning_rate: {cosine_decay_schedule: {init_value: 0.5, decay_steps: 100%, alpha: 0.1}}}"
    optimizer = made(text, params, total_steps=5)
    grads = jax.tree.map(jnp.ones_like, params)
    state = optimizer.transformation.init(params)
    for count in range(7):
        updates, state = optimizer.transformation.update(grads, state, params)
        cosine = 0.5 * (1 + math.cos(math.pi * min(count, 5) / 5))
        wanted = 0.5 * (0.9 * cosine + 0.1)
        np.testing.assert_allclose(updates["dense1"]["bias"], -wanted, rtol=1e-5)
        np.testing.assert_allclose(optimizer.learning_rate(count), wanted, rtol=1e-5)


def test_no_argument_of_optax_that_may_count_steps_is_overlooked():
    looks = ("step", "interval", "period", "begin", "patience", "cooldown", "gap", "every", "boundaries")
    sizes = {"init_step", "max_step_size", "min_step_size", "slow_step_size", "step_size", "step_size_fn"}
    iterations = {"max_backtracking_steps", "max_linesearch_steps", "ns_steps", "stepsize_precision"}
    for name, constructor in (transformations() | schedules()).items():
        for argument in inspect.signature(constructor).parameters:
            known = STEPS | sizes | iterations | {"boundaries", "boundaries_and_scales"}
            assert argument in known or not any(word in argument for word in looks), f"{argument} of {name}"


# ---------------------------------------------------------------- values


def test_sgd_by_hand(params):
    optimizer = made("sgd: {learning_rate: 0.1, momentum: 0.9}", params)
    grads = jax.tree.map(jnp.ones_like, params)
    state = optimizer.transformation.init(params)
    for velocity in (1.0, 1.9, 2.71):
        updates, state = optimizer.transformation.update(grads, state, params)
        close(updates, jax.tree.map(lambda g, v=velocity: -0.1 * v * g, grads))
    assert optimizer.learning_rate(7) == 0.1


def test_adam_by_the_formula_of_its_paper(params):
    transformation = made("adam: 1e-2", params).transformation
    state, kernel = transformation.init(params), np.float64(params["dense1"]["kernel"])
    rng, m, v, now = np.random.default_rng(2), 0.0, 0.0, params
    for t in range(1, 5):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
        updates, state = transformation.update(grads, state, now)
        now = optax.apply_updates(now, updates)
        g = np.float64(grads["dense1"]["kernel"])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        kernel = kernel - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(now["dense1"]["kernel"], kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("adamw: {learning_rate: 0.1, weight_decay: 0.5}", ["dense1/kernel", "dense2/kernel"]),
        (
            "adamw: {learning_rate: 0.1, weight_decay: 0.5, mask: 'dense1/*'}",
            ["dense1/kernel", "dense1/bias"],
        ),
        ("adamw: {learning_rate: 0.1, weight_decay: 0.5, mask: false}", []),
        ("lion: {learning_rate: 0.1, weight_decay: 0.5}", ["dense1/kernel", "dense2/kernel"]),
        (
            "lars: {learning_rate: 0.1, weight_decay: 0.5, trust_ratio_mask: false}",
            ["dense1/kernel", "dense2/kernel"],
        ),
        ("[{add_decayed_weights: 0.5}, {sgd: 0.1}]", ["dense1/kernel", "dense2/kernel"]),
        ("sgd: 0.1", []),
        (
            "multi_transform: {'dense1/*': {adamw: {learning_rate: 0.1, weight_decay: 0.5}}, '*': {sgd: 1}}",
            ["dense1/kernel"],
        ),
        (
            "masked: {inner: {adamw: {learning_rate: 0.1, weight_decay: 0.5}}, mask: 'dense2/*'}",
            ["dense2/kernel"],
        ),
        (
            "multi_transform: {'*/kernel': {novograd: {learning_rate: .1, weight_decay: .5}}, '*': {sgd: 1}}",
            ["dense1/kernel", "dense2/kernel"],
        ),
        ("muon: {learning_rate: 0.1, weight_decay: 0.5}", ["dense1/kernel", "dense2/kernel"]),
        ("galore: {learning_rate: 0.1, rank: 2, weight_decay: 0.5}", ["dense1/kernel", "dense2/kernel"]),
    ],
)
def test_weight_decay_covers_kernels_unless_its_mask_says_otherwise(text, covered, params):
    transformation = made(text, params).transformation
    still = jax.tree.map(jnp.zeros_like, params)  # without a gradient nothing but the decay moves a parameter
    update = jax.jit(transformation.update, compiler_options=FAST)
    updates, _ = update(still, transformation.init(params), params)
    for layer in params:
        for leaf in params[layer]:
            wanted = -0.1 * 0.5 * params[layer][leaf] if f"{layer}/{leaf}" in covered else 0.0
            np.testing.assert_allclose(
                updates[layer][leaf], wanted + still[layer][leaf], rtol=1e-5, atol=1e-7
            )


def test_adamw_is_optax_with_that_mask(params):
    got, _ = run(made("adamw: {learning_rate: 0.01, weight_decay: 0.1}", params).transformation, params, 3)
    mask = {name: {"kernel": True, "bias": False} for name in params}
    close(got, run(optax.adamw(0.01, weight_decay=0.1, mask=mask), params, 3)[0])


def test_a_model_without_kernels_decays_nothing():
    params = {"scale": jnp.ones(3)}
    transformation = made("adamw: {learning_rate: 0.1, weight_decay: 0.5}", params).transformation
    updates, _ = transformation.update({"scale": jnp.zeros(3)}, transformation.init(params), params)
    np.testing.assert_array_equal(updates["scale"], 0.0)


def test_multi_transform_is_each_optimiser_on_its_part(params):
    text = "multi_transform: {'dense1/bias': set_to_zero, 'dense1/**': {sgd: 0.1}, '*': {adam: 0.01}}"
    optimizer = made(text, params)
    got, _ = run(optimizer.transformation, params, 1)
    grads = jax.grad(loss)(params)
    np.testing.assert_array_equal(got["dense1"]["bias"], params["dense1"]["bias"])
    np.testing.assert_allclose(
        got["dense1"]["kernel"], params["dense1"]["kernel"] - 0.1 * grads["dense1"]["kernel"], rtol=1e-6
    )
    for leaf in ("kernel", "bias"):  # Adam's first step is the sign of the gradient
        step = params["dense2"][leaf] - got["dense2"][leaf]
        np.testing.assert_allclose(step, 0.01 * np.sign(grads["dense2"][leaf]), rtol=1e-3)
    assert optimizer.learning_rate is None, "two rates are not one"


def test_accumulate_makes_one_update_of_the_mean_gradient(params):
    optimizer = made("adam: 0.1", params, accumulate=3, clip=0.5)
    grads = [jax.tree.map(lambda p, f=f: f * jnp.ones_like(p), params) for f in (1.0, -4.0, 9.0)]
    update = jax.jit(optimizer.transformation.update, compiler_options=FAST)
    state = optimizer.transformation.init(params)
    for i, grad in enumerate(grads):
        updates, state = update(grad, state, params, value=jnp.float32(1))
        if i < 2:
            close(updates, jax.tree.map(jnp.zeros_like, params))
    direct = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    wanted, _ = direct.update(jax.tree.map(lambda p: jnp.full(p.shape, 2.0), params), direct.init(params))
    close(updates, wanted, rtol=1e-5)


def test_steps_are_counted_in_updates(params):
    text = "sgd: {learning_rate: {linear_schedule: {init_value: 1, end_value: 0, transition_steps: %s}}}"
    for share, zero_at in (("100%", 25), ("2.5 epochs", 12), ("20%", 5), ("7", 7), ("0.1%", 1), ("1e1", 10)):
        rate = made(text % share, params, accumulate=4).learning_rate
        assert float(rate(zero_at)) == 0.0, share
        assert float(rate(zero_at - 1)) > 0.0, share


def test_accumulate_averages_the_loss_for_those_that_ask(params):
    transformation = made("polyak_sgd: {max_learning_rate: .inf}", params, accumulate=2).transformation
    grads = jax.tree.map(jnp.ones_like, params)
    update, state = jax.jit(transformation.update), transformation.init(params)
    for value in (1.0, 4.0, 5.0, 6.0):
        updates, state = update(grads, state, params, value=jnp.float32(value))
    squared_norm = sum(leaf.size for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(updates["dense1"]["bias"], -5.5 / squared_norm, rtol=1e-6)


def test_clip_stands_before_everything(params):
    transformation = made("sgd: 0.1", params, clip=1.0).transformation
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = transformation.update(grads, transformation.init(params), params)
    norm = math.sqrt(sum(leaf.size for leaf in jax.tree.leaves(params)))
    np.testing.assert_allclose(updates["dense2"]["bias"], -0.1 / norm, rtol=1e-6)


@pytest.mark.parametrize("text", ["sgd: {learning_rate: 0.1, momentum: 0.9}", "adamw: 0.1"])
def test_factors_multiply_the_updates_of_an_optimiser(text, params):
    """As PyTorch's groups of parameters do by their learning rates: the weight decay of adamw, too."""
    factors = {"dense1": {"kernel": 0.1, "bias": 2.0}, "dense2": {"kernel": 1.0, "bias": 0.5}}
    both = [made(text, params, factors=f, accumulate=2, clip=0.5).transformation for f in (None, factors)]
    updates = [jax.jit(each.update) for each in both]
    grads, states = jax.grad(loss)(params), [each.init(params) for each in both]
    for _ in range(4):
        done = [update(grads, state, params) for update, state in zip(updates, states, strict=True)]
        (one, other), states = zip(*done, strict=True)
        close(other, jax.tree.map(operator.mul, one, factors))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(other))


@pytest.mark.parametrize("name", ["lookahead", "sam", "schedule_free"])
def test_factors_do_not_reach_the_parameters_that_an_optimiser_keeps(name, params):
    with pytest.raises(ConfigError, match="optimizer: keeps parameters of its own, which train"):
        made(EXAMPLES[name], params, factors=jax.tree.map(lambda _: 1.0, params))


@pytest.mark.parametrize("reset", ["true", "false"])
def test_lookahead_on_plain_parameters_is_optax_on_its_pairs(reset, params):
    text = "lookahead: {fast_optimizer: {adam: 0.1}, sync_period: 2, slow_step_size: 0.4, reset_state: %s}"
    got, state = run(made(text % reset, params).transformation, params, 5)
    direct = optax.lookahead(optax.adam(0.1), 2, 0.4, reset == "true")
    update, pair = jax.jit(direct.update), optax.LookaheadParams.init_synced(params)
    reference = direct.init(pair)
    for _ in range(5):
        updates, reference = update(jax.grad(loss)(pair.fast), reference, pair)
        pair = optax.apply_updates(pair, updates)
    close(got, pair.fast)
    close(evaluation_params(state, got), pair.slow)


def test_schedule_free_is_evaluated_at_its_average():
    """The recursion of Defazio et al. 2024 on f(y) = y² / 2, by hand."""
    params = {"kernel": jnp.array([2.0])}
    config = "schedule_free: {base_optimizer: {sgd: 0.5}, learning_rate: 0.5, b1: 0.8}"
    transformation = made(config, params).transformation
    got, state = run(transformation, params, 3, loss=lambda p: jnp.sum(p["kernel"] ** 2) / 2)
    z = x = y = 2.0
    for t in range(1, 4):
        z -= 0.5 * y
        x += (z - x) / t
        y = 0.8 * x + 0.2 * z
    np.testing.assert_allclose(got["kernel"], y, rtol=1e-6)
    np.testing.assert_allclose(evaluation_params(state, got)["kernel"], x, rtol=1e-6)


def test_evaluation_params_of_a_part(params):
    text = "multi_transform: {'dense1/*': {schedule_free_sgd: 0.1}, '*': {sgd: 0.1}}"
    got, state = run(made(text, params, accumulate=2).transformation, params, 6)
    shown = evaluation_params(state, got)
    close(shown["dense2"], got["dense2"])
    inner = state.steps.inner_opt_state.inner_states["0"].inner_state
    wanted = jax.tree.map(lambda y, z: (y - 0.1 * z) / 0.9, got["dense1"], inner.z["dense1"])
    close(shown["dense1"], wanted, rtol=1e-5)
    assert not np.allclose(shown["dense1"]["kernel"], got["dense1"]["kernel"], rtol=1e-4)


def test_evaluation_params_are_the_params_elsewhere(params):
    got, state = run(made("adam: 0.1", params).transformation, params, 2)
    assert evaluation_params(state, got) is got


def test_sam_climbs_then_steps_from_where_it_stood(params):
    sam = "sam: {optimizer: {sgd: 0.1}, adv_optimizer: [normalize, {sgd: 0.05}], opaque_mode: %s}"
    grads = jax.grad(loss)(params)
    climbed = jax.tree.map(lambda p, g: p + 0.05 * g / optax.tree.norm(grads), params, grads)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(climbed))
    between, state = run(made(sam % "false", params).transformation, params, 1)
    close(between, climbed, rtol=1e-5)
    close(evaluation_params(state, between), params)
    after, state = run(made(sam % "false", params).transformation, params, 2)
    close(after, wanted, rtol=1e-5)
    close(evaluation_params(state, after), after)
    close(run(made(sam % "true", params).transformation, params, 1)[0], wanted, rtol=1e-5)


def test_sam_around_an_optimiser_that_draws_at_random(params):
    text = "sam: {optimizer: {noisy_sgd: {learning_rate: 0.1, key: 5}}, adv_optimizer: {sgd: 0.05}}"
    got, _ = run(made(text, params).transformation, params, 4)
    direct = optax.noisy_sgd(0.1, key=5)
    wanted, state = params, direct.init(params)
    for _ in range(2):
        climbed = jax.tree.map(lambda p, g: p + 0.05 * g, wanted, jax.grad(loss)(wanted))
        updates, state = direct.update(jax.grad(loss)(climbed), state)
        wanted = optax.apply_updates(wanted, updates)
    close(got, wanted, rtol=1e-5)


def test_what_sam_wraps_counts_its_own_updates(params):
    inner = "{learning_rate: {linear_schedule: {init_value: 1, end_value: 0, transition_steps: 100%}}}"
    rate = made(f"sam: {{optimizer: {{sgd: {inner}}}, adv_optimizer: {{sgd: 0.1}}}}", params).learning_rate
    np.testing.assert_allclose([rate(0), rate(50), rate(100)], [1.0, 0.5, 0.0], atol=1e-6)


def test_patience_in_epochs_counts_accumulated_values(params):
    text = "[{reduce_on_plateau: {patience: 1 epoch, accumulation_size: 5, factor: 0.5}}, {sgd: 1.0}]"
    transformation = made(text, params, steps_per_epoch=10).transformation
    update = jax.jit(transformation.update)
    grads, state = jax.tree.map(jnp.ones_like, params), transformation.init(params)
    scales = []
    for _ in range(16):  # 5 values set the best one, then 10 steps without improvement are an epoch
        updates, state = update(grads, state, params, value=jnp.float32(1))
        scales.append(float(-updates["dense1"]["bias"][0]))
    assert scales == [1.0] * 14 + [0.5] * 2


@pytest.mark.parametrize(
    ("text", "direct"),
    [
        ("lbfgs: {memory_size: 3, linesearch: {scale_by_zoom_linesearch: {max_linesearch_steps: 5}}}",
         optax.lbfgs(memory_size=3, linesearch=optax.scale_by_zoom_linesearch(5))),
        ("polyak_sgd: {max_learning_rate: 0.3, variant: sps+}", optax.polyak_sgd(0.3, variant="sps+")),
        ("momo: 0.5", optax.contrib.momo(0.5)),
        ("momo_adam: {learning_rate: 0.05, adapt_lower_bound: true}",
         optax.contrib.momo_adam(0.05, adapt_lower_bound=True)),
        ("add_noise: {eta: 0.01, gamma: 0.55, key: 3}", optax.add_noise(0.01, 0.55, 3)),
        ("add_noise: {eta: 0.01, gamma: 0.55, seed: 3}", optax.add_noise(0.01, 0.55, 3)),
        ("flatten: {inner: {adam: 0.1}}", optax.adam(0.1)),
        ("mechanize: {base_optimizer: {sgd: 1.0}}", optax.contrib.mechanize(optax.sgd(1.0))),
        ("prodigy: {betas: [0.8, 0.99]}", optax.contrib.prodigy(betas=(0.8, 0.99))),
        ("dog: {init_step: [distance, 0.1]}", optax.contrib.dog(init_step=("distance", 0.1))),
        ("adam: {learning_rate: 0.1, mu_dtype: bfloat16}", optax.adam(0.1, mu_dtype=jnp.bfloat16)),
        ("adopt: {learning_rate: 0.1, clip_value_fn: {constant_schedule: 0.2}}",
         optax.contrib.adopt(0.1, clip_value_fn=lambda _: 0.2)),
        ("masked: {inner: {scale: 0.5}, mask: '*/bias'}",
         optax.masked(optax.scale(0.5), {n: {"kernel": False, "bias": True} for n in ("dense1", "dense2")})),
    ],
)  # fmt: skip
def test_a_text_is_what_optax_builds_from_the_same_arguments(text, direct, params):
    got, state = run(made(text, params).transformation, params, 3)
    close(got, run(direct, params, 3)[0], rtol=1e-4, atol=1e-6)
    assert all(np.asarray(leaf).dtype for leaf in jax.tree.leaves(state)), "plain arrays, keys too"


def test_sophia_is_given_the_loss_as_its_objective(params):
    got, _ = run(made("sophia: {learning_rate: 0.1, update_interval: 1}", params).transformation, params, 3)
    mask = {name: {"kernel": True, "bias": False} for name in params}
    direct = optax.contrib.sophia(0.1, update_interval=1, weight_decay_mask=mask)
    close(got, run(direct, params, 3, obj_fn=loss)[0], rtol=1e-5)


def test_extra_arguments_reach_what_a_wrapper_of_optax_forgets(params):
    text = "lookahead: {fast_optimizer: {polyak_sgd: 0.3}, sync_period: 9, slow_step_size: 0.5}"
    got, _ = run(made(text, params).transformation, params, 3)
    close(got, run(optax.polyak_sgd(0.3), params, 3)[0], rtol=1e-5)


def test_muon_takes_the_axes_of_a_convolution_by_pattern():
    rng = np.random.default_rng(3)
    params = {
        "conv1": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32), "bias": jnp.ones(4)}
    }
    text = """
        muon:
          learning_rate: 0.1
          muon_weight_dimension_numbers: {'*/kernel': {reduction_axis: [0, 1, 2], output_axis: 3}}
        """

    def bowl(p):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))

    got, _ = run(made(text, params).transformation, params, 2, loss=bowl)
    numbers = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
    direct = optax.contrib.muon(
        0.1, muon_weight_dimension_numbers={"conv1": {"kernel": numbers, "bias": None}}
    )
    close(got, run(direct, params, 2, loss=bowl)[0], rtol=1e-5)
    step = np.asarray(params["conv1"]["kernel"] - got["conv1"]["kernel"]).reshape(18, 4)
    assert np.linalg.cond(step) < 4, "the columns of an orthogonalised step are of like length"


@pytest.mark.parametrize(
    ("text", "at_ten"),
    [
        ("[{clip: 1.0}, {sgd: 0.2}]", 0.2),
        ("dog", 1.0),
        ("scale_by_adam", None),
        ("lbfgs", None),
        ("sam: {optimizer: {sgd: 0.2}, adv_optimizer: {sgd: 0.7}}", 0.2),
        ("multi_transform: {'*/bias': set_to_zero, '*': {sgd: 0.2}}", 0.2),
        ("named_chain: [[a, {sgd: 0.2}], [b, {clip: 1.0}]]", 0.2),
        ("schedule_free_sgd: {learning_rate: 0.2, warmup_steps: 20}", 0.1),
    ],
)
def test_the_learning_rate_is_known_where_there_is_one(text, at_ten, params):
    rate = made(text, params).learning_rate
    assert (rate and float(rate(10))) == (at_ten and pytest.approx(at_ten))


@pytest.mark.parametrize("name", ["mechanize", "dog", "sam", "lookahead", "schedule_free", "scale_by_lbfgs"])
def test_no_array_of_a_state_is_a_parameter(name, params):
    state = made(text_of(name), params).transformation.init(params)
    theirs = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)}
    ours = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    assert not theirs & set(ours)


@pytest.mark.parametrize(
    "text", ["adam: 0.1", "add_noise: {eta: 0.1, gamma: 0.5}", "reduce_on_plateau", EXAMPLES["sam"]]
)
def test_a_state_can_be_carried_through_a_scan(text, params):
    transformation = made(text, params, accumulate=2).transformation

    def step(carry, _):
        now, state = carry
        value, grads = jax.value_and_grad(loss)(now)
        updates, state = transformation.update(grads, state, now, value=value, grad=grads, value_fn=loss)
        return (optax.apply_updates(now, updates), state), value

    (now, _), _ = jax.lax.scan(step, (params, transformation.init(params)), length=4)
    close(now, run(transformation, params, 4)[0], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- errors

MISTAKES = [
    ("admw: 0.1", "admw", "unknown optimizer 'admw'; nearest: adamw"),
    ("adamm", "", "unknown optimizer 'adamm'; nearest: adam"),
    ("{adam: 0.1, sgd: 0.2}", "", "expected one name with its arguments, got 2"),
    ("3", "", "expected a name or one {name: arguments}, got 3"),
    ("adam", "", "adam needs 'learning_rate'"),
    ("adam: {learning_rate: 0.1, bi: 0.9}", "adam.bi", "unknown argument of adam; nearest: b"),
    ("adam: {learning_rate: fast}", "adam.learning_rate", "unknown schedule 'fast'"),
    ("adam: {learning_rate: true}", "adam.learning_rate", "expected a number or a schedule, got true"),
    ("adam: {learning_rate: null}", "adam.learning_rate", "expected a number or a schedule, got null"),
    ("adam: {learning_rate: 0.1, b1: '0.9'}", "adam.b1", "expected a valid number, got '0.9'"),
    ("adam: {learning_rate: 0.1, b1: true}", "adam.b1", "expected a valid number, got true"),
    ("adam: {learning_rate: .nan}", "adam.learning_rate", "got NaN"),
    ("adam: {learning_rate: 0.1, b1: 10%}", "adam.b1", "expected a valid number, got '10%'"),
    ("adam: {learning_rate: 0.1, nesterov: 1}", "adam.nesterov", "expected a valid boolean, got 1"),
    ("adam: {learning_rate: 0.1, mu_dtype: float16}", "adam.mu_dtype", "expected 'float32' or 'bfloat16'"),
    ("add_noise: {eta: 0.1, gamma: 0.5, seed: -1}", "add_noise.seed", "expected a seed of 0 or more"),
    ("add_noise: {eta: 0.1, gamma: 0.5, key: 1.5}", "add_noise.key", "expected a valid integer"),
    ("muon: {learning_rate: 0.1, ns_steps: 2.5}", "muon.ns_steps", "expected a valid integer"),
    ("scale_by_muon", "", "scale_by_muon: needs weight_dimension_numbers: {pattern: {reduction_axis, output"),
    ("prodigy: {betas: [0.9]}", "prodigy.betas", "got [0.9]"),
    ("dog: {init_step: [far, 1.0]}", "dog.init_step", "'distance', 'learning_rate' or 'heuristic'"),
    ("muon: {learning_rate: 0.1, preconditioning: none}", "muon.preconditioning", "'frobenius'"),
    ("polyak_sgd: {variant: foo}", "polyak_sgd", "variant='foo'"),
    ("scale_by_factored_rms: {decay_rate_fn: pow}", "scale_by_factored_rms.decay_rate_fn", "Python function"),
    ("lookahead: {fast_optimizer: {sgd: 0.1}, sync_period: 0, slow_step_size: 0.5}",
     "lookahead", "must be >= 1"),
    ("lookahead: {fast_optimizer: {sgd: 0.1}, sync_period: 2147483648, slow_step_size: 0.5}",
     "lookahead", "lookahead: expected whole numbers below 2**31"),
    ("optimistic_gradient_descent: {learning_rate: 0.1, alpha: {constant_schedule: 1}}",
     "optimistic_gradient_descent", "expected numbers: one of its arguments is a schedule"),
    ("lookahead: {fast_optimizer: {sdg: 0.1}, sync_period: 2, slow_step_size: 0.5}",
     "lookahead.fast_optimizer.sdg", "unknown optimizer 'sdg'; nearest: sgd"),
    ("lookahead: {fast_optimizer: {sgd: 0.1}, sync_period: soon, slow_step_size: 0.5}",
     "lookahead.sync_period", "expected a number of steps, '5 epochs' or '10%' of the run, got 'soon'"),
    ("sam: {optimizer: {sgd: 0.1}, adv_optimizer: {sgd: 0.1}, sync_period: -2}",
     "sam.sync_period", "expected a number of steps"),
    ("[{clip: 1.0}, {sdg: 0.1}]", "1.sdg", "unknown optimizer 'sdg'"),
    ("[]", "", "expected a list of transformations, got []"),
    ("chain", "", "expected a list of transformations, got null"),
    ("chain: {clip: 1.0}", "chain", "expected a list of transformations"),
    ("cosine_decay_schedule: 1", "cosine_decay_schedule", "is a schedule: it is for an argument"),
    ("add_noise: {eta: 0.1, gamma: 0.5, key: 1, seed: 1}", "add_noise", "give key alone"),
    ("chain: [{clip: 1.0}, {sgd: {learning_rate: 0.1, momentun: 0.9}}]",
     "chain.1.sgd.momentun", "unknown argument of sgd; nearest: momentum"),
    ("scale_by_galore: {update_proj_gap: 1, base_optimizer: {scale_by_lbfgs: {}}}", "scale_by_galore",
     "scale_by_galore: what it is made of does not fit together"),
    ("named_chain: [{sgd: 0.1}]", "named_chain.0", "expected [name, transformation]"),
    ("named_chain: [[a, {sgdd: 0.1}]]", "named_chain.0.1.sgdd", "unknown optimizer"),
    ("sgd: {learning_rate: {cosine_decay: {init_value: 1}}}",
     "sgd.learning_rate.cosine_decay", "unknown schedule 'cosine_decay'; nearest: cosine_decay_schedule"),
    ("sgd: {learning_rate: {cosine_decay_schedule: {init_value: 1, decay_stepz: 1}}}",
     "sgd.learning_rate.cosine_decay_schedule.decay_stepz", "nearest: decay_steps"),
    ("sgd: {learning_rate: {cosine_decay_schedule: {init_value: 1}}}",
     "sgd.learning_rate.cosine_decay_schedule", "needs 'decay_steps'"),
    ("sgd: {learning_rate: {cosine_decay_schedule: {init_value: 1, decay_steps: 10 weeks}}}",
     "sgd.learning_rate.cosine_decay_schedule.decay_steps", "got '10 weeks'"),
    ("sgd: {learning_rate: {cosine_decay_schedule: {init_value: 1, decay_steps: 2.5}}}",
     "sgd.learning_rate.cosine_decay_schedule.decay_steps", "got 2.5"),
    ("sgd: {learning_rate: {cosine_decay_schedule: {init_value: 10%, decay_steps: 10}}}",
     "sgd.learning_rate.cosine_decay_schedule.init_value", "expected a valid number"),
    ("sgd: {learning_rate: {join_schedules: {schedules: [0.1, 0.2], boundaries: []}}}",
     "sgd.learning_rate.join_schedules.boundaries", "expected a list"),
    ("sgd: {learning_rate: {join_schedules: {schedules: [0.1, 0.2, 0.3], boundaries: [1 epoch]}}}",
     "sgd.learning_rate.join_schedules", "3 schedules need 2 boundaries, got 1"),
    ("sgd: {learning_rate: {join_schedules: {schedules: [1, 2, 3], boundaries: [50%, 10]}}}",
     "sgd.learning_rate.join_schedules", "boundaries must increase, got 50, 10"),
    ("sgd: {learning_rate: {join_schedules: {schedules: [0.1, {linear: 1}], boundaries: [5]}}}",
     "sgd.learning_rate.join_schedules.schedules.1.linear", "unknown schedule"),
    ("sgd: {learning_rate: {sgdr_schedule: {cosine_kwargs: [{peak_value: 1, decay_steps: 9}]}}}",
     "sgd.learning_rate.sgdr_schedule.cosine_kwargs.0", "needs 'init_value'"),
    ("sgd: {learning_rate: {sgdr_schedule: {cosine_kwargs: [0.1]}}}",
     "sgd.learning_rate.sgdr_schedule.cosine_kwargs.0", "expected the arguments of a cosine cycle"),
    ("sgd: {learning_rate: {piecewise_constant_schedule: {init_value: 1, boundaries_and_scales: {late: 1}}}}",
     "sgd.learning_rate.piecewise_constant_schedule.boundaries_and_scales.late", "got 'late'"),
    ("sgd: {learning_rate: {piecewise_constant_schedule: {boundaries_and_scales: {50: 1, 50%: 2}}}}",
     "sgd.learning_rate.piecewise_constant_schedule.boundaries_and_scales.50%", "two scales at step 50"),
    ("adamw: {learning_rate: 0.1, mask: '*/kernels'}", "adamw.mask", "no parameter; nearest: dense2/kernel"),
    ("adamw: {learning_rate: 0.1, mask: 3}",
     "adamw.mask", "expected a pattern such as '*/kernel', true or false"),
    ("novograd: {learning_rate: 0.1, weight_decay: 0.1}", "novograd.weight_decay", "add_decayed_weights"),
    ("schedule_free_adamw: {weight_decay: 0.1}", "schedule_free_adamw.weight_decay", "has no mask for it"),
    ("muon: {learning_rate: 0.1, adam_weight_decay: 0.1}", "muon.adam_weight_decay", "has no mask for it"),
    ("flatten: {inner: {adamw: 0.1}}", "flatten.inner.adamw", "sees no names under flatten"),
    ("flatten: {inner: {masked: {inner: {sgd: 0.1}, mask: '*'}}}", "flatten.inner.masked.mask", "one vector"),
    ("flatten: {inner: lbfgs}", "flatten.inner", "must see all parameters"),
    ("flatten: {inner: schedule_free_sgd}", "flatten.inner", "flatten has no names"),
    ("galore: {learning_rate: 0.1, base_optimizer: {adamw: 0.1}}", "galore", "params"),
    ("multi_transform: {'dense3/*': {sgd: 0.1}, '*': {adam: 0.1}}",
     "multi_transform.dense3/*", "matches no parameter; nearest: dense"),
    ("multi_transform: {'dense1/*': {sgd: 0.1}, '*/kernel': {adam: 0.1}}",
     "multi_transform", "no pattern covers dense2/bias; expected a last pattern '*'"),
    ("multi_transform: {'*': {sgd: 0.1}, '*/kernel': {adam: 0.1}}",
     "multi_transform.*/kernel", "taken by an earlier pattern"),
    ("multi_transform: {'dense1/*': lbfgs, '*': {adam: 0.1}}", "multi_transform.dense1/*", "lbfgs"),
    ("multi_transform: {'dense1/*': {adamw: {learning_rate: 0.1, mask: 'dense2/*'}}, '*': {sgd: 0.1}}",
     "multi_transform.dense1/*.adamw.mask", "matches no parameter"),
    ("multi_transform: 3", "multi_transform", "expected {pattern: optimizer, ...}, got 3"),
    ("muon: {learning_rate: 0.1, muon_weight_dimension_numbers: {'*/kern': {output_axis: 1}}}",
     "muon.muon_weight_dimension_numbers.*/kern", "matches no parameter"),
    ("muon: {learning_rate: 0.1, muon_weight_dimension_numbers: {'*/kernel': {output_axis: last}}}",
     "muon.muon_weight_dimension_numbers.*/kernel.output_axis", "got 'last'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "says"), MISTAKES)
def test_a_mistake_gives_its_path_and_one_clear_line(text, path, says, params):
    with pytest.raises(ConfigError) as caught:
        made(text, params)
    assert ".".join(map(str, caught.value.path)) == ("optimizer." + path).rstrip(".")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "text", ["lbfgs", "sophia: 0.1", EXAMPLES["sam"].replace("}]", "}], opaque_mode: true", 1)]
)
def test_what_looks_at_the_loss_again_cannot_accumulate(text, params):
    made(text, params)
    with pytest.raises(ConfigError, match="expected accumulate: 1"):
        made(text, params, accumulate=2)


def test_errors_stand_at_the_given_path(params):
    with pytest.raises(ConfigError) as caught:
        build({"adamm": 0.1}, params, path=("models", 1, "optimizer"), **RUN)
    assert caught.value.path == ("models", 1, "optimizer", "adamm")
