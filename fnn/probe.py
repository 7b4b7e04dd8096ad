"""A model that shows what goes into and comes out of every layer, and takes something added there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from fnn.layer import Key, Layer, Params, State, map_layers
from fnn.trees import from_paths, paths

INPUT, OUTPUT = "@input", "@output"  # no layer can be named so


@dataclass
class Site:
    """A layer of a model, where it is applied.

    Attributes:
        path, kind: Of the layer.
        container: Whether it is made of layers.
        input, output: What goes in and comes out in one application; of a layer that is repeated, in one
            repetition.
        fixed_input, fixed_output: Whether that is the same whatever the parameters are: no gradient
            comes there.
    """

    path: str
    kind: str
    container: bool
    input: jax.ShapeDtypeStruct
    output: jax.ShapeDtypeStruct
    fixed_input: bool = True
    fixed_output: bool = True


class Probe:
    """A model whose every layer returns its input and its output, and adds something to both.

    Values come out in the state, and what is added goes in there, so that both go through ``jit``, ``scan``
    and ``remat``. Added is −0.0, which changes no bit, and the derivative by what was added is the gradient
    that arrives at this place: at an output from all that use it, at an input from this layer alone. A
    ``serial`` is left out: its output is that of its last child.

    Attributes:
        model: The layer to apply, with the params of the model that was given.
        sites: Its layers by path, in the order in which they were applied. Filled by `zeros`.
        repeats: The paths of those that run the layers in them many times.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> from fnn.probe import Probe
        >>> probe = Probe(fnn.serial(fnn.dense(3), fnn.tanh))
        >>> x = jnp.ones((2, 4))
        >>> params, state = probe.model.init(jax.random.key(0), x)
        >>> zeros = probe.zeros(params, state, x, None)
        >>> def loss(added):
        ...     y, new = probe.model.apply(params, probe.adding(state, added), x, train=True)
        ...     return jnp.sum(y**2), probe.values(new)
        >>> gradients, values = jax.grad(loss, has_aux=True)(zeros)
        >>> {name: value.shape for name, value in values.items()}
        {'dense1/@input': (2, 4), 'dense1/@output': (2, 3), 'tanh1/@input': (2, 3), 'tanh1/@output': (2, 3)}
        >>> bool(jnp.allclose(gradients["tanh1/@output"], 2 * values["tanh1/@output"]))
        True
        >>> "dense1/@input" in gradients  # no parameter stands before it
        False
    """

    def __init__(self, model: Layer) -> None:
        self.sites: dict[str, Site] = {}
        self.repeats: list[str] = []
        self._fixed: list[Any] | None = None  # what no parameter has a part in; None: nothing is noted
        self.model = map_layers(self._watch, model)

    def zeros(self, params: Params, state: State, x: Any, key: Key | None) -> dict[str, Any]:
        """What is added so that no bit changes: by name, wherever a gradient comes.

        Args:
            params, state, x, key: Of an application in training; only shapes and dtypes are read.
        """

        def run(params: Params, state: State, x: Any, key: Key | None) -> dict[str, Any]:
            self.sites, self._fixed = {}, [x]
            return self.values(self.model.apply(params, state, x, key=key, train=True)[1])

        try:
            shapes = jax.eval_shape(run, params, state, x, key)
        finally:
            self._fixed = None
        return {name: jnp.full(s.shape, -0.0, s.dtype) for name, s in shapes.items() if self._takes(name, s)}

    def adding(self, state: State, added: dict[str, Any]) -> State:
        """The state that carries what is added in."""
        return from_paths({**paths(state), **added})

    def values(self, state: State) -> dict[str, Any]:
        """The inputs and outputs in a state that came out, ``<path>/@input`` and ``<path>/@output``."""
        return {name: value for name, value in paths(state).items() if name.endswith((INPUT, OUTPUT))}

    def _takes(self, name: str, value: Any) -> bool:
        path, _, end = ("/" + name).rpartition("/")
        site = self.sites[path.removeprefix("/")]
        fixed = site.fixed_input if end == INPUT else site.fixed_output
        return not fixed and jnp.issubdtype(value.dtype, jnp.floating)

    def _watch(self, path: str, layer: Layer) -> Layer:
        if layer.kind == "repeat":
            self.repeats.append(path)
        if layer.kind == "serial" and layer.children:
            return layer

        def apply(
            params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
        ) -> tuple[Any, State]:
            own = {name: leaf for name, leaf in state.items() if name not in (INPUT, OUTPUT)}
            seen = _plus(x, state.get(INPUT))
            y, new = layer.apply(params, own, seen, key=key, train=train)
            if not (isinstance(seen, jax.Array) and isinstance(y, jax.Array)):
                return y, new
            self._note(path, layer, params, seen, y)
            y = _plus(y, state.get(OUTPUT))
            return y, {**new, INPUT: seen, OUTPUT: y}

        return replace(layer, apply=apply)

    def _note(self, path: str, layer: Layer, params: Params, x: Any, y: Any) -> None:
        """Note where a layer was applied. What is the same object as something fixed is fixed, too."""
        if self._fixed is None:
            return
        form = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct(y.shape, y.dtype)
        site = self.sites.setdefault(path, Site(path, layer.kind, bool(layer.children), *form))
        fixed = any(x is known for known in self._fixed)
        site.fixed_input &= fixed
        site.fixed_output &= fixed and not jax.tree.leaves(params)
        if fixed and not jax.tree.leaves(params):
            self._fixed.append(y)


def _plus(value: Any, added: Any) -> Any:
    return value if added is None else value + added
