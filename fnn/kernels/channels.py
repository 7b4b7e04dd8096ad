"""What normalisation sums and spreads, channel by channel, in as few passes over memory as there can be.

`sums` and `spread` are each other's transposes: the gradient of a batch normalisation is one pass that sums
and one that spreads. All channel vectors are in `acc`, two of them stacked: ``(2, channels)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

from fnn.kernels.binding import define, explicit, vary_alike
from fnn.kernels.choice import Choice, requested
from fnn.kernels.lowering import not_native
from fnn.kernels.native import loader
from fnn.kernels.spec import acc

_SMALL = 1 << 15  # numbers: below, a call costs more than XLA's own sum


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, the last axis, over all others.

    The variance is that of the differences from the mean, never a difference of squares.
    """
    both = _moments(x) if explicit(x) else moments_p.bind(x, choice=requested())
    return both[0], both[1]


def spread(offset: Array, scale: Array, x: Array, mean: Array) -> Array:
    """``offset + scale * (x - mean)`` by channel, computed in `acc`, in the type of ``x``."""
    coefficients = jnp.stack([offset, scale])
    if explicit(x):
        return _spread(coefficients, x, mean)
    coefficients, x, mean = vary_alike(coefficients, x, mean)
    y: Array = spread_p.bind(coefficients, x, mean, choice=requested())
    return y


def add_channels(x: Array, offset: Array) -> Array:
    """``x + offset`` by channel, in the type of ``x``; computed, and the gradient summed, in `acc`."""
    offset = offset.astype(acc(x.dtype))
    if explicit(x):
        return _add(x, offset)
    x, offset = vary_alike(x, offset)
    y: Array = add_p.bind(x, offset, choice=requested())
    return y


def _add(x: Array, offset: Array) -> Array:
    return (x.astype(offset.dtype) + _along(offset, x)).astype(x.dtype)


def _total(x: Array) -> Array:
    return jnp.sum(x.astype(acc(x.dtype)), tuple(range(x.ndim - 1)))


def _moments(x: Array) -> Array:
    wide = x.astype(acc(x.dtype))
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(wide, axes)
    return jnp.stack([mean, jnp.mean(jnp.square(wide - _along(mean, x)), axes)])


def _sums(u: Array, v: Array, mean: Array) -> Array:
    """The sums of ``u`` and of ``u * (v - mean)``, by channel."""
    wide = u.astype(mean.dtype)
    axes = tuple(range(u.ndim - 1))
    products = wide * (v.astype(mean.dtype) - _along(mean, v))
    return jnp.stack([jnp.sum(wide, axes), jnp.sum(products, axes)])


def _spread(coefficients: Array, v: Array, mean: Array) -> Array:
    offset, scale = (_along(c, v) for c in coefficients)
    return (offset + scale * (v.astype(mean.dtype) - _along(mean, v))).astype(v.dtype)


def _along(channels: Array, x: Array) -> Array:
    return channels.reshape((1,) * (x.ndim - 1) + (-1,))


def _make(name: str, form: Callable[..., Array], shape: Callable[..., Any], native: bool) -> Primitive:
    pure = mlir.lower_fun(lambda *operands, choice: form(*operands), multiple_results=False)
    call = jax.ffi.ffi_lowering(loader.target(name))

    def cpu(ctx: Any, *operands: Any, choice: Choice) -> Any:
        # that it can be native comes first: then the sizes are numbers
        if not native or not_native(ctx, choice) is not None or _is_small(ctx):
            return pure(ctx, *operands, choice=choice)
        return call(ctx, *operands)

    def batch(
        primitive: Primitive, operands: Sequence[Array], dims: Sequence[int | None], *, choice: Choice
    ) -> tuple[Array, int]:
        return jax.vmap(form, tuple(dims))(*operands), 0

    return define(name, shape, batch, pure, cpu)


def _is_small(ctx: Any) -> bool:
    small: bool = max(math.prod(aval.shape) for aval in ctx.avals_in) < _SMALL
    return small


def _by_channel(x: Any, *others: Any, choice: Choice) -> Any:
    return x.update(shape=(2, x.shape[-1]), dtype=acc(x.dtype), weak_type=False, sharding=None)


def _like_second(coefficients: Any, v: Any, mean: Any, *, choice: Choice) -> Any:
    return v.update(weak_type=False)


moments_p = _make("channel_moments", _moments, _by_channel, native=True)
sums_p = _make("channel_sums", _sums, _by_channel, native=True)
spread_p = _make(
    "channel_spread", _spread, lambda c, v, mean, *, choice: v.update(weak_type=False), native=False
)


def _like_first(x: Any, offset: Any, *, choice: Choice) -> Any:
    return x.update(weak_type=False)


def _one_row(x: Any, *, choice: Choice) -> Any:
    return x.update(shape=x.shape[-1:], dtype=acc(x.dtype), weak_type=False, sharding=None)


add_p = _make("channel_add", _add, _like_first, native=False)
total_p = _make("channel_total", _total, _one_row, native=True)


def _of_moments(dx: Array, x: Array, *, choice: Choice) -> Array:
    n = math.prod(x.shape[:-1])
    mean = moments_p.bind(x, choice=choice)[0]
    share = jnp.asarray([[1 / n], [2 / n]], mean.dtype)
    sums: Array = sums_p.bind(dx, x, mean, choice=choice)
    return share * sums


def _only(row: int, values: Array) -> Array:
    """Two rows of channels, of which one holds the values and the other nothing."""
    rows = [jnp.zeros_like(values), jnp.zeros_like(values)]
    rows[row] = values
    return jnp.stack(rows)


ad.defjvp(moments_p, _of_moments)
ad.defjvp(
    sums_p,
    lambda du, u, v, mean, *, choice: sums_p.bind(du, v, mean, choice=choice),
    lambda dv, u, v, mean, *, choice: _only(1, sums_p.bind(dv, u, jnp.zeros_like(mean), choice=choice)[1]),
    lambda dm, u, v, mean, *, choice: _only(1, -dm * sums_p.bind(u, v, mean, choice=choice)[0]),
)
ad.defjvp(
    spread_p,
    lambda dc, c, v, mean, *, choice: spread_p.bind(dc, v, mean, choice=choice),
    lambda dv, c, v, mean, *, choice: (_along(c[1], v) * dv.astype(mean.dtype)).astype(v.dtype),
    lambda dm, c, v, mean, *, choice: spread_p.bind(_only(0, -c[1] * dm), v, mean, choice=choice),
)
ad.primitive_transposes[sums_p] = lambda ct, u, v, mean, *, choice: [
    spread_p.bind(ct, v, mean, choice=choice),
    None,
    None,
]
ad.primitive_transposes[spread_p] = lambda ct, c, v, mean, *, choice: [
    sums_p.bind(ct, v, mean, choice=choice),
    None,
    None,
]
ad.deflinear2(add_p, lambda ct, x, offset, *, choice: [ct, total_p.bind(ct, choice=choice)])
ad.deflinear2(total_p, lambda ct, x, *, choice: [jnp.broadcast_to(ct.astype(x.aval.dtype), x.aval.shape)])
