"""What networks for super-resolution share: a picture comes in, a larger one goes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnn.combine import residual
from fnn.layer import Key, Layer, LayerError, Params, Shaped, State
from fnn.layers import INITIALIZERS, upsample
from fnn.layers.checks import positive, spatial_axes
from fnn.layers.initializers import Initializer


def check_enlarging(kind: str, scale: int, channels: int) -> None:
    """Refuse what is no whole scale of 2 or more, and no number of channels.

    Raises:
        ValueError: It is.
    """
    positive(kind, scale=scale, channels=channels)
    if scale < 2:
        raise ValueError(f"{kind}: scale must be a whole number of 2 or more, got {scale}")


def last_start(skip: bool) -> Initializer:
    """What the last convolution starts from.

    With a skip from zeros: training starts at the bicubic picture itself, whatever the layers before it give,
    and their gradients come after the first step. (From ``he_normal`` it would start at noise as large as the
    picture.) Without one from a standard deviation of 0.001, that of the papers.
    """
    return INITIALIZERS["zeros"]() if skip else INITIALIZERS["normal"](0.001)


def beside_bicubic(body: Layer, scale: int) -> Layer:
    """The body learns what the bicubic enlargement of the same picture lacks.

    Source: Kim et al. 2015, arXiv:1511.04587.
    """
    return residual(body, upsample(scale, "bicubic"))


def enlarging(kind: str, channels: int, layer: Layer) -> Layer:
    """The layer under the name of a model, which refuses all but pictures with so many channels."""

    def check(x: Shaped) -> None:
        spatial_axes(x, (1, 1))
        if x.shape[-1] != channels:
            raise LayerError(
                f"expected pictures with {channels} channels, got {x.shape}; {kind} makes a model for others "
                f"by channels={x.shape[-1]}"
            )

    def init(key: Key, x: Shaped) -> tuple[Params, State]:
        check(x)
        return layer.init(key, x)

    def apply(
        params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Any, State]:
        check(x)
        return layer.apply(params, state, x, key=key, train=train)

    rebuild = layer.rebuild
    return replace(
        layer,
        init=init,
        apply=apply,
        kind=kind,
        rebuild=rebuild and (lambda new: enlarging(kind, channels, rebuild(new))),
    )
