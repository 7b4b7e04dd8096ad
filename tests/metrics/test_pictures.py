"""PSNR and SSIM against scikit-image on pictures of bytes, as a file would have them."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import metrics
from fnn.luma import luma
from fnn.metrics import Metric
from fnn.training.folder import to_json
from tests.metrics.rows import whole

SHAPES = [(1, 11, 11, 1), (2, 14, 29, 1), (2, 21, 17, 3)]
MADE = {"psnr": metrics.psnr, "ssim": metrics.ssim}


@functools.cache
def compiled(name: str, border: int = 0) -> Metric:
    """Of each a program for each shape."""
    metric = MADE[name](border)
    return metric._replace(measure=jax.jit(metric.measure))


def pictures(shape: tuple[int, ...], noise: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets: smooth ones, and the same with noise, some of it beyond 0 and 1."""
    rng = np.random.default_rng(seed)
    n, height, width, channels = shape
    y, x = np.mgrid[:height, :width].reshape(2, height, width, 1) / 2
    phase = rng.uniform(0, 6, (n, 1, 1, channels))
    targets = np.rint(255 * np.clip(0.5 + np.sin(x + phase) * np.cos(y - phase), 0, 1)) / 255
    return (targets + rng.normal(scale=noise, size=shape)).astype(np.float32), targets.astype(np.float32)


def planes(values: np.ndarray, border: int) -> np.ndarray:
    """What is compared, in float64: luma of bytes, without the border."""
    values = np.rint(np.clip(np.float64(values) * 255, 0, 255))
    values = values if values.shape[-1] == 1 else luma(values)
    height, width = values.shape[1:3]
    return values[:, border : height - border, border : width - border, 0]


def of_scikit_image(name: str, outputs: np.ndarray, targets: np.ndarray, border: int) -> float:
    theirs = pytest.importorskip("skimage.metrics")
    found = []
    for made, true in zip(planes(outputs, border), planes(targets, border), strict=True):
        if name == "psnr":
            found.append(theirs.peak_signal_noise_ratio(true, made, data_range=255))
        else:
            options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            found.append(theirs.structural_similarity(true, made, data_range=255, **options))
    return float(np.mean(found))


@pytest.mark.oracle
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MADE)
def test_it_is_that_of_scikit_image(name: str, shape: tuple[int, ...]) -> None:
    outputs, targets = pictures(shape)
    assert outputs.min() < 0 and outputs.max() > 1
    for border in (0, 3) if shape == SHAPES[-1] else (0,):
        wanted = of_scikit_image(name, outputs, targets, border)
        np.testing.assert_allclose(whole(compiled(name, border), outputs, targets), wanted, rtol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("name", MADE)
def test_bright_flat_pictures_do_not_cancel(name: str) -> None:
    """Where the variance is a millionth of the mean's square."""
    rng = np.random.default_rng(0)
    targets = (rng.integers(249, 252, SHAPES[1]) / 255).astype(np.float32)
    outputs = targets + np.float32(rng.integers(-1, 2, targets.shape) / 255)
    wanted = of_scikit_image(name, outputs, targets, 0)
    np.testing.assert_allclose(whole(compiled(name), outputs, targets), wanted, rtol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_psnr_is_its_formula(shape: tuple[int, ...]) -> None:
    outputs, targets = pictures(shape)
    error = np.square(planes(outputs, 0) - planes(targets, 0)).mean((1, 2))
    wanted = np.mean(10 * np.log10(255**2 / error))
    np.testing.assert_allclose(whole(compiled("psnr"), outputs, targets), wanted, rtol=1e-5)


def test_ssim_is_its_formula_where_one_window_fits() -> None:
    outputs, targets = pictures(SHAPES[0])
    a, b = planes(outputs, 0)[0], planes(targets, 0)[0]
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 6.5025, 58.5225
    wanted = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    wanted /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    np.testing.assert_allclose(whole(compiled("ssim"), outputs, targets), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_equal_pictures_and_what_a_log_says_of_them(name: str) -> None:
    _, targets = pictures(SHAPES[2])
    barely = targets + np.float32(0.4 / 255)  # rounded away
    figure = whole(compiled(name), barely, targets)
    assert figure == pytest.approx({"psnr": math.inf, "ssim": 1.0}[name], abs=1e-6)
    if name == "psnr":
        assert to_json({name: figure}) == '{"psnr": null}'


@pytest.mark.parametrize("name", MADE)
def test_pictures_are_averaged_over_batches_and_padding_does_not_count(name: str) -> None:
    outputs, targets = pictures(SHAPES[1])
    metric = compiled(name)
    both = metric.measure(outputs, targets, np.ones(2, bool))
    first, last = (metric.measure(outputs, targets, np.arange(2) == i) for i in range(2))
    assert metric.value(first) != metric.value(last)
    padded = np.stack([outputs[0], np.full_like(outputs[0], np.nan)])
    assert metric.value(metric.measure(padded, targets, np.arange(2) == 0)) == metric.value(first)
    assert metric.value(metric.merge(first, last)) == pytest.approx(metric.value(both), rel=1e-6)


@pytest.mark.parametrize("name", MADE)
def test_what_is_left_out_at_the_border_does_not_count(name: str) -> None:
    outputs, targets = pictures(SHAPES[2])
    inner = np.zeros_like(outputs, bool)
    inner[:, 3:-3, 3:-3] = True
    metric = compiled(name, 3)
    assert whole(metric, np.where(inner, outputs, np.nan), targets) == whole(metric, outputs, targets)


@pytest.mark.parametrize("name", MADE)
def test_bfloat16_outputs_are_judged_in_float32(name: str) -> None:
    outputs, targets = pictures(SHAPES[2])
    rough = jnp.asarray(outputs).astype(jnp.bfloat16)
    found, wanted = (whole(compiled(name), x, targets) for x in (rough, np.asarray(rough, np.float32)))
    assert found == pytest.approx(wanted, rel=1e-6)
    assert found != pytest.approx(whole(compiled(name), outputs, targets), rel=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_nan_is_not_hidden(name: str) -> None:
    outputs, targets = pictures(SHAPES[2])
    outputs[1, 5, 5, 0] = np.nan
    assert math.isnan(whole(compiled(name), outputs, targets))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        ((2, 12, 12, 1), (2, 12, 12, 3), r"\(2, 12, 12, 1\) and \(2, 12, 12, 3\)"),
        ((2, 12, 12, 1), (2, 24, 24, 1), r"\(2, 12, 12, 1\) and \(2, 24, 24, 1\)"),
        ((2, 12, 12, 2), (2, 12, 12, 2), r"\(2, 12, 12, 2\) and \(2, 12, 12, 2\)"),
        ((2, 12, 12), (2, 12, 12), r"\(2, 12, 12\) and \(2, 12, 12\)"),
        ((2, 10), (2,), r"\(2, 10\) and \(2,\)"),
    ],
)
def test_what_are_no_pictures_of_one_shape_is_refused(
    name: str, outputs: tuple[int, ...], targets: tuple[int, ...], message: str
) -> None:
    wanted = rf"^{name}: expected pictures \(batch, .*, 1 or 3\) and targets of that shape, got {message}$"
    with pytest.raises(ValueError, match=wanted):
        MADE[name]().measure(jnp.zeros(outputs), jnp.zeros(targets), jnp.ones(2, bool))


def test_too_little_to_compare_is_refused() -> None:
    small, wide = jnp.zeros((1, 6, 12, 1)), jnp.zeros((1, 16, 20, 1))
    mask = jnp.ones(1, bool)
    with pytest.raises(ValueError, match=r"^psnr: expected more than 6 pixels a side, got \(1, 6, 12, 1\)$"):
        metrics.psnr(3).measure(small, small, mask)
    with pytest.raises(ValueError, match=r"^ssim: expected 11 x 11 pixels or more .*, got \(10, 14\)$"):
        metrics.ssim(3).measure(wide, wide, mask)
    for name, make in MADE.items():
        with pytest.raises(ValueError, match=f"^{name}: expected a border of 0 or more, got -1$"):
            make(-1)
