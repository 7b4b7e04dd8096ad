"""One layer, run otherwise: many times in a row, or with its inner values computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import kernels
from fnn.combine import name_children, refuse_constructor, refuse_strangers, unless_empty
from fnn.layer import (
    Key,
    Layer,
    LayerError,
    Params,
    Shaped,
    State,
    inside,
    map_layers,
    name_key,
    spec,
    static_train,
)
from fnn.layers.checks import UNROLLED, positive
from fnn.registry import register


@register
def repeat(layer: Layer, n: int) -> Layer:
    """``n`` copies of a layer, one after the other, with parameters of their own.

    These are stacked: each array below ``layer`` has a leading axis of ``n``. The body is compiled once and
    scanned; where that is slow (`slow_in_a_loop`) it is unrolled: the same tree either way.

    Args:
        layer: Its output has the shape and dtype of its input.
        n: How many.

    Raises:
        LayerError: The layer changes the shape or dtype of its input.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.repeat(fnn.dense(4), 3).init(jax.random.key(0), jnp.ones((1, 4)))
        >>> params["layer"]["kernel"].shape
        (3, 4, 4)
    """
    positive("repeat", n=n)
    children = name_children("repeat", (), {"layer": layer})
    body = children[0][1]

    def init(key: Key, x: Shaped) -> tuple[Params, State]:
        x = spec(x)
        _check_constant(body, key, x)
        key = name_key(key, "layer")
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
        params, state = jax.vmap(lambda k: body.init(k, x))(keys)
        return unless_empty("layer", params), unless_empty("layer", state)

    def apply(
        params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Any, State]:
        static_train(train)
        refuse_strangers(children, params=params, state=state)
        key = None if key is None else name_key(key, "layer")

        def step(carry: Any, each: tuple[Array, Params, State]) -> tuple[Any, State]:
            i, own_params, own_state = each
            own_key = None if key is None else jax.random.fold_in(key, i)
            return body.apply(own_params, own_state, carry, key=own_key, train=train)

        each = (jnp.arange(n), params.get("layer", {}), state.get("layer", {}))
        with inside("layer"):
            run = _unrolled if slow_in_a_loop(body) and n <= UNROLLED else jax.lax.scan
            x, new = run(step, x, each)
        return x, unless_empty("layer", new)

    return Layer(init, apply, "repeat", children, lambda new: repeat(new[0][1], n))


@register
def remat(layer: Layer) -> Layer:
    """The same layer, whose inner values are computed again for the gradient instead of kept.

    Paths, parameters and values are those of the layer itself.

    Example:
        >>> import fnn
        >>> fnn.remat(fnn.serial(fnn.dense(8), fnn.relu)).kind
        'serial'

    Source: Chen et al. 2016, arXiv:1604.06174; ``jax.checkpoint``.
    """
    refuse_constructor("remat", layer)

    def apply(
        params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Any, State]:
        static_train(train)
        run = jax.checkpoint(lambda p, s, v, k: layer.apply(p, s, v, key=k, train=train))
        return run(params, state, x, key)  # type: ignore[no-any-return]

    rebuild = layer.rebuild
    return replace(layer, apply=apply, rebuild=rebuild and (lambda new: remat(rebuild(new))))


def slow_in_a_loop(layer: Layer) -> bool:
    """Whether XLA runs this layer many times slower inside of a compiled loop than outside of one.

    So it does with a convolution on a CPU that has no native kernel for it.

    Example:
        >>> import fnn
        >>> from fnn.repeat import slow_in_a_loop
        >>> slow_in_a_loop(fnn.serial(fnn.dense(8), fnn.relu))
        False
    """
    native = kernels.status().active == "onednn"
    return jax.default_backend() == "cpu" and not native and _has_convolution(layer)


def _check_constant(body: Layer, key: Key, x: Any) -> None:
    with inside("layer"):
        y = jax.eval_shape(lambda k, v: body.apply(*body.init(k, v), v)[0], key, x)
        if jax.tree.map(_form, y) != jax.tree.map(_form, x):
            raise LayerError(
                f"expected a layer whose output is like its input to repeat, got {_text(x)} and {_text(y)}"
            )


def _form(array: Any) -> tuple[Any, ...]:
    return (*array.shape, array.dtype)


def _text(tree: Any) -> str:
    return ", ".join(f"{leaf.dtype.name}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree))


def _unrolled(step: Callable[..., Any], x: Any, each: Any) -> tuple[Any, Any]:
    news = []
    for i in range(len(each[0])):
        x, new = step(x, jax.tree.map(lambda leaf: leaf[i], each))  # noqa: B023
        news.append(new)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *news)


def _has_convolution(layer: Layer) -> bool:
    kinds: set[str] = set()

    def note(path: str, inner: Layer) -> Layer:
        kinds.add(inner.kind)
        return inner

    map_layers(note, layer)
    return any("conv" in kind for kind in kinds)
