"""Convolutions that make few channels, rearranged on processors to make several pixels at once.

oneDNN fills a vector with 16 channels of one pixel. Where there is but one, as in the last layer of a network
whose output is a picture, 15 of 16 products are thrown away. Here a block of pixels is made at a time, each
as some channels of its own, by a convolution that moves by whole blocks; its kernel holds the given one once
for each pixel of the block, with zeros around it. It has more products and needs fewer vectors.

A transposed convolution with a stride does it without zeros: the pixels between two steps are the block, and
each sees other cells of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.kernels.spec import Spec

Run = Callable[[str, Array, Array, Spec], Array]
"""A direction of a convolution (``y``, ``x`` or ``w``, for what it makes), its operands and its geometry."""

_VECTOR = 16
_WORTH = 0.6  # of the work; the rearranging takes time, too


@dataclass(frozen=True)
class Blocks:
    """A convolution that makes blocks.

    Attributes:
        spec: Its geometry.
        sides: How many pixels a block has along each spatial axis.
    """

    spec: Spec
    sides: tuple[int, ...]

    @property
    def pixels(self) -> int:
        """How many pixels a block has."""
        return math.prod(self.sides)


def in_blocks(role: str, spec: Spec, inputs: int, outputs: int) -> Blocks | None:
    """How a direction of a convolution is rearranged, if that saves much of its work.

    The gradient of the input is not, where its stride is 1: it is fast if the output has few channels.
    """
    if not spec.axes or spec.groups > 1 or set(spec.dilation) != {1}:
        return None
    strided = max(spec.stride) > 1
    if strided != (role == "x"):
        return None
    blocks = _phases(spec) if strided else _best(spec, outputs)
    if blocks is None or min(min(pair) for pair in blocks.spec.padding) < 0:
        return None
    channels = inputs if strided else outputs
    plain = math.prod(spec.window) * math.prod(spec.out_space) * _vectors(channels)
    return blocks if _work(blocks, channels) <= _WORTH * plain else None


def forward(x: Array, kernel: Array, spec: Spec, blocks: Blocks, run: Run) -> Array:
    """``x, kernel -> y``."""
    return _pixels(run("y", x, _copies(kernel, blocks.sides), blocks.spec), blocks.sides, spec.out_space)


def to_kernel(x: Array, y: Array, spec: Spec, blocks: Blocks, run: Run) -> Array:
    """``x, y -> kernel``, by the transposes of what `forward` does to the kernel and to the output."""
    kernel = jax.ShapeDtypeStruct((*spec.window, x.shape[-1], y.shape[-1]), jnp.float32)
    made = (y.shape[0], *blocks.spec.out_space, blocks.pixels * y.shape[-1])
    (wide,) = jax.linear_transpose(
        lambda v: _pixels(v, blocks.sides, spec.out_space), jax.ShapeDtypeStruct(made, y.dtype)
    )(y)
    gradient = run("w", x, wide, blocks.spec)
    (summed,) = jax.linear_transpose(lambda v: _copies(v, blocks.sides), kernel)(gradient)
    return summed  # type: ignore[no-any-return]


def to_input(y: Array, kernel: Array, spec: Spec, blocks: Blocks, run: Run) -> Array:
    """``y, kernel -> x``."""
    return _pixels(run("y", y, _cells(kernel, spec, blocks), blocks.spec), blocks.sides, spec.space)


def _best(spec: Spec, outputs: int) -> Blocks | None:
    """Blocks of the size that takes the fewest vectors."""
    sizes = (tuple(min(k, n) for n in spec.out_space) for k in range(2, _VECTOR + 1))
    return min((_blocks(spec, sides) for sides in sizes), key=lambda b: _work(b, outputs))


def _blocks(spec: Spec, sides: tuple[int, ...]) -> Blocks:
    """The geometry of `forward`, whose last blocks may reach beyond the output."""
    window = tuple(w + s - 1 for w, s in zip(spec.window, sides, strict=True))
    beyond = [-n % s for n, s in zip(spec.out_space, sides, strict=True)]
    padding = tuple((a, b + more) for (a, b), more in zip(spec.padding, beyond, strict=True))
    return Blocks(replace(spec, window=window, stride=sides, padding=padding), sides)


def _phases(spec: Spec) -> Blocks:
    """The geometry of `to_input`: pixel ``s p + r`` is made of what the blocks ``p - m`` painted on it.

    With ``a`` cells of padding before, they painted it by the cells ``s m + r + a`` of the kernel.
    """
    window, padding = [], []
    sizes = zip(spec.space, spec.out_space, spec.window, spec.stride, spec.padding, strict=True)
    for n, out, w, s, (a, _) in sizes:
        first, last = -(-a // s), (w - 1 - a) // s
        window.append(first + last + 1)
        padding.append((last, -(-n // s) - out + first))
    once = (1,) * spec.axes
    made = Spec(spec.out_space, tuple(window), once, tuple(padding), once)
    return Blocks(made, spec.stride)


def _vectors(channels: int) -> int:
    return -(-channels // _VECTOR)


def _work(blocks: Blocks, channels: int) -> int:
    """Products of vectors, for each example and channel of the other side."""
    spec = blocks.spec
    return math.prod(spec.window) * math.prod(spec.out_space) * _vectors(blocks.pixels * channels)


def _copies(kernel: Array, sides: tuple[int, ...]) -> Array:
    """The kernel at every place of a block: ``(*window, in, pixels * out)``."""
    for axis, side in enumerate(sides):
        moved = [_padded(kernel, axis, place, side - 1 - place) for place in range(side)]
        kernel = jnp.stack(moved, -2)
    return kernel.reshape(*kernel.shape[: len(sides) + 1], -1)


def _cells(kernel: Array, spec: Spec, blocks: Blocks) -> Array:
    """For every pixel of a block, the cells that paint it: ``(*window, out, pixels * in)``."""
    kernel = jnp.swapaxes(kernel, -1, -2)
    steps = zip(blocks.spec.window, spec.stride, spec.padding, strict=True)
    for axis, (cells, side, (before, _)) in enumerate(steps):
        front = -before % side
        kernel = _padded(kernel, axis, front, cells * side - front - kernel.shape[axis])
        split = kernel.reshape(*kernel.shape[:axis], cells, side, *kernel.shape[axis + 1 :])
        kernel = jnp.moveaxis(jnp.flip(split, axis), axis + 1, -2)
    return kernel.reshape(*kernel.shape[: spec.axes + 1], -1)


def _padded(kernel: Array, axis: int, before: int, after: int) -> Array:
    widths = [(0, 0, 0)] * kernel.ndim
    widths[axis] = (before, after, 0)
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), widths)


def _pixels(y: Array, sides: tuple[int, ...], space: tuple[int, ...]) -> Array:
    """Blocks with their pixels as channels, laid out in space and cut to it."""
    n, *counts, channels = y.shape
    axes = len(sides)
    split = y.reshape(n, *counts, *sides, channels // math.prod(sides))
    order = [axis for i in range(1, axes + 1) for axis in (i, i + axes)]
    whole = [count * side for count, side in zip(counts, sides, strict=True)]
    laid = split.transpose(0, *order, 2 * axes + 1).reshape(n, *whole, -1)
    return lax.slice(laid, [0] * laid.ndim, (n, *space, laid.shape[-1]))
