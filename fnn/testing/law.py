"""What a law is, and what it is tried on."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.layer import Key, Layer, Shaped, State
from fnn.testing.compare import differences, outcome

DTYPES = (jnp.float32, jnp.bfloat16)
"""What activations are of, outside of JAX's 64-bit mode."""


class Law(Protocol):
    """``(layer, x, key=None) -> None``, where ``x`` is an input of two or more examples."""

    def __call__(self, layer: Layer, x: Any, key: Key | None = None) -> None:
        """Raise an ``AssertionError`` if the layer breaks the law."""


LAWS: dict[str, Law] = {}
"""Every law by its name."""


def law(check: Callable[[Trial], None]) -> Law:
    """Enter a law into `LAWS`; whatever goes wrong in it becomes one line that names it.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.testing.LAWS["plain_names"](fnn.relu, jnp.ones((1, 2)))
        Traceback (most recent call last):
        AssertionError: plain_names: expected an input of two or more examples, got (1, 2)
    """
    name: str = check.__name__

    @functools.wraps(check)
    def named(layer: Layer, x: Any, key: Key | None = None) -> None:
        try:
            check(Trial(layer, x, key))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
        except Exception as error:
            line = str(error).strip().partition("\n")[0]
            raise AssertionError(f"{name}: {type(error).__name__}: {line}") from error

    LAWS[name] = named
    return named


class Trial:
    """A layer with an input, keys, parameters and state, and the ways to run it.

    Whatever the laws do beside running the layer is done by NumPy, which compiles nothing.
    """

    def __init__(self, layer: Layer, x: Any, key: Key | None) -> None:
        self.layer, x = layer, jnp.asarray(x)
        if x.ndim < 1 or x.shape[0] < 2:
            raise AssertionError(f"expected an input of two or more examples, got {x.shape}")
        self.floating = bool(jnp.issubdtype(x.dtype, jnp.floating))
        self.x = x.astype(jnp.float32) if self.floating else x
        self.init_key, self.key = jax.random.split(jax.random.key(0) if key is None else key)
        self.seed: list[int] = np.asarray(jax.random.key_data(self.init_key)).tolist()
        params, self.state = layer.init(self.init_key, self.x)
        # What starts from zeros, as biases do, would hide faults.
        self.params = jax.tree.map(
            lambda p, n: jnp.asarray(np.asarray(p) + 0.1 * n), params, self.noise(params)
        )
        self.compiled = jax.jit(layer.apply, static_argnames="train")  # shared by all laws: one layer.apply

    def run(self, x: Any = None, *, state: State | None = None, key: Key | None = None, train: bool) -> Any:
        """What a compiled pass gives, by name."""
        x, state = self.x if x is None else x, self.state if state is None else state
        key = self.key if key is None else key
        return outcome(self.compiled(self.params, state, x, key=key, train=train))

    def shapes(self, x: Shaped, *, train: bool) -> Any:
        """The shapes and dtypes of what a pass over an input like this gives."""
        apply = functools.partial(self.layer.apply, train=train)
        return outcome(jax.eval_shape(apply, self.params, self.state, x, key=self.key))

    @functools.cached_property
    def modes(self) -> dict[str, bool]:
        """Evaluation and, where it is another program, training."""
        both = {"evaluation": False, "training": True}

        def program(train: bool) -> str:
            apply = functools.partial(self.layer.apply, train=train)
            return str(jax.make_jaxpr(apply)(self.params, self.state, self.x, key=self.key))

        one_program = program(True) == program(False)
        one_value = not differences(self.run(train=True), self.run(train=False))
        return {"evaluation": False} if one_program and one_value else both

    @functools.cached_property
    def moved(self) -> State:
        """The state after a step of training: a new one's zeros and ones may hide faults."""
        state: State = self.run(train=True)["state"]
        return state

    def inputs(self, n: int) -> np.ndarray:
        """So many inputs like ``x`` that differ: in the order of examples and, if floating, in scale."""
        x = np.asarray(self.x)
        return np.stack([np.roll(x * np.float32(1 + i / 4) if self.floating else x, i, 0) for i in range(n)])

    def specs(self) -> list[jax.ShapeDtypeStruct]:
        """The input's shape in every dtype that it may have."""
        dtypes = DTYPES if self.floating else (self.x.dtype,)
        return [jax.ShapeDtypeStruct(self.x.shape, dtype) for dtype in dtypes]

    def noise(self, tree: Any) -> Any:
        """Normal noise in float32 for every leaf, drawn by its path."""

        def one(path: Any, leaf: Any) -> Any:
            seed = [*self.seed, zlib.crc32(jax.tree_util.keystr(path).encode())]
            return np.random.default_rng(seed).standard_normal(leaf.shape, np.float32)

        return jax.tree_util.tree_map_with_path(one, tree)

    def loss(self, train: bool) -> Callable[[Any], Array]:
        """From ``{"params": ..., "x": ...}`` to one number: the outputs' sum, each weighted by noise."""

        def loss(at: Any) -> Array:
            params, x = at.get("params", self.params), at.get("x", self.x)
            y, _ = self.layer.apply(params, self.state, x, key=self.key, train=train)
            leaves = floats(y)
            return dot(
                leaves, [jnp.asarray(n, v.dtype) for v, n in zip(leaves, self.noise(leaves), strict=True)]
            )

        return loss


def floats(y: Any) -> list[Array]:
    """The floating-point arrays of an output: what has a gradient."""
    return [leaf for leaf in jax.tree.leaves(y) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def dot(one: Any, other: Any) -> Array:
    """The scalar product of two trees; 0 for empty ones."""
    products: list[Array] = jax.tree.leaves(jax.tree.map(jnp.vdot, one, other))
    return functools.reduce(jnp.add, products) if products else jnp.zeros(())
