"""Max pooling as two primitives, each linear in its last operand and the transpose of the other.

`pick` takes from ``t`` what stands where ``x`` is largest in each window; `place` puts it back. So max
pooling is ``pick(x, x)``, its derivative ``pick(x, dx)``, and its gradient ``place(x, dy)``, to any order.
Where windows do not overlap, the maximum of strided slices has the same values, and XLA makes one pass over
the memory of it and of the bias and the activation before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

from fnn.kernels.binding import define, explicit, mapped_first, vary_alike
from fnn.kernels.choice import Choice, is_plain, requested
from fnn.kernels.lowering import not_native
from fnn.kernels.native import loader
from fnn.kernels.spec import acc
from fnn.kernels.windows import reduce_windows

_VECTOR = 8  # the native loops run over channels: with fewer, XLA's over positions are faster


@dataclass(frozen=True)
class Windows:
    """The windows of a pooling.

    Attributes:
        space: Lengths of the spatial axes that they slide over.
        window, stride: One number a spatial axis.
        sides: Cells of padding before and after each spatial axis; they never win.
    """

    space: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]

    @property
    def out_space(self) -> tuple[int, ...]:
        """Lengths of the spatial axes of the result."""
        sizes = zip(self.space, self.window, self.stride, self.sides, strict=True)
        return tuple((n + a + b - k) // s + 1 for n, k, s, (a, b) in sizes)


def max_pool(x: Array, windows: Windows) -> Array:
    """The largest value of each window; the first of equals, in row order, takes the whole gradient."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return _reduce(x, windows)
    if is_plain():
        return _reduce(x, windows)
    if explicit(x):
        return _pick(lax.stop_gradient(x), x, windows)
    y: Array = _largest(x, windows)
    return y


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: Array, windows: Windows) -> Array:
    apart = all(s >= k for s, k in zip(windows.stride, windows.window, strict=True))
    if apart and x.dtype != jnp.bfloat16:
        return _reduce(x, windows)
    return _bound_pick(x, x, windows)


@_largest.defjvp
def _largest_jvp(windows: Windows, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _largest(x, windows), _bound_pick(lax.stop_gradient(x), dx, windows)


def _bound_pick(x: Array, t: Array, windows: Windows) -> Array:
    y: Array = pick_p.bind(*vary_alike(x, t), windows=windows, choice=requested())
    return y


def _reduce(x: Array, windows: Windows) -> Array:
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else np.iinfo(x.dtype).min
    y: Array = reduce_windows(x, windows.window, windows.stride, windows.sides, lowest, jnp.maximum)
    return y


def _pick(x: Array, t: Array, windows: Windows) -> Array:
    """In pure JAX; what belongs to the largest goes along with it."""

    def larger(best: tuple[Array, Array], new: tuple[Array, Array]) -> tuple[Array, Array]:
        wins = (new[0] > best[0]) | (new[0] != new[0])
        return jnp.where(wins, new[0], best[0]), jnp.where(wins, new[1], best[1])

    picked = reduce_windows((x, t), windows.window, windows.stride, windows.sides, -np.inf, larger)
    return picked[1]  # type: ignore[no-any-return]


def _place(x: Array, y: Array, windows: Windows) -> Array:
    """In pure JAX; where windows overlap, what they place in a cell is summed in float32 or wider."""
    wide = acc(x.dtype)
    t = jax.ShapeDtypeStruct(x.shape, wide)
    (placed,) = jax.linear_transpose(lambda t: _pick(x, t, windows), t)(y.astype(wide))
    return placed.astype(x.dtype)  # type: ignore[no-any-return]


def _make(name: str, form: Callable[..., Array], shape: Callable[..., Any]) -> Primitive:
    pure = mlir.lower_fun(lambda a, b, *, windows, choice: form(a, b, windows), multiple_results=False)
    native = jax.ffi.ffi_lowering(loader.target(name))

    def cpu(ctx: Any, x: Any, other: Any, *, windows: Windows, choice: Choice) -> Any:
        few = ctx.avals_in[0].shape[-1] < _VECTOR
        if few or not_native(ctx, choice) is not None:
            return pure(ctx, x, other, windows=windows, choice=choice)
        before = tuple(a for a, _ in windows.sides)
        numbers = {"window": windows.window, "stride": windows.stride, "before": before}
        attributes = {name: np.array(values, np.int64) for name, values in numbers.items()}
        return native(ctx, x, other, **attributes)

    return define(name, shape, _batch, pure, cpu)


def _batch(
    primitive: Primitive, operands: Sequence[Array], dims: Sequence[int | None], **params: Any
) -> tuple[Array, int]:
    """vmap: the mapped axis is more of the batch."""
    whole = mapped_first(operands, dims)
    y = primitive.bind(*(a.reshape(-1, *a.shape[2:]) for a in whole), **params)
    return y.reshape(len(whole[0]), -1, *y.shape[1:]), 0


def _picked(x: Any, t: Any, *, windows: Windows, choice: Choice) -> Any:
    return t.update(shape=(x.shape[0], *windows.out_space, x.shape[-1]), weak_type=False)


def _placed(x: Any, y: Any, *, windows: Windows, choice: Choice) -> Any:
    return y.update(shape=x.shape, weak_type=False)


pick_p = _make("pool_pick", _pick, _picked)
place_p = _make("pool_place", _place, _placed)

# x but decides; where it does not, its tangent is nothing
ad.defjvp(pick_p, None, lambda dt, x, t, **params: pick_p.bind(x, dt, **params))
ad.defjvp(place_p, None, lambda dy, x, y, **params: place_p.bind(x, dy, **params))
ad.primitive_transposes[pick_p] = lambda ct, x, t, **params: [None, place_p.bind(x, ct, **params)]
ad.primitive_transposes[place_p] = lambda ct, x, y, **params: [None, pick_p.bind(x, ct, **params)]
