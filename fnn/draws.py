"""Random numbers, the same to the bit, that compile in a tenth of the time.

XLA unrolls loops over short axes on a CPU, and a random number is a hundred operations: to draw a kernel of
``(3, 3, 8, 16)`` takes its compiler seconds.
"""

from __future__ import annotations

import math

import jax
from jax import Array
from jax.extend import random

from fnn.layer import Key


def flat(key: Key) -> Key:
    """A key that draws what this one does, along one axis, and gives it its shape afterwards.

    Keys of another generator than JAX's own threefry are given back as they are.

    Example:
        >>> import jax
        >>> from fnn.draws import flat
        >>> key = jax.random.key(0)
        >>> bool((jax.random.normal(flat(key), (3, 3, 8, 16)) == jax.random.normal(key, (3, 3, 8, 16))).all())
        True
    """
    if jax.random.key_impl(key) != _THREEFRY.name:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_FLAT)


def _random_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    return _THREEFRY.random_bits(key, width, (math.prod(shape),)).reshape(shape)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return _THREEFRY.split(key, (math.prod(shape),)).reshape(*shape, *_THREEFRY.key_shape)


_THREEFRY = random.threefry_prng_impl
_FLAT = random.define_prng_impl(
    **_THREEFRY._asdict() | {"split": _split, "random_bits": _random_bits, "name": "flat", "tag": "flat"}
)
