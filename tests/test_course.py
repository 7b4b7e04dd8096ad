"""The course's worked examples: the page that shows them, and each by value against its formula in NumPy."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import fnn
from fnn import losses
from fnn.experiment import read

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "course.md"
GOALS = ROOT / "configs" / "goals_regression.yaml"
SEEDS = range(5)


@pytest.fixture(autouse=True)
def _precise() -> Iterator[None]:
    with jax.default_matmul_precision("highest"):
        yield


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5, atol=1e-5)


# The page


def blocks(page: str) -> list[tuple[int, str, str, str]]:
    """Line, language, content of each fenced block, and what stands between it and the next."""
    found = list(re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    ends = [block.start() for block in found[1:]] + [len(page)]
    return [
        (page[: block.start()].count("\n") + 1, block[1], block[2], page[block.end() : end].strip())
        for block, end in zip(found, ends, strict=True)
    ]


@pytest.mark.slow
def test_the_page_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = blocks(PAGE.read_text(encoding="utf-8"))
    outputs = {i for i, (_, language, _, _) in enumerate(page) if language == "text"}
    namespace: dict[str, Any] = {"__name__": "course"}
    with np.printoptions():  # the page sets its own
        for i, (line, language, code, gap) in enumerate(page):
            if language != "python":
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + code, str(PAGE), "exec"), namespace)
            shown = page[i + 1][2] if i + 1 in outputs and not gap else ""
            assert printed.getvalue() == shown, f"{PAGE.name}:{line}"
            outputs -= {i + 1}
    assert not outputs, "every text block stands right after the Python block that prints it"


def test_the_page_s_command_line(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (command,) = [code for _, language, code, _ in blocks(page) if language == "bash"]
    program, *arguments = shlex.split(command)
    assert program == "python"
    run = subprocess.run(
        [sys.executable, *arguments, "--out", tmp_path / "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    prediction, folder = run.stdout.splitlines()
    assert f"prints `{prediction}`" in page
    assert folder.startswith(f"run {tmp_path / 'run'} ")


# Gradient descent


def descend(start: float, learning_rate: float, steps: int) -> tuple[list[float], list[float]]:
    """The points and gradients of gradient descent on (x - 1)²."""
    optimizer = optax.sgd(learning_rate)
    x = jnp.float32(start)
    memory = optimizer.init(x)
    points, gradients = [], []
    for _ in range(steps):
        gradient = jax.grad(lambda x: (x - 1) ** 2)(x)
        points.append(float(x))
        gradients.append(float(gradient))
        updates, memory = optimizer.update(gradient, memory)
        x = optax.apply_updates(x, updates)
    return points, gradients


def test_gradient_descent_of_the_course() -> None:
    points, gradients = descend(-4.0, 0.1, 4)
    close(points, [-4.0, -3.0, -2.2, -1.56])
    close(gradients, [-10.0, -8.0, -6.4, -5.12])  # from -3 it is -8


@pytest.mark.parametrize("start, learning_rate", [(3.5, 0.25), (-2.0, 0.5), (0.0, 0.9), (7.0, 0.01)])
def test_gradient_descent_on_a_parabola_in_closed_form(start: float, learning_rate: float) -> None:
    points, gradients = descend(start, learning_rate, 12)
    distance = (start - 1) * (1 - 2 * learning_rate) ** np.arange(12)
    close(points, 1 + distance)
    close(gradients, 2 * distance)


# Least squares


def test_goals_of_2018() -> None:
    years, goals = np.arange(2013.0, 2018.0), np.array([39.0, 50.0, 48.0, 51.0, 50.0])
    rows = np.stack([years, -np.ones(5)], axis=1)
    w, b = np.linalg.solve(rows.T @ rows, rows.T @ goals)
    assert w * 2018 - b == pytest.approx(54.5, abs=1e-6)

    run = fnn.train(read(GOALS))
    assert run.summary["predictions"] == pytest.approx([54.5], abs=1e-3)
    assert run.log[-1]["loss"] == pytest.approx(np.mean((w * years - b - goals) ** 2), rel=1e-5)
    weights = run.params["dense1"]
    close(weights["kernel"], [[w * years.std()]])  # the years are normalised
    close(weights["bias"], [goals.mean()])


def test_raw_years_would_need_tiny_steps() -> None:
    rows = np.stack([np.arange(2013.0, 2018.0), -np.ones(5)], axis=1)
    largest_step = 2 / np.linalg.eigvalsh(2 / 5 * rows.T @ rows).max()
    assert 2.4e-7 < largest_step < 2.5e-7


@pytest.mark.parametrize("seed", [0, 1])
def test_least_squares_by_gradient_descent_is_the_closed_form(seed: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(seed)
    x = draw.uniform(-3, 8, 12)
    y = 4 - 1.5 * x + draw.normal(size=12)
    rows = [f"{a:.9f},{b:.9f}" for a, b in zip(x[:9], y, strict=False)] + [f"{a:.9f}," for a in x[9:]]
    (tmp_path / "table.csv").write_text("\n".join(["x,y", *rows]))
    experiment = read(GOALS, [f"data.path={tmp_path / 'table.csv'}", "train.batch_size=9"])
    expected = np.polyval(np.polyfit(x[:9], y[:9], 1), x[9:])
    np.testing.assert_allclose(fnn.train(experiment).summary["predictions"], expected, rtol=1e-4, atol=1e-4)


# Three losses, p = wᵀx - b, J = mean L(p, y) + 0.5 λ ‖w‖²


def objective(loss: Callable[..., Any], strength: float, X: Any, y: Any) -> Callable[..., Any]:
    """J as a function of w and b."""
    model = fnn.linear(1)

    def of(w: Any, b: Any) -> Any:
        params = {"dense1": {"kernel": w[:, None], "bias": -b[None]}}
        p, _ = model.apply(params, {}, jnp.asarray(X, jnp.float32))
        return losses.reduce(loss(p, jnp.asarray(y, jnp.float32))) + losses.l2_penalty(params, strength)

    return of


def check_gradient(
    loss: Callable[..., Any],
    slope: Callable[[Any, Any], Any],
    point: tuple[Any, float, Any, Any],
    strength: float = 0.3,
) -> None:
    w, b, X, y = point
    gradient = jax.grad(objective(loss, strength, X, y), argnums=(0, 1))
    by_w, by_b = gradient(jnp.asarray(w, jnp.float32), jnp.float32(b))
    slopes = slope(X @ w - b, y)
    close(by_w, slopes @ X / len(X) + strength * w)
    close(by_b, -slopes.mean())


def random_point(seed: int, targets: Any) -> tuple[Any, float, Any, Any]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=3), float(draw.normal()), draw.normal(size=(8, 3)), draw.choice(targets, 8)


def soft_margin_slope(p: Any, y: Any) -> Any:
    return np.where(y * p < 1, -y, 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_of_least_squares(seed: int) -> None:
    point = random_point(seed, [-2.0, 0.5, 3.0])
    check_gradient(losses.squared_error, lambda p, y: 2 * (p - y), point)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_of_the_soft_margin(seed: int) -> None:
    check_gradient(losses.hinge, soft_margin_slope, random_point(seed, [-1.0, 1.0]))


@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_gradient_of_the_soft_margin_on_its_kink_and_beyond(y: float) -> None:
    w, X = np.array([1.0, 1.0]), np.array([[0.25, 0.25], [0.5, 0.5], [1.0, 1.0]])
    targets = np.full(3, y)
    margins = targets * (X @ (y * w))
    assert margins.tolist() == [0.5, 1.0, 2.0]
    check_gradient(losses.hinge, soft_margin_slope, (y * w, 0.0, X, targets))
    for row in (1, 2):  # alone, such an example leaves λw
        check_gradient(losses.hinge, lambda p, y: 0 * p, (y * w, 0.0, X[[row]], targets[[row]]))


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_of_the_cross_entropy(seed: int) -> None:
    point = random_point(seed, [0.0, 1.0])
    check_gradient(losses.sigmoid_cross_entropy, lambda p, y: scipy.special.expit(p) - y, point)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_of_the_cross_entropy_of_several_classes(seed: int) -> None:
    draw = np.random.default_rng(seed)
    W, X, labels = draw.normal(size=(3, 4)), draw.normal(size=(8, 3)), draw.integers(0, 4, 8)

    def J(W: Any) -> Any:
        p, _ = fnn.dense(4, bias=False).apply({"kernel": W}, {}, jnp.asarray(X, jnp.float32))
        return losses.reduce(losses.cross_entropy(p, jnp.asarray(labels))) + losses.l2_penalty(
            {"kernel": W}, 0.3
        )

    slopes = scipy.special.softmax(X @ W, axis=1) - np.eye(4)[labels]
    close(jax.grad(J)(jnp.asarray(W, jnp.float32)), X.T @ slopes / len(X) + 0.3 * W)


# The chain rule and the activations


@pytest.mark.parametrize("h", [-3.0, -0.25, 0.0, 0.5, 1.0, 2.75])
def test_chain_rule(h: float) -> None:
    assert jax.grad(lambda h: (2 * h - 1) ** 2)(h) == pytest.approx(4 * (2 * h - 1))


def test_derivatives_of_the_activations() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(size=20) * 3, [0.0]])
    s, t = scipy.special.expit(x), np.tanh(x)
    formulas = {fnn.sigmoid: s * (1 - s), fnn.tanh: 1 - t**2, fnn.relu: np.where(x > 0, 1.0, 0.0)}
    for layer, formula in formulas.items():
        derivative = jax.grad(lambda x, layer=layer: jnp.sum(layer.apply({}, {}, x)[0]))
        close(derivative(jnp.asarray(x, jnp.float32)), formula)


def test_the_derivative_of_tanh_is_no_misprint() -> None:
    x, step = np.linspace(-2, 2, 9), 1e-6
    difference = (np.tanh(x + step) - np.tanh(x - step)) / (2 * step)
    np.testing.assert_allclose(1 - np.tanh(x) ** 2, difference, rtol=1e-6)
    away = x != 0
    assert np.all(abs(1 - 2 * np.tanh(x) ** 2 - difference)[away] > 0.2)


# The network h = max(w₁x₁ + w₂x₂, 0), p = w₅h, J = Σ (p - y)²

NETWORK = fnn.serial(hidden=fnn.dense(1, bias=False), relu=fnn.relu, output=fnn.dense(1, bias=False))


def nudged(model: fnn.Layer, nudges: dict[str, Any]) -> fnn.Layer:
    """The model with a nudge added to the output of each layer that has one: ∂J/∂nudge is its delta."""

    def add_nudge(path: str, layer: fnn.Layer) -> fnn.Layer:
        if path not in nudges:
            return layer

        def apply(params: Any, state: Any, x: Any, **options: Any) -> Any:
            value, state = layer.apply(params, state, x, **options)
            return value + nudges[path], state

        return replace(layer, apply=apply)

    return fnn.map_layers(add_nudge, model)


def by_hand(w: Any, w5: float, X: Any, y: Any) -> dict[str, Any]:
    z = X @ w
    h = np.maximum(z, 0)
    delta_p = 2 * (w5 * h - y)
    delta_h = w5 * delta_p
    through = np.where(z > 0, delta_h, 0.0)
    return {
        "w5": np.sum(delta_p * h),
        "w1": np.sum(through * X[:, 0]),
        "w2": np.sum(through * X[:, 1]),
        "delta_p": delta_p,
        "delta_h": delta_h,
        "delta_x1": through * w[0],
    }


def by_fnn(w: Any, w5: float, X: Any, y: Any) -> dict[str, Any]:
    params = {"hidden": {"kernel": jnp.float32(w)[:, None]}, "output": {"kernel": jnp.float32([[w5]])}}
    nudges = {name: jnp.zeros((len(X), 1)) for name in ("relu", "output")}

    def J(params: Any, nudges: Any, X: Any) -> Any:
        p, _ = nudged(NETWORK, nudges).apply(params, {}, X)
        return losses.reduce(losses.squared_error(p, jnp.float32(y)), "sum")

    weights, deltas, delta_x = jax.grad(J, argnums=(0, 1, 2))(params, nudges, jnp.float32(X))
    return {
        "w5": weights["output"]["kernel"][0, 0],
        "w1": weights["hidden"]["kernel"][0, 0],
        "w2": weights["hidden"]["kernel"][1, 0],
        "delta_p": deltas["output"][:, 0],
        "delta_h": deltas["relu"][:, 0],
        "delta_x1": delta_x[:, 0],
    }


def check_network(w: Any, w5: float, X: Any, y: Any) -> None:
    expected, actual = by_hand(w, w5, X, y), by_fnn(w, w5, X, y)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("seed", SEEDS)
def test_network_at_random_points(seed: int) -> None:
    draw = np.random.default_rng(seed)
    w, w5, X, y = draw.normal(size=2), float(draw.normal()), draw.normal(size=(10, 2)), draw.normal(size=10)
    assert 0 < np.sum(X @ w > 0) < 10  # both sides of the ReLU
    check_network(w, w5, X, y)


@pytest.mark.parametrize("x, z", [((1.0, 1.0), 1.0), ((1.0, 3.0), -1.0), ((1.0, 2.0), 0.0)])
def test_network_on_each_side_of_the_kink(x: tuple[float, float], z: float) -> None:
    w, w5, X, y = np.array([2.0, -1.0]), 0.5, np.array([x]), np.array([1.0])
    assert X @ w == z
    check_network(w, w5, X, y)
    actual = by_fnn(w, w5, X, y)
    assert actual["delta_h"] != 0
    assert (actual["w1"] != 0) == (actual["w2"] != 0) == (actual["delta_x1"] != 0) == (z > 0)


# Why convolution

FEATURES, WINDOW, GRID = 8, 5, 4
LAYERS = {
    "fully connected": lambda n: fnn.serial(fnn.flatten, fnn.dense(FEATURES * n * n)),
    "locally connected": lambda n: fnn.local_conv(FEATURES, WINDOW),
    "locally shared": lambda n: fnn.local_conv(FEATURES, WINDOW, share=(GRID, GRID)),
    "shared": lambda n: fnn.conv(FEATURES, WINDOW),
}


@pytest.mark.parametrize("n", [28, 224, 1000])
def test_parameters(n: int) -> None:
    outputs = n * n * FEATURES
    formulas = {
        "fully connected": outputs * (n * n + 1),
        "locally connected": outputs * (WINDOW**2 + 1),
        "locally shared": GRID**2 * FEATURES * (WINDOW**2 + 1),
        "shared": FEATURES * (WINDOW**2 + 1),
    }
    picture = jax.ShapeDtypeStruct((1, n, n, 1), jnp.float32)
    for name, formula in formulas.items():
        params, _ = jax.eval_shape(LAYERS[name](n).init, jax.random.key(0), picture)
        assert fnn.count(params) == formula, name


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shift", [(1, 0), (0, 3), (3, 2)])
@pytest.mark.parametrize("name", ["shared", "locally shared", "locally connected"])
def test_only_a_convolution_shifts_its_map(name: str, shift: tuple[int, int], seed: int) -> None:
    picture = np.zeros((1, 12, 12, 1), np.float32)
    picture[0, 3:6, 3:6, 0] = np.random.default_rng(seed).normal(size=(3, 3))
    layer = LAYERS[name](12)
    params, state = layer.init(jax.random.key(seed), picture)
    maps, _ = layer.apply(params, state, jnp.asarray(picture))
    of_shifted, _ = layer.apply(params, state, jnp.asarray(np.roll(picture, shift, axis=(1, 2))))
    difference = np.max(abs(of_shifted - np.roll(maps, shift, axis=(1, 2))))
    assert np.max(abs(maps)) > 0.1
    assert difference < 1e-5 if name == "shared" else difference > 0.1
