"""Inner outputs of a model, by path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from fnn.layer import Key, Layer, Params, Shaped, State, join, map_layers
from fnn.trees import matches

_OUTPUT = "@output"  # no layer can be named so


def capture(model: Layer, pattern: str = "*") -> Layer:
    """The same model, which also returns inner outputs, in its state.

    Through ``jit``, ``scan``, ``vmap`` and ``remat`` they come out as all state does; `captured` reads
    them from it. The new model takes params and state of the old one, or makes its own.

    Args:
        model: Any layer.
        pattern: A glob over paths (``features/*``): whose outputs are returned.

    Raises:
        ValueError: The pattern matches no layer.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> model = fnn.serial(fnn.dense(8), fnn.relu, fnn.dense(2))
        >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> y, state = fnn.capture(model).apply(params, state, jnp.ones((1, 4)))
        >>> {path: output.shape for path, output in fnn.captured(state).items()}
        {'': (1, 2), 'dense1': (1, 8), 'dense2': (1, 2), 'relu1': (1, 8)}
    """
    seen: list[str] = []

    def wrap(path: str, layer: Layer) -> Layer:
        if not matches(pattern, path):
            return layer
        seen.append(path)
        return _capturing(layer)

    captured_model = map_layers(wrap, model)
    if not seen:
        raise ValueError(f"capture: pattern {pattern!r} matches no layer")
    return captured_model


def captured(state: State, path: str = "") -> dict[str, Any]:
    """The outputs that a captured model left in its state, by path; the model's own is ``""``.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> _, state = fnn.capture(fnn.relu).apply({}, {}, jnp.array([-1.0, 1.0]))
        >>> print(fnn.captured(state)[""])
        [0. 1.]
    """
    outputs = {path: state[_OUTPUT]} if _OUTPUT in state else {}
    for name, child in state.items():
        if name != _OUTPUT and isinstance(child, dict):
            outputs |= captured(child, join(path, name))
    return dict(sorted(outputs.items()))


def _capturing(layer: Layer) -> Layer:
    def init(key: Key, x: Shaped) -> tuple[Params, State]:
        params, state = layer.init(key, x)
        y = jax.eval_shape(lambda p, s, v: layer.apply(p, s, v)[0], params, state, x)
        return params, {**state, _OUTPUT: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), y)}

    def apply(
        params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Any, State]:
        own = {name: leaf for name, leaf in state.items() if name != _OUTPUT}
        y, own = layer.apply(params, own, x, key=key, train=train)
        return y, {**own, _OUTPUT: y}

    rebuild = layer.rebuild
    return replace(layer, init=init, apply=apply, rebuild=rebuild and (lambda new: _capturing(rebuild(new))))
