"""Initialisers: JAX's, by name.

Kernels start from ``he_normal``: variance 2 / fan-in keeps the second moment of the signal through a
ReLU, the activation that most layers here feed (He et al. 2015, arXiv:1502.01852). For sigmoid and tanh
give ``lecun_normal`` or ``glorot_uniform``. Biases start from ``zeros``: nothing is known of them yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.nn import initializers as jax_initializers

from fnn.kernels import quick_key
from fnn.layer import LayerError
from fnn.trees import near

Initializer = Callable[..., Array]
"""``(key, shape, dtype) -> array``."""

INITIALIZERS: dict[str, Callable[..., Initializer]] = {
    "zeros": lambda: jax_initializers.zeros,
    "ones": lambda: jax_initializers.ones,
    **{
        name: getattr(jax_initializers, name)
        for name in (
            "constant", "normal", "truncated_normal", "uniform", "variance_scaling",
            "lecun_normal", "lecun_uniform", "he_normal", "he_uniform",
            "glorot_normal", "glorot_uniform", "orthogonal", "delta_orthogonal",
        )
    },
}  # fmt: skip
"""Constructors of initialisers by name; their arguments are JAX's own."""


def initializer(choice: str | Initializer) -> Initializer:
    """An initialiser from its name with default arguments, or the function itself.

    Raises:
        ValueError: The name is unknown, or needs arguments.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> print(initializer("ones")(jax.random.key(0), (2,), jnp.float32))
        [1. 1.]
    """
    if callable(choice):
        return choice
    if choice not in INITIALIZERS:
        raise ValueError(f"unknown initializer {choice!r}; nearest: {near(choice, INITIALIZERS)}")
    constructor = INITIALIZERS[choice]
    needed = [p.name for p in inspect.signature(constructor).parameters.values() if p.default is p.empty]
    if needed:
        raise ValueError(f"initializer {choice!r} needs arguments: {', '.join(needed)}")
    return constructor()


def make(
    key: Array, shape: tuple[int, ...], kernel_init: Initializer, bias_init: Initializer | None
) -> dict[str, Any]:
    """``kernel`` and, unless ``bias_init`` is None, ``bias`` over its last axis, both float32.

    Raises:
        LayerError: As `drawn`.
    """
    kernel_key, bias_key = jax.random.split(key)
    params = {"kernel": drawn("kernel", kernel_init, kernel_key, shape)}
    if bias_init is not None:
        params["bias"] = drawn("bias", bias_init, bias_key, shape[-1:])
    return params


def drawn(name: str, init: Initializer, key: Array, shape: tuple[int, ...]) -> Array:
    """A parameter in float32.

    Raises:
        LayerError: The initialiser cannot make an array of this shape.
    """
    try:
        return init(quick_key(key), shape, jax.numpy.float32)
    except (ValueError, TypeError, IndexError) as error:
        raise LayerError(f"{name}_init cannot make a {name} of {shape}: {error}") from error
