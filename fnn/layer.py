"""The layer: a pair of pure functions, and the one mechanism that looks inside a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Key = Array
Params = dict[str, Any]
State = dict[str, Any]
Shaped = Array | jax.ShapeDtypeStruct
Children = tuple[tuple[str, "Layer"], ...]
Stage = Callable[[Params, Any], Any]
"""``(params, x) -> y``."""


class LayerError(ValueError):
    """A layer got what it cannot work with; ``path`` says which layer.

    Containers put their child's name before the path, so that the message reads
    ``features/conv2: expected an input of rank 4 (batch, height, width, channels), got (128, 784)``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, eq=False)
class Layer:
    """A pair of pure functions, ``init`` and ``apply``; it unpacks as one.

    Attributes:
        init: ``(key, x) -> (params, state)``, where ``x`` is an array or a
            ``jax.ShapeDtypeStruct``: only its shape and dtype are read.
        apply: ``(params, state, x, *, key=None, train=False) -> (y, state)``.
        kind: What it is, ``"conv"``: names the unnamed.
        children: What a container is made of, in order, by name.
        rebuild: From children to the same container around them.
        name: The name that ``fnn.named`` gave it.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> init, apply = fnn.dense(10)
        >>> params, state = init(jax.random.key(0), jnp.ones((1, 4)))
        >>> y, state = apply(params, state, jnp.ones((1, 4)))
        >>> y.shape
        (1, 10)
    """

    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[Any, State]]
    kind: str = "layer"
    children: Children = ()
    rebuild: Callable[[Children], Layer] | None = None
    name: str | None = None

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.apply))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Always an error, the first that everybody makes; it shows the correct call."""
        raise TypeError(
            f"{self.kind} is a layer, a pair of functions, and is not called: as a part of a model it is "
            "written as it is, and applied by layer.apply(params, state, x)"
        )


@dataclass(frozen=True, eq=False)
class Staged:
    """The ``apply`` of a stateless layer in two stages, which lets `serial` put max pooling between them.

    Attributes:
        head: ``(params, x) -> y``; None: ``x`` as it is.
        tail: ``(params, y) -> y``, which changes each value by itself and keeps the order of a channel's
            values, as adding a bias and ReLU do. What selects the largest values may so come before it: the
            result is the same to the bit, and the tail has less to do.
        selects: Whether each output is one of a channel's values, the largest of some.
    """

    head: Stage | None
    tail: Stage | None = None
    selects: bool = False
    __name__ = "apply"

    def __call__(
        self, params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Any, State]:
        """Both stages, as the ``apply`` of any layer."""
        y = on_device(x)
        for stage in (self.head, self.tail):
            y = y if stage is None else stage(params, y)
        return y, state


def stateless(
    kind: str,
    forward: Stage | None,
    init: Callable[[Key, Any], Params] | None = None,
    *,
    tail: Stage | None = None,
    selects: bool = False,
) -> Layer:
    """Lift a layer without state from its simple form, ``forward(params, x) -> y``.

    Args:
        kind: What the layer is; unnamed children are numbered within their kind.
        forward: ``(params, x) -> y``, the same in training and evaluation, without randomness; None where
            all is done by ``tail``.
        init: ``(key, x) -> params``; by default the layer has none, and its ``init`` only follows the
            input's shape through ``forward``, so that a wrong input is refused.
        tail, selects: See `Staged`.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> double = fnn.stateless("double", lambda params, x: 2 * x)
        >>> print(double.apply({}, {}, jnp.ones(3))[0])
        [2. 2. 2.]
    """

    def lifted_init(key: Key, x: Shaped) -> tuple[Params, State]:
        if init is not None:
            return init(key, x), {}
        jax.eval_shape(lambda v: apply({}, {}, v)[0], x)
        return {}, {}

    apply = Staged(forward, tail, selects)
    return Layer(lifted_init, apply, kind)


def named(name: str, layer: Layer) -> Layer:
    """The same layer with a name of its own, which its place in a container keeps.

    Raises:
        LayerError: The name holds anything but letters, digits, ``_`` and ``-``.

    Example:
        >>> import fnn
        >>> [name for name, _ in fnn.serial(fnn.named("stem", fnn.dense(8)), fnn.relu).children]
        ['stem', 'relu1']
    """
    return replace(layer, name=check_name(name))


def check_name(name: str) -> str:
    """The name, if it can stand in a path."""
    if not name or not all(c.isalnum() or c in "_-" for c in name):
        raise LayerError(f"{name!r} cannot name a layer: use letters, digits, '_' and '-'")
    return name


def map_layers(f: Callable[[str, Layer], Layer], layer: Layer, path: str = "") -> Layer:
    """Rebuild a model with every layer in it replaced by ``f(path, layer)``.

    Children come before their container, and ``f`` sees the container around the
    new children. The model itself has the path ``""``. This is the only way into a
    model: summary, ``capture`` and the rest are written with it.

    Example:
        >>> import fnn
        >>> paths = []
        >>> model = fnn.serial(fnn.dense(8), fnn.relu, head=fnn.dense(1))
        >>> _ = fnn.map_layers(lambda path, layer: paths.append(path) or layer, model)
        >>> paths
        ['dense1', 'relu1', 'head', '']
    """
    if layer.rebuild is not None:
        children = tuple((n, map_layers(f, c, join(path, n))) for n, c in layer.children)
        layer = replace(layer.rebuild(children), kind=layer.kind, name=layer.name)
    return f(path, layer)


def join(path: str, name: str) -> str:
    """``name`` below ``path``."""
    return f"{path}/{name}" if path and name else path or name


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Run a child: its operations carry its name, and so do its errors."""
    with jax.named_scope(name):
        try:
            yield
        except LayerError as error:
            error.path = join(name, error.path)
            raise


def name_key(key: Key, name: str) -> Key:
    """The random key of the child ``name``: it depends on nothing but ``key`` and the name."""
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return jax.random.fold_in(key, int.from_bytes(digest))


def spec(x: Any) -> Any:
    """The shapes and dtypes of arrays, without their values.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.spec(jnp.ones((2, 3)))
        ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """
    return jax.eval_shape(lambda tree: tree, x)


def on_device(x: Any) -> Any:
    """NumPy arrays as JAX has them (float64 as float32, unless it is enabled); all else as it is."""
    return jax.tree.map(lambda v: jnp.asarray(v) if isinstance(v, np.ndarray) else v, x)


def leaf(tree: Params, name: str) -> Array:
    """The parameter or state ``name`` of a layer, or an error that says what is there instead."""
    if name not in tree:
        there = ", ".join(tree) or "nothing"
        raise LayerError(f"expected {name!r} among its parameters and state, got {there}")
    value: Array = tree[name]
    return value


def need_key(key: Key | None, kind: str) -> Key:
    """The key of a layer that draws at random, or an error that shows the correct call."""
    if key is None:
        raise LayerError(
            f"{kind} draws at random in training and needs a key: "
            "apply(params, state, x, key=jax.random.key(0), train=True)"
        )
    return key


def static_train(train: bool) -> bool:
    """``train`` as a Python bool, or an error that shows how to keep it one under ``jit``."""
    if isinstance(train, jax.core.Tracer):
        raise LayerError('train is a Python bool, but was traced: jax.jit(apply, static_argnames="train")')
    return bool(train)
