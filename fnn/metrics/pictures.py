"""Metrics of pictures that are to be like other pictures."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.luma import luma
from fnn.metrics.metric import Metric, average, wide
from fnn.registry import register

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation, in pixels, of the Gaussian that structural similarity is weighted by."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@register(group="metric")
def psnr(border: int = 0) -> Metric:
    """The peak signal-to-noise ratio of each picture, in decibels, averaged over them; larger is better.

    It is ``10 log10(255² / MSE)`` of bytes: outputs and targets, ``(batch, h, w, c)`` from 0 to 1, are
    clipped and rounded as a file would have them. Of 3 channels the luma is compared, as papers do: Y of
    BT.601, 16 to 235. Equal pictures have an infinite ratio, and so has any mean with them; a log says null.

    Args:
        border: Pixels at each side that are left out; papers leave out as many as the scale, and so does a
            config that names no border.

    Raises:
        ValueError: ``border`` is below 0; when measured, outputs and targets are no pictures of one shape, or
            nothing is left of them.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.metrics import psnr
        >>> measure, merge, value = psnr()
        >>> pictures = jnp.full((2, 4, 4, 1), 0.5)
        >>> round(value(measure(pictures, pictures + 0.1, jnp.array([True, True]))), 2)
        20.17
    """
    _check("psnr", border)

    def ratios(outputs: Array, targets: Array) -> Array:
        a, b = _planes("psnr", border, outputs, targets)
        return 10 * jnp.log10(255**2 / jnp.mean(jnp.square(a - b), axis=(1, 2)))

    return average(ratios)


@register(group="metric")
def ssim(border: int = 0) -> Metric:
    """The structural similarity of each picture to its target, up to 1, averaged over them.

    Means, variances and covariances are taken under a Gaussian of 11 x 11 pixels and standard deviation 1.5,
    wherever it fits; the constants are ``(0.01 · 255)²`` and ``(0.03 · 255)²``. What is compared is as in
    `psnr`.

    Args:
        border: Pixels at each side that are left out; papers leave out as many as the scale, and so does a
            config that names no border.

    Raises:
        ValueError: ``border`` is below 0; when measured, outputs and targets are no pictures of one shape, or
            fewer than 11 pixels are left of a side.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.metrics import ssim
        >>> measure, merge, value = ssim()
        >>> pictures = jax.random.uniform(jax.random.key(0), (2, 16, 16, 1))
        >>> round(value(jax.jit(measure)(pictures, pictures, jnp.array([True, True]))), 4)
        1.0

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
    similarity" (2004).
    """
    _check("ssim", border)

    def similarities(outputs: Array, targets: Array) -> Array:
        a, b = _planes("ssim", border, outputs, targets)
        if min(a.shape[1:]) < WINDOW:
            raise ValueError(
                f"ssim: expected {WINDOW} x {WINDOW} pixels or more to compare, got {a.shape[1:]}"
            )
        middle = jnp.mean(b, axis=(1, 2), keepdims=True)  # about it E[x²] - E[x]² does not cancel
        a, b = a - middle, b - middle
        mean_a, mean_b, square_a, square_b, product = _smoothed(jnp.stack([a, b, a * a, b * b, a * b]))
        covariance = product - mean_a * mean_b
        variances = (square_a - mean_a**2) + (square_b - mean_b**2)
        mean_a, mean_b = mean_a + middle, mean_b + middle
        likeness = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
        return jnp.mean(likeness / ((mean_a**2 + mean_b**2 + C1) * (variances + C2)), axis=(1, 2))

    return average(similarities)


def _check(name: str, border: int) -> None:
    if border < 0:
        raise ValueError(f"{name}: expected a border of 0 or more, got {border}")


def _planes(name: str, border: int, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """What of each picture is compared, ``(batch, h, w)`` from 0 to 255."""
    if outputs.shape != targets.shape or outputs.ndim != 4 or outputs.shape[-1] not in (1, 3):
        raise ValueError(
            f"{name}: expected pictures (batch, height, width, 1 or 3) and targets of that shape, "
            f"got {outputs.shape} and {targets.shape}"
        )
    if min(outputs.shape[1:3]) <= 2 * border:
        raise ValueError(f"{name}: expected more than {2 * border} pixels a side, got {outputs.shape}")
    inner = slice(border, -border or None)
    pair = (jnp.round(jnp.clip(wide(x[:, inner, inner]) * 255, 0, 255)) for x in (outputs, targets))
    a, b = ((x if x.shape[-1] == 1 else luma(x))[..., 0] for x in pair)
    return a, b


def _smoothed(planes: Array) -> Array:
    """Under the Gaussian, wherever it fits: ``(..., h, w)`` to ``(..., h - 10, w - 10)``."""
    distances = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(distances**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).astype(planes.dtype)
    for _ in range(2):  # along the last axis, which becomes the one before
        length = planes.shape[-1] - WINDOW + 1
        planes = sum(w * planes[..., i : i + length] for i, w in enumerate(weights)).swapaxes(-1, -2)
    return planes
