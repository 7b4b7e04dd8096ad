"""Panels: what a model makes of each test picture, beside what it was given and what it should have made."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.data import Dataset, Split
from fnn.layer import Params, State
from fnn.metrics import Metric, psnr, ssim
from fnn.metrics.pictures import WINDOW
from fnn.training import Recipe, predict

GAP, TITLE, DPI = 12, 44, 100
"""Pixels between pictures and above them; dots per inch, so that a picture's pixel is one of the panel's."""
LEAST = 240
"""Pixels that a picture is drawn with at least: a smaller one is drawn a whole number of times larger."""
DETAIL = 5
"""How many times smaller than the picture the detail below it is."""
WORST = 64
"""The error that is drawn brightest, of 255."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A test picture, and what was made of its small one.

    Attributes:
        name: Of the picture's file, in its folder.
        small: What the model was given ``(h, w, c)``, in bytes as are all others.
        bicubic, enlarged: What the bicubic kernel and the model made of it ``(h s, w s, c)``.
        original: What it was made of.
        figures: ``psnr`` in decibels and ``ssim`` of ``enlarged``, and of ``bicubic`` as ``bicubic_psnr`` and
            ``bicubic_ssim``, each with a border of ``scale`` pixels left out; NaN where too little is left.
    """

    name: str
    small: np.ndarray
    bicubic: np.ndarray
    enlarged: np.ndarray
    original: np.ndarray
    figures: dict[str, float]


def compare(recipe: Recipe, params: Params, state: State, dataset: Dataset) -> Iterator[Comparison]:
    """What a model makes of each picture of the test part.

    Args:
        recipe: What was trained.
        params, state: The model's.
        dataset: Its targets are pictures; see `fnn.data.super_resolution`.
    """
    assert dataset.scale is not None
    parts = (dataset.test,) if isinstance(dataset.test, Split) else dataset.test or ()
    for split in parts:
        assert isinstance(split.inputs, np.ndarray) and split.targets is not None
        names = split.names or [str(i) for i in range(len(split))]
        outputs = predict(recipe, params, state, split.inputs)
        cubic = jax.image.resize(jnp.asarray(split.inputs, jnp.float32), split.targets.shape, "cubic")
        for name, small, bicubic, output, original in zip(
            names, split.inputs, _bytes(cubic), _bytes(255 * outputs), split.targets, strict=True
        ):
            figures = _figures(output, original, dataset.scale)
            baseline = _figures(bicubic, original, dataset.scale)
            figures |= {f"bicubic_{metric}": value for metric, value in baseline.items()}
            yield Comparison(name, small, bicubic, output, original, figures)


def draw(comparison: Comparison) -> bytes:
    """A panel as PNG: small, bicubic, the model's, original, error; below, the detail bicubic is worst at.

    A pixel of a picture is a pixel of the panel, or a square of them.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = comparison.original.shape[:2]
    zoom = -(-LEAST // min(height, width))
    box = _detail(comparison)
    high, wide = zoom * height, zoom * width
    low = round(wide * (box[0].stop - box[0].start) / (box[1].stop - box[1].start))  # of the detail
    across, down = 5 * wide + 6 * GAP, TITLE + high + GAP + low + GAP
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    for i, (title, picture, scale) in enumerate(_columns(comparison)):
        left = GAP + i * (wide + GAP)
        whole = figure.add_axes((left / across, (GAP + low + GAP) / down, wide / across, high / down))
        whole.set_title(title, fontsize=10)
        detail = figure.add_axes((left / across, GAP / down, wide / across, low / down))
        inside = tuple(slice(part.start // scale, part.stop // scale) for part in box)
        for axes, shown in ((whole, picture), (detail, picture[inside])):
            _show(axes, shown)
        rows, columns = inside
        size = (columns.stop - columns.start, rows.stop - rows.start)
        corner = (columns.start - 0.5, rows.start - 0.5)
        whole.add_patch(Rectangle(corner, *size, fill=False, edgecolor="tab:orange", linewidth=1.5))
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def panel_name(name: str) -> str:
    """The file of a picture's panel.

    Example:
        >>> panel_name("birds/robin.bmp")
        'birds-robin.bmp.png'
    """
    joined = "-".join(Path(name).parts)
    return joined if joined.endswith(".png") else f"{joined}.png"


def _columns(comparison: Comparison) -> list[tuple[str, np.ndarray, int]]:
    """Titles, pictures, and how many times smaller than the original each is."""
    small, original, figures = comparison.small, comparison.original, comparison.figures
    scale = original.shape[0] // small.shape[0]
    error = np.abs(comparison.enlarged.astype(np.int32) - original).mean(-1)

    def quality(prefix: str) -> str:
        return f"{figures[prefix + 'psnr']:.2f} dB, SSIM {figures[prefix + 'ssim']:.4f}"

    return [
        (f"{comparison.name}\n{small.shape[1]} × {small.shape[0]}", small, scale),
        (f"bicubic\n{quality('bicubic_')}", comparison.bicubic, 1),
        (f"this model\n{quality('')}", comparison.enlarged, 1),
        (f"original\n{original.shape[1]} × {original.shape[0]}", original, 1),
        (f"error of this model\nblack 0, brightest {WORST} of 255", error, 1),
    ]


def _show(axes: Any, picture: np.ndarray) -> None:
    """A picture in an axes of its own: an error ``(h, w)``, luma ``(h, w, 1)`` or colours ``(h, w, 3)``."""
    axes.set_axis_off()
    if picture.ndim == 2:
        axes.imshow(picture, cmap="inferno", vmin=0, vmax=WORST, interpolation="nearest")
    elif picture.shape[-1] == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=16, vmax=235, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")


def _detail(comparison: Comparison) -> tuple[slice, slice]:
    """The part of the original where bicubic errs the most, on the grid of the small picture."""
    scale = comparison.original.shape[0] // comparison.small.shape[0]
    error = np.square(comparison.bicubic.astype(np.float64) - comparison.original).mean(-1)
    rows, columns = comparison.small.shape[:2]
    coarse = error.reshape(rows, scale, columns, scale).mean((1, 3))
    size = tuple(max(1, side // DETAIL) for side in coarse.shape)
    total = np.pad(coarse.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[size[0] :, size[1] :] - total[: -size[0], size[1] :]
    sums = sums - total[size[0] :, : -size[1]] + total[: -size[0], : -size[1]]
    corner = np.unravel_index(sums.argmax(), sums.shape)
    top, left = (scale * int(at) for at in corner)
    return slice(top, top + scale * size[0]), slice(left, left + scale * size[1])


def _figures(made: np.ndarray, original: np.ndarray, border: int) -> dict[str, float]:
    pair = (jnp.asarray(made[None], jnp.float32) / 255, jnp.asarray(original[None], jnp.float32) / 255)
    left = min(original.shape[:2]) - 2 * border
    found = {}
    for name, least, metric in _metrics(border):
        value = metric.value(metric.measure(*pair, jnp.ones(1, bool))) if left >= least else math.nan
        assert isinstance(value, float)
        found[name] = value
    return found


@functools.cache
def _metrics(border: int) -> tuple[tuple[str, int, Metric], ...]:
    """Names, the pixels of a side that each needs, and metrics, compiled once for each size of pictures."""
    made = (("psnr", 1, psnr(border)), ("ssim", WINDOW, ssim(border)))
    return tuple((name, least, m._replace(measure=jax.jit(m.measure))) for name, least, m in made)


def _bytes(pictures: Any) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(np.asarray(pictures)), 0, 255).astype(np.uint8)
    return rounded
