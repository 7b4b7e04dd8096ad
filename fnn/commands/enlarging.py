"""A super-resolution model as a function from the bytes of a picture to those of a larger one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array

from fnn.analysis.receptive_field import reach
from fnn.commands.tiles import Enlarge
from fnn.experiment.saved import Saved
from fnn.layer import LayerError, Params, State
from fnn.layers import upsample
from fnn.luma import luma, rgb_to_ycbcr, ycbcr_to_rgb
from fnn.training.weights import WeightsError

Weights = tuple[Params, State]
Part = Callable[[Array], Array]

BICUBIC_REACH = 2
"""From how many pixels away bicubic interpolation makes one between two."""
_BLACK, _WHITE = 16.0, 235.0  # as luma
_SOME = (7, 10)
"""A size that a model which shrinks its input on the way does not bring back."""


@dataclass(frozen=True)
class Enlarger:
    """What enlarges pictures.

    Attributes:
        scale: How many times larger they become.
        enlarge: Bytes ``(height, width, channels)``, which are grey or red, green and blue, and alpha where
            there is one, to bytes ``(height·scale, width·scale, channels)``. It is compiled.
        reach: From how many pixels away it makes a pixel; None: from all, as far as is known.
    """

    scale: int
    enlarge: Enlarge
    reach: int | None


def enlarger(saved: Saved, model: Path) -> Enlarger:
    """The function of a model that was read.

    A model of luma sees the picture's; Cb, Cr and alpha are interpolated, by the bicubic kernel of Keys with
    a = −0.5. A model of colour sees a grey picture in three equal channels, and of what it makes the luma is
    taken.

    Args:
        saved: The model.
        model: Its file, for messages.

    Raises:
        WeightsError: It is no model of super-resolution.
    """
    scale, channels = _checked(saved, model), saved.inputs.shape[-1]
    weights = jax.device_put((saved.params, saved.state))

    def network(weights: Weights, x: Array) -> Array:
        x = x if saved.normalizer is None else saved.normalizer(x)
        outputs, _ = saved.model.apply(*weights, x.astype(saved.inputs.dtype))
        larger: Array = 255.0 * outputs.astype(jnp.float32)
        return larger

    def enlarge(weights: Weights, pixels: Array) -> Array:
        x = pixels[None].astype(jnp.float32)
        colours = 1 if x.shape[-1] < 3 else 3
        way = _WAYS[channels, colours]
        with jax.default_matmul_precision("highest"):  # a GPU would keep 10 bits of each factor
            parts = [way(x[..., :colours], lambda x: network(weights, x), scale)]
        if x.shape[-1] > colours:
            parts.append(_bicubic(x[..., colours:], scale))
        return jnp.clip(jnp.rint(jnp.concatenate(parts, -1)[0]), 0, 255).astype(jnp.uint8)

    compiled = jax.jit(enlarge)
    far = reach(lambda x: network(weights, 255.0 * x), channels)
    far = None if far is None else max(far, BICUBIC_REACH)
    return Enlarger(scale, lambda pixels: compiled(weights, pixels), far)


def _checked(saved: Saved, model: Path) -> int:
    """The scale of a model that enlarges pictures of any size."""
    if saved.scale is None:
        raise WeightsError(
            f"{model}: expected a super-resolution model, with 'scale' in its metadata, found none"
        )
    *_, channels = saved.inputs.shape
    if len(saved.inputs.shape) != 4 or channels not in (1, 3):
        wanted = "a super-resolution model of luma (1 channel) or colour (3)"
        raise WeightsError(f"{model}: expected {wanted}, found one of {saved.inputs.shape[1:]}")
    given = jax.ShapeDtypeStruct((1, *_SOME, channels), saved.inputs.dtype)
    larger = (1, *(saved.scale * side for side in _SOME), channels)
    try:
        outputs, _ = jax.eval_shape(saved.model.apply, saved.params, saved.state, given)
        found = None if outputs.shape == larger else str(outputs.shape)
    except LayerError as error:
        found = str(error)
    if found is not None:
        raise WeightsError(f"{model}: expected a model that makes {larger} of {given.shape}, found {found}")
    return saved.scale


def _luma_of_grey(x: Array, network: Part, scale: int) -> Array:
    return _grey(network(_BLACK + (_WHITE - _BLACK) / 255 * x))


def _luma_of_colour(x: Array, network: Part, scale: int) -> Array:
    ycbcr = rgb_to_ycbcr(x)
    parts = [network(ycbcr[..., :1]), _bicubic(ycbcr[..., 1:], scale)]
    return ycbcr_to_rgb(jnp.concatenate(parts, -1))


def _colour_of_grey(x: Array, network: Part, scale: int) -> Array:
    return _grey(luma(network(jnp.repeat(x, 3, -1))))


def _colour(x: Array, network: Part, scale: int) -> Array:
    return network(x)


_WAYS = {(1, 1): _luma_of_grey, (1, 3): _luma_of_colour, (3, 1): _colour_of_grey, (3, 3): _colour}
"""By the model's channels and the picture's."""


def _grey(y: Array) -> Array:
    """Grey from 0 to 255, of luma from 16 to 235."""
    return (y - _BLACK) * (255 / (_WHITE - _BLACK))


def _bicubic(x: Array, scale: int) -> Array:
    larger: Array = upsample(scale, "bicubic").apply({}, {}, x)[0]
    return larger
