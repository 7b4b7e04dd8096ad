"""Random numbers of JAX's own generator, Threefry, the same to the bit and sooner.

On a CPU XLA passes over memory for every four of its rounds, and unrolls loops over short axes: to draw a
kernel of ``(3, 3, 8, 16)`` takes its compiler seconds. Here numbers are drawn natively, or else along one
axis, and get their shape afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import random
from jax.extend.core import Primitive
from jax.interpreters import mlir

from fnn.kernels.binding import define, explicit, mapped_first, vary_alike
from fnn.kernels.choice import Choice, is_plain, requested
from fnn.kernels.lowering import not_native
from fnn.kernels.native import loader


def quick_key(key: Array) -> Array:
    """A key from which the same numbers are drawn, in less time to compile and to run.

    Raw keys, and those of other generators, are given back as they are.

    Example:
        >>> import jax, fnn
        >>> key = jax.random.key(0)
        >>> x, y = (jax.random.normal(k, (5,)) for k in (key, fnn.kernels.quick_key(key)))
        >>> bool((x == y).all())
        True
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if is_plain() or not typed or jax.random.key_impl(key) != _THREEFRY.name:
        return key
    quick: Array = jax.random.wrap_key_data(jax.random.key_data(key), impl=_QUICK)
    return quick


def _random_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    n = math.prod(shape)
    bits: Array
    if width > 32 or not _counts(key, n):
        bits = _THREEFRY.random_bits(key, width, (n,))
    else:
        bits = _blocks(key, 0, n, words=1).astype(f"uint{width}")
    return bits.reshape(shape)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    n = math.prod(shape)
    keys: Array = _blocks(key, 0, n, words=2) if _counts(key, n) else _THREEFRY.split(key, (n,))
    return keys.reshape(*shape, 2)


def _fold_in(key: Array, number: Array) -> Array:
    made: Array = _THREEFRY.fold_in(key, number) if explicit(key) else _blocks(key, number, 1, words=2)[0]
    return made


def _counts(key: Array, n: Any) -> bool:
    """Whether number ``i`` is that of block ``i``; not so in JAX's older order."""
    counted: bool = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return counted and isinstance(n, int) and n < 2**32 and not explicit(key)


def _blocks(key: Array, first: Any, n: int, words: int) -> Array:
    first = jnp.asarray(first, jnp.uint32)
    made: Array = threefry_p.bind(*vary_alike(key, first), n=n, words=words, choice=requested())
    return made


_THREEFRY = random.threefry_prng_impl
_QUICK = random.define_prng_impl(
    **_THREEFRY._asdict()
    | {"split": _split, "random_bits": _random_bits, "fold_in": _fold_in, "name": "quick", "tag": "quick"}
)


def _form(keys: Array, first: Array, *, n: int, words: int, choice: Choice) -> Array:
    """In pure JAX, along one axis: for every key ``(..., 2)`` and its first counter ``(...)`` n blocks.

    Returns:
        Both words of each, ``(..., n, 2)``; or their bits xor-ed, ``(..., n)``.
    """
    high, low = keys[..., 0].reshape(-1), keys[..., 1].reshape(-1)
    high, low = (half[0] if len(half) == 1 else jnp.repeat(half, n) for half in (high, low))
    counters = (first.reshape(-1, 1) + jnp.arange(n, dtype=jnp.uint32).reshape(1, -1)).reshape(-1)
    a, b = random.threefry2x32_p.bind(high, low, jnp.zeros_like(counters), counters)
    made: Array = a ^ b if words == 1 else jnp.stack([a, b], -1)
    return made.reshape(_shape(keys, n, words))


def _shape(keys: Any, n: int, words: int) -> tuple[int, ...]:
    rows = (*keys.shape[:-1], n)
    return rows if words == 1 else (*rows, words)


_pure = mlir.lower_fun(_form, multiple_results=False)
_native = jax.ffi.ffi_lowering(loader.target("threefry"))


def _cpu(ctx: Any, keys: Any, first: Any, *, n: int, words: int, choice: Choice) -> Any:
    if not_native(ctx, choice, (jnp.uint32,)) is not None:
        return _pure(ctx, keys, first, n=n, words=words, choice=choice)
    return _native(ctx, keys, first, words=np.int64(words))


def _rows(keys: Any, first: Any, *, n: int, words: int, choice: Choice) -> Any:
    return keys.update(shape=_shape(keys, n, words))


def _batch(
    primitive: Primitive, operands: Sequence[Array], dims: Sequence[int | None], **params: Any
) -> tuple[Array, int]:
    return primitive.bind(*mapped_first(operands, dims), **params), 0


threefry_p = define("threefry", _rows, _batch, _pure, _cpu)
