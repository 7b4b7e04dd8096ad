"""Padding of windows that slide over space."""

from __future__ import annotations

from collections.abc import Sequence

from jax import lax

from fnn.layer import LayerError
from fnn.layers.checks import LARGEST

Padding = str | int | Sequence[Sequence[int]]
"""``"SAME"``, ``"VALID"``, cells on every side, or a pair (before, after) for each spatial axis."""


def check_padding(kind: str, padding: Padding) -> None:
    """Refuse what is no padding, whatever the input will be."""
    if isinstance(padding, str):
        right = padding in ("SAME", "VALID")
    elif isinstance(padding, int):
        right = 0 <= padding <= LARGEST
    else:
        right = isinstance(padding, Sequence) and all(_is_pair(pair) for pair in padding)
    if not right:
        raise ValueError(f"{kind}: padding must be 'SAME', 'VALID', a number or pairs, got {padding!r}")


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(isinstance(n, int) and abs(n) <= LARGEST for n in pair)
    )


def explicit(axes: int, padding: int | Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """A pair for each spatial axis, from a number or pairs.

    Raises:
        LayerError: There is a pair too many or too few.
    """
    if isinstance(padding, int):
        return [(padding, padding)] * axes
    if len(padding) != axes:
        raise LayerError(f"expected {axes} pairs of padding, one a spatial axis, got {len(padding)}")
    return [(before, after) for before, after in padding]


def pairs(
    space: Sequence[int],
    reach: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    *,
    ceil_mode: bool = False,
) -> tuple[tuple[int, int], ...]:
    """Cells before and after each spatial axis of lengths ``space``, for windows that reach so far.

    With ``ceil_mode`` there are as many more at the end as a window needs that begins before it.

    Raises:
        LayerError: There is a pair too many or too few, or not one window fits.
    """
    if isinstance(padding, str):
        sides = [(a, b) for a, b in lax.padtype_to_pads(space, reach, stride, padding)]
    else:
        sides = explicit(len(space), padding)
    if ceil_mode:
        ends = zip(space, reach, stride, sides, strict=True)
        sides = [(a, b + _beyond(n, r, s, a, b)) for n, r, s, (a, b) in ends]
    if any(n + a + b < r for n, (a, b), r in zip(space, sides, reach, strict=True)):
        raise LayerError(
            f"expected space for a window of {tuple(reach)}, got {tuple(space)} with padding {padding!r}"
        )
    return tuple(sides)


def _beyond(length: int, window: int, stride: int, before: int, after: int) -> int:
    """Cells by which one more window would reach beyond an axis; 0 if that window began outside of it."""
    left = (length + before + after - window) % stride
    begin = length + before + after - window - left + stride
    return stride - left if left and begin < length + before else 0
