"""What training leaves as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jax import Array

from fnn.layer import Key, Layer, Params, State, map_layers, static_train
from fnn.trees import matches, paths


def still(model: Layer, patterns: Sequence[str], state: State) -> Layer:
    """The same model, in which layers whose state is frozen run in training as they do in evaluation.

    Batch normalisation whose ``mean`` and ``var`` a pattern covers uses these, and does not move them. So
    ``features/**`` leaves nothing in it to move, and ``features/**/kernel`` only the kernels as they are.
    Layers without state are as they were; dropout still drops.

    Args:
        model: Any layer.
        patterns: Globs over the paths of the state.
        state: The model's, as arrays or shapes.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> from fnn.training.freeze import still
        >>> model, x = fnn.serial(fnn.batch_norm()), jnp.array([[0.0], [2.0]])
        >>> params, state = model.init(jax.random.key(0), x)
        >>> y, after = still(model, ["*"], state).apply(params, state, x, train=True)
        >>> print(y.ravel().round(3), after["batch_norm1"]["mean"])
        [0. 2.] [0.]
    """
    leaves = list(paths(state))
    frozen = {path for path in leaves if any(matches(pattern, path) for pattern in patterns)}

    def replaced(path: str, layer: Layer) -> Layer:
        own = [name for name in leaves if name.startswith(f"{path}/" if path else "")]
        if layer.rebuild is not None or not own or not frozen.issuperset(own):
            return layer
        return _evaluating(layer)

    return map_layers(replaced, model) if frozen else model


def _evaluating(layer: Layer) -> Layer:
    def apply(
        params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Array, State]:
        static_train(train)
        return layer.apply(params, state, x, key=key, train=False)

    return replace(layer, apply=apply)
