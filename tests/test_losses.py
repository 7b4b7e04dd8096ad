"""Losses against NumPy, scikit-learn, PyTorch and the formulas of their derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import sklearn.metrics

from fnn import losses
from fnn.registry import registry

REGRESSION = ("squared_error", "absolute_error", "charbonnier", "huber")
NAMES = (*REGRESSION, "hinge", "squared_hinge", "cross_entropy", "sigmoid_cross_entropy")
LOSSES = {name: registry["loss"][name] for name in NAMES}


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def labels(n: int, classes: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, n)


def signs(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], shape).astype(np.float32)


def targets_for(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name in REGRESSION:
        return normal(*shape, seed=3)
    if name == "cross_entropy":
        return np.asarray(scipy.special.softmax(normal(*shape, seed=3), axis=1))
    return signs(*shape) if "hinge" in name else (signs(*shape) > 0).astype(np.float32)


def test_registered_by_name() -> None:
    assert {n for n, loss in registry["loss"].items() if loss.__module__ == "fnn.losses"} == set(NAMES)


# Values


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3), (7, 4, 4, 2)])
def test_regression_losses_are_row_means(shape: tuple[int, ...]) -> None:
    p, t = 3 * normal(*shape), normal(*shape, seed=1)
    e = (p - t).astype(np.float64).reshape(7, -1)
    np.testing.assert_allclose(losses.squared_error(p, t), (e**2).mean(1), rtol=1e-5)
    np.testing.assert_allclose(losses.absolute_error(p, t), abs(e).mean(1), rtol=1e-5)
    for epsilon in (1e-3, 0.5):
        wanted = np.hypot(e, epsilon).mean(1)
        np.testing.assert_allclose(losses.charbonnier(p, t, epsilon=epsilon), wanted, rtol=1e-5)
    np.testing.assert_allclose(losses.huber(p, t), scipy.special.huber(1, e).mean(1), rtol=1e-5)
    np.testing.assert_allclose(losses.huber(p, t, delta=2.5), scipy.special.huber(2.5, e).mean(1), rtol=1e-5)
    mse = sklearn.metrics.mean_squared_error(t.reshape(7, -1), p.reshape(7, -1))
    np.testing.assert_allclose(losses.squared_error(p, t).mean(), mse, rtol=1e-5)


@pytest.mark.parametrize("name", [*REGRESSION, "hinge", "sigmoid_cross_entropy"])
def test_a_column_of_outputs_takes_a_vector_of_targets(name: str) -> None:
    p, t = normal(6, 1), targets_for(name, (6,))
    np.testing.assert_array_equal(LOSSES[name](p, t), LOSSES[name](p[:, 0], t))


def test_binary_hinge_equals_scikit_learn() -> None:
    p, y = 2 * normal(50), signs(50)
    np.testing.assert_allclose(losses.hinge(p, y).mean(), sklearn.metrics.hinge_loss(y, p), rtol=1e-6)
    np.testing.assert_allclose(losses.squared_hinge(p, y), np.maximum(0, 1 - y * p) ** 2, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.float32, bool])
def test_binary_hinge_takes_zero_and_one_for_signs(dtype: Any) -> None:
    p, y = normal(20), signs(20)
    np.testing.assert_array_equal(losses.hinge(p, (y > 0).astype(dtype)), losses.hinge(p, y))


def test_hinge_keeps_a_missing_target_visible() -> None:
    np.testing.assert_array_equal(losses.hinge(np.float32([2, 2]), np.float32([np.nan, -1])), [np.nan, 3])


def test_multiclass_hinge_is_the_sum_of_one_vs_rest() -> None:
    p, t = 2 * normal(40, 5), labels(40, 5)
    rest = [sklearn.metrics.hinge_loss(np.where(t == k, 1, -1), p[:, k]) for k in range(5)]
    np.testing.assert_allclose(losses.hinge(p, t).mean(), sum(rest), rtol=1e-6)
    one_hot = np.eye(5, dtype=np.float32)[t]
    np.testing.assert_array_equal(losses.hinge(p, t), losses.hinge(p, one_hot))
    np.testing.assert_array_equal(losses.squared_hinge(p, t), losses.squared_hinge(p, 2 * one_hot - 1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_equals_its_definition(smoothing: float) -> None:
    z, t = 3 * normal(30, 6, dtype=np.float64), labels(30, 6)
    q = (1 - smoothing) * np.eye(6)[t] + smoothing / 6
    expected = -(q * scipy.special.log_softmax(z, axis=1)).sum(1)
    got = losses.cross_entropy(z.astype(np.float32), t, label_smoothing=smoothing)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    got = losses.cross_entropy(z.astype(np.float32), np.eye(6)[t], label_smoothing=smoothing)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_cross_entropy_equals_scikit_learns_log_loss() -> None:
    z, t = normal(30, 4), labels(30, 4)
    expected = sklearn.metrics.log_loss(
        t, scipy.special.softmax(z.astype(np.float64), axis=1), labels=range(4)
    )
    np.testing.assert_allclose(losses.cross_entropy(z, t).mean(), expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_cross_entropy_equals_its_definition(smoothing: float) -> None:
    z, t = 3 * normal(30, 4), (signs(30, 4) > 0).astype(np.int32)
    q, p = (1 - smoothing) * t + smoothing / 2, scipy.special.expit(z.astype(np.float64))
    expected = -(scipy.special.xlogy(q, p) + scipy.special.xlog1py(1 - q, -p)).mean(1)
    np.testing.assert_allclose(
        losses.sigmoid_cross_entropy(z, t, label_smoothing=smoothing), expected, rtol=2e-5
    )


def test_cross_entropies_are_stable_for_large_logits() -> None:
    z = np.float32([[1e4, -1e4]])
    np.testing.assert_array_equal(losses.cross_entropy(z, np.array([0])), [0])
    np.testing.assert_array_equal(losses.cross_entropy(z, np.array([1])), [2e4])
    np.testing.assert_array_equal(losses.sigmoid_cross_entropy(z, np.array([[1, 0]])), [0])
    np.testing.assert_array_equal(losses.sigmoid_cross_entropy(z, np.array([[0, 1]])), [1e4])


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_label_that_names_no_class_shows(label: int, smoothing: float) -> None:
    z, t = normal(2, 3), np.array([label, 1])
    entropies = losses.cross_entropy(z, t, label_smoothing=smoothing)
    np.testing.assert_array_equal(np.isnan(entropies), [True, False])
    np.testing.assert_array_equal(np.isnan(losses.hinge(z, t)), [True, False])


def test_narrow_labels_do_not_wrap_with_many_classes() -> None:
    z, t = normal(3, 300), np.uint8([0, 44, 255])
    np.testing.assert_array_equal(losses.cross_entropy(z, t), losses.cross_entropy(z, t.astype(np.int32)))
    np.testing.assert_array_equal(losses.hinge(z, t), losses.hinge(z, t.astype(np.int32)))


# Dtypes and transformations


@pytest.mark.parametrize("name", NAMES)
def test_sums_are_taken_in_float32_for_bfloat16_outputs(name: str) -> None:
    p = jnp.asarray(normal(4, 1000)).astype(jnp.bfloat16)
    t = targets_for(name, (4, 1000))
    got = LOSSES[name](p, t)
    assert got.shape == (4,)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, LOSSES[name](np.asarray(p, np.float32), t), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_jit_and_vmap_equal_the_plain_call(name: str) -> None:
    p, t = normal(5, 6, 3), np.stack([targets_for(name, (6, 3)) for _ in range(5)])
    plain = np.stack([LOSSES[name](a, b) for a, b in zip(p, t, strict=True)])
    np.testing.assert_allclose(jax.vmap(LOSSES[name])(p, t), plain, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(LOSSES[name])(p[0], t[0]), plain[0], rtol=1e-6)


# Derivatives


def problem(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Rows X, targets t, weights w and offset b of p = wᵀx - b, in float64."""
    rng = np.random.default_rng(5)
    X, w, b = rng.normal(size=(12, 3)), rng.normal(size=3), 0.3
    t = rng.normal(size=12) if kind == "squared_error" else rng.choice([-1.0, 1.0], 12)
    return X, (t > 0).astype(float) if kind == "sigmoid_cross_entropy" else t, w, b


def hand_derivatives(kind: str, X: Any, t: Any, w: Any, b: float, strength: float) -> tuple[Any, float]:
    """The formulas: dJ/dp of each example, then dJ/dw = mean(dJ/dp x) + λw and dJ/db = -mean(dJ/dp)."""
    p = X @ w - b
    slope = {
        "squared_error": lambda: 2 * (p - t),
        "hinge": lambda: np.where(t * p < 1, -t, 0.0),
        "sigmoid_cross_entropy": lambda: 1 / (1 + np.exp(-p)) - t,
    }[kind]()
    return (slope[:, None] * X).mean(0) + strength * w, -slope.mean()


@pytest.mark.parametrize("kind", ["squared_error", "hinge", "sigmoid_cross_entropy"])
def test_derivatives_of_a_linear_model_equal_their_formulas(kind: str) -> None:
    X, t, w, b = problem(kind)
    strength = 0.7

    def objective(params: dict[str, Any]) -> jax.Array:
        p = X @ params["kernel"] - params["bias"]
        return losses.reduce(LOSSES[kind](p, t)) + losses.l2_penalty(params, strength)

    with jax.enable_x64(True):
        params = {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
        got = jax.grad(objective)(params)
        step = 1e-6
        for name, direction in [("kernel", np.eye(3)[i]) for i in range(3)] + [("bias", np.float64(1))]:
            up = objective(params | {name: params[name] + step * direction})
            down = objective(params | {name: params[name] - step * direction})
            along = np.sum(np.asarray(got[name]) * direction)
            np.testing.assert_allclose((up - down) / (2 * step), along, rtol=1e-7, atol=1e-9)
    kernel, bias = hand_derivatives(kind, X, t, w, b, strength)
    np.testing.assert_allclose(got["kernel"], kernel, rtol=1e-12)
    np.testing.assert_allclose(got["bias"], bias, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_derivative_of_cross_entropy_is_softmax_minus_target(smoothing: float) -> None:
    z, t = normal(8, 5), labels(8, 5)
    got = jax.grad(lambda z: losses.cross_entropy(z, t, label_smoothing=smoothing).sum())(z)
    q = (1 - smoothing) * np.eye(5)[t] + smoothing / 5
    np.testing.assert_allclose(got, scipy.special.softmax(z, axis=1) - q, atol=1e-6)


def test_derivative_of_hinge_at_the_kink_is_zero() -> None:
    p, y = np.float32([1, -1, 0.5, 2]), np.float32([1, -1, 1, 1])
    np.testing.assert_array_equal(jax.grad(lambda p: losses.hinge(p, y).sum())(p), [0, 0, -1, 0])
    # What optax's function of that name gives, and why it is not used here.
    np.testing.assert_array_equal(jax.grad(lambda p: optax.hinge_loss(p, y).sum())(p), [-0.5, 0.5, -1, 0])
    rows, t = np.float32([[1, -1, 3]]), np.array([0])
    np.testing.assert_array_equal(jax.grad(lambda p: losses.hinge(p, t).sum())(rows), [[0, 0, 1]])


@pytest.mark.parametrize("epsilon", [1e-18, 1e-3, 1e18])
def test_derivative_of_charbonnier_has_no_kink(epsilon: float) -> None:
    """It is e / sqrt(e² + epsilon²): 0 at 0, and never above 1."""
    e = np.float32([0, 1e-18, -1e-4, 3, -1e10])
    got = jax.grad(lambda p: losses.charbonnier(p, jnp.zeros(5), epsilon=epsilon).sum())(e)
    np.testing.assert_allclose(got, np.float64(e) / np.hypot(np.float64(e), epsilon), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_equal_finite_differences(name: str) -> None:
    p, t = normal(4, 3, dtype=np.float64), targets_for(name, (4, 3)).astype(np.float64)
    with jax.enable_x64(True):
        got = jax.grad(lambda p: LOSSES[name](p, t).sum())(jnp.asarray(p))
        step = 1e-6
        for index in np.ndindex(p.shape):
            nudge = np.zeros_like(p)
            nudge[index] = step
            difference = LOSSES[name](p + nudge, t).sum() - LOSSES[name](p - nudge, t).sum()
            np.testing.assert_allclose(got[index], difference / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.oracle
def test_values_and_derivatives_equal_pytorch() -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    z, r, t = 2 * normal(16, 5), normal(16, 5, seed=4), labels(16, 5)
    z[0] = [1, -1, 1, -1, 1]  # on the kink of the soft margin
    y, multi = 2 * np.eye(5, dtype=np.float32)[t] - 1, (signs(16, 5) > 0).astype(np.float32)
    T = torch.from_numpy
    cases = [
        ("squared_error", {}, r, lambda z: F.mse_loss(z, T(r))),
        ("absolute_error", {}, r, lambda z: F.l1_loss(z, T(r))),
        ("charbonnier", {"epsilon": 0.3}, r, lambda z: ((z - T(r)).square() + 0.3**2).sqrt().mean()),
        ("huber", {"delta": 0.7}, r, lambda z: F.huber_loss(z, T(r), delta=0.7)),
        ("hinge", {}, t, lambda z: F.relu(1 - T(y) * z).sum(1).mean()),
        ("squared_hinge", {}, t, lambda z: F.relu(1 - T(y) * z).square().sum(1).mean()),
        ("cross_entropy", {}, t, lambda z: F.cross_entropy(z, T(t))),
        (
            "cross_entropy",
            {"label_smoothing": 0.1},
            t,
            lambda z: F.cross_entropy(z, T(t), label_smoothing=0.1),
        ),
        ("sigmoid_cross_entropy", {}, multi, lambda z: F.binary_cross_entropy_with_logits(z, T(multi))),
    ]
    for name, arguments, targets, theirs in cases:
        ours = lambda z: losses.reduce(LOSSES[name](z, targets, **arguments))  # noqa: B023, E731
        value, slope = jax.value_and_grad(ours)(z)
        leaf = torch.tensor(z, requires_grad=True)
        expected = theirs(leaf)
        expected.backward()
        np.testing.assert_allclose(value, expected.item(), rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(slope, leaf.grad.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


# The regulariser and the reduction


def test_penalty_covers_kernels_unless_a_pattern_says_otherwise() -> None:
    params = {
        "conv1": {"kernel": normal(2, 3), "bias": normal(3, seed=1)},
        "head": {"kernel": normal(3, seed=2)},
    }
    squares = {
        name: np.sum(np.float64(leaf) ** 2)
        for name, leaf in (
            ("conv1", params["conv1"]["kernel"]),
            ("bias", params["conv1"]["bias"]),
            ("head", params["head"]["kernel"]),
        )
    }
    both = 0.5 * 0.3 * (squares["conv1"] + squares["head"])
    np.testing.assert_allclose(losses.l2_penalty(params, 0.3), both, rtol=1e-6)
    everything = 0.5 * 0.3 * sum(squares.values())
    np.testing.assert_allclose(losses.l2_penalty(params, 0.3, "*"), everything, rtol=1e-6)
    head = 0.5 * 0.3 * squares["head"]
    np.testing.assert_allclose(losses.l2_penalty(params, 0.3, "head/*"), head, rtol=1e-6)
    slope = jax.grad(losses.l2_penalty)(params, 0.3)
    np.testing.assert_allclose(slope["conv1"]["kernel"], 0.3 * params["conv1"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(slope["conv1"]["bias"], 0)


def test_penalty_is_summed_in_float32() -> None:
    params = {"kernel": jnp.ones(100_353, jnp.bfloat16)}
    assert losses.l2_penalty(params, 2.0) == 100_353  # the nearest bfloat16 is 100,352
    assert losses.l2_penalty(params, 2.0).dtype == jnp.float32
    assert jax.grad(losses.l2_penalty)(params, 2.0)["kernel"].dtype == jnp.bfloat16


def test_penalty_refuses_a_pattern_that_covers_nothing() -> None:
    with pytest.raises(ValueError, match="'heed/\\*' matches no parameter; nearest: head/kernel"):
        losses.l2_penalty({"head": {"kernel": jnp.ones(2)}}, 0.1, "heed/*")


def test_reduce() -> None:
    values = normal(9)
    np.testing.assert_allclose(losses.reduce(values), np.mean(values, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(losses.reduce(values, "sum"), np.sum(values, dtype=np.float64), rtol=1e-5)
    with pytest.raises(ValueError, match="expected 'mean' or 'sum', got 'max'"):
        losses.reduce(values, "max")  # type: ignore[arg-type]


# Refusals


@pytest.mark.parametrize("name", [*REGRESSION, "hinge", "squared_hinge", "sigmoid_cross_entropy"])
@pytest.mark.parametrize(("outputs", "targets"), [((6, 2), (6, 1)), ((6,), (6, 1)), ((6, 1), (5,)), ((), ())])
def test_shapes_that_would_broadcast_are_refused(name: str, outputs: Any, targets: Any) -> None:
    with pytest.raises(ValueError) as caught:
        LOSSES[name](jnp.zeros(outputs), jnp.zeros(targets))
    message = str(caught.value)
    assert message.startswith(name + ":")
    assert str(outputs) in message
    assert str(targets) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "message"),
    [
        ("cross_entropy", jnp.zeros((4, 1)), jnp.zeros(4, int), r"two classes or more, got \(4, 1\)"),
        ("cross_entropy", jnp.zeros(4), jnp.zeros(4, int), r"expected outputs \(batch, classes\)"),
        ("cross_entropy", jnp.zeros((4, 3)), jnp.zeros(4), r"integer labels \(4,\).*got float32 \(4,\)"),
        ("cross_entropy", jnp.zeros((4, 3)), jnp.zeros((4, 2)), r"targets \(4, 3\).*got float32 \(4, 2\)"),
        ("hinge", jnp.zeros((4, 3)), jnp.zeros(5, int), r"integer labels \(4,\).*got int32 \(5,\)"),
        ("hinge", jnp.zeros((4, 3)), jnp.zeros(4), r"integer labels \(4,\).*got float32 \(4,\)"),
        ("squared_error", jnp.zeros(4, int), jnp.zeros(4), r"floating-point values, got int32 \(4,\)"),
    ],
)
def test_other_refusals_name_what_was_got(name: str, outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        LOSSES[name](outputs, targets)


def test_hyperparameters_are_checked() -> None:
    z = jnp.zeros((2, 3))
    with pytest.raises(ValueError, match="huber: expected delta above 0, got 0"):
        losses.huber(z, z, delta=0)
    for wrong in (0, -1e-3, 1e-19, 1e19, 10**30, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^charbonnier: expected epsilon from 1e-18 to 1e18, got "):
            losses.charbonnier(z, z, epsilon=wrong)
    with pytest.raises(ValueError, match=r"cross_entropy: expected label_smoothing from 0 to 1, got 1\.5"):
        losses.cross_entropy(z, z, label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"sigmoid_cross_entropy: expected label_smoothing from 0 to 1"):
        losses.sigmoid_cross_entropy(z, z, label_smoothing=-0.1)
