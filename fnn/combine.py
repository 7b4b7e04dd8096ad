"""Combinators: layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.layer import (
    Children,
    Key,
    Layer,
    LayerError,
    Params,
    Shaped,
    Stage,
    Staged,
    State,
    check_name,
    inside,
    name_key,
    on_device,
    spec,
    static_train,
)
from fnn.registry import register
from fnn.trees import near


@register
def serial(*layers: Layer, **named: Layer) -> Layer:
    """One layer after the other.

    Max pooling comes before a bias and a ReLU that are written before it: the values are the same to the bit,
    and there are fewer of them to work on. Of values that only rounding made equal, the largest takes the
    gradient.

    Args:
        *layers: Children, named by kind and number (``conv1``, ``conv2``, ``dense1``) or by `fnn.named`.
        **named: Further children, by name.

    Raises:
        LayerError: Two children have one name, or something is no layer.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> model = fnn.serial(fnn.conv(8, 3), fnn.relu, fnn.global_avg_pool, head=fnn.dense(10))
        >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
        >>> list(fnn.paths(params))
        ['conv1/bias', 'conv1/kernel', 'head/bias', 'head/kernel']
    """
    return _container("serial", name_children("serial", layers, named), _one_after_the_other)


@register
def residual(body: Layer, skip: Layer | None = None, activation: Layer | None = None) -> Layer:
    """``body(x) + skip(x)``; without a skip ``body(x) + x``.

    Args:
        body: What learns the difference.
        skip: What makes the input fit, where the body changes its shape.
        activation: What the sum goes through, as through ReLU in the paper.

    Raises:
        LayerError: The two shapes differ.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.residual(fnn.relu).apply({}, {}, jnp.array([-1.0, 2.0]))[0])
        [-1.  4.]

    Source: He et al. 2015, arXiv:1512.03385.
    """
    given = {"body": body, "skip": skip, "activation": activation}

    def flow(run: _Run, children: Children, x: Any) -> Any:
        outputs = {name: run(name, child, x) for name, child in children if name != "activation"}
        y = run.join(_sum, outputs if skip is not None else {**outputs, "input": x})
        return y if activation is None else run("activation", dict(children)["activation"], y)

    branches = {name: child for name, child in given.items() if child is not None}
    return _container("residual", name_children("residual", (), branches), flow)


@register
def add(*branches: Layer, **named: Layer) -> Layer:
    """The sum of branches that see the same input.

    Args:
        *branches, **named: Children, as in `serial`.

    Raises:
        LayerError: Their output shapes differ.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.add(fnn.relu, fnn.tanh).apply({}, {}, jnp.array([0.0]))[0])
        [0.]
    """
    return _container("add", name_children("add", branches, named), _side_by_side(_sum))


@register
def concat(*branches: Layer, **named: Layer) -> Layer:
    """Branches that see the same input, their outputs side by side on the last axis.

    Args:
        *branches, **named: Children, as in `serial`.

    Raises:
        LayerError: Their output shapes differ elsewhere.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.concat(fnn.relu, fnn.tanh).apply({}, {}, jnp.array([[0.0]]))[0])
        [[0. 0.]]

    Source: Szegedy et al. 2014, arXiv:1409.4842.
    """
    return _container("concat", name_children("concat", branches, named), _side_by_side(_concatenate))


class _Run:
    """One pass over a container's children: runs each with its own share of params, state and key."""

    def __init__(
        self, children: Children, params: Params, state: State, key: Key | None, train: bool
    ) -> None:
        refuse_strangers(children, params=params, state=state)
        self.params, self.old_state, self.key = params, state, key
        self.train = static_train(train)
        self.state: State = {}

    def __call__(self, name: str, child: Layer, x: Any) -> Any:
        key = None if self.key is None else name_key(self.key, name)
        with inside(name):
            own = self.params.get(name, {}), self.old_state.get(name, {})
            y, state = child.apply(*own, x, key=key, train=self.train)
        self.state |= unless_empty(name, state)
        return y

    def in_order(self, children: Children, x: Any) -> Any:
        """One child after the other; but what selects values comes before the tails that it does not mind."""
        waiting: dict[str, Stage] = {}
        for name, child in children:
            staged = child.apply if isinstance(child.apply, Staged) else Staged(child.apply)
            if not staged.selects and staged.head is not None:
                x, waiting = self._finished(waiting, x), {}
            if staged.tail is None:
                x = self(name, child, x)
                continue
            if staged.head is not None:
                x = self._staged(name, staged.head, x)
            waiting[name] = staged.tail
        return self._finished(waiting, x)

    def _finished(self, waiting: dict[str, Stage], x: Any) -> Any:
        for name, tail in waiting.items():
            x = self._staged(name, tail, x)
        return x

    def _staged(self, name: str, stage: Stage, x: Any) -> Any:
        self.state |= unless_empty(name, self.old_state.get(name, {}))
        with inside(name):
            return stage(self.params.get(name, {}), on_device(x))

    def join(self, function: Callable[[dict[str, Any]], Any], outputs: dict[str, Any]) -> Any:
        return function(outputs)


class _Init(_Run):
    """The first pass, over shapes: makes each child's params and state."""

    def __init__(self, key: Key) -> None:
        super().__init__((), {}, {}, key, False)
        self.init_key = key

    def __call__(self, name: str, child: Layer, x: Any) -> Any:
        with inside(name):
            params, state = child.init(name_key(self.init_key, name), x)
            y = _output(child, params, state, x)
            _check_axes(y)
        self.params |= unless_empty(name, params)
        self.state |= unless_empty(name, state)
        return y

    def in_order(self, children: Children, x: Any) -> Any:
        for name, child in children:
            x = self(name, child, x)
        return x

    def join(self, function: Callable[[dict[str, Any]], Any], outputs: dict[str, Any]) -> Any:
        in_order = list(outputs)  # a dict of arrays comes out of JAX with its keys sorted
        return jax.eval_shape(
            lambda ys: function(dict(zip(in_order, ys, strict=True))), list(outputs.values())
        )


Flow = Callable[[_Run, Children, Any], Any]
"""How a container's input goes through its children."""


def _container(kind: str, children: Children, flow: Flow) -> Layer:
    def init(key: Key, x: Shaped) -> tuple[Params, State]:
        run = _Init(key)
        flow(run, children, spec(x))
        return run.params, run.state

    def apply(
        params: Params, state: State, x: Any, *, key: Key | None = None, train: bool = False
    ) -> tuple[Any, State]:
        run = _Run(children, params, state, key, train)
        return flow(run, children, x), run.state

    return Layer(init, apply, kind, children, lambda new: _container(kind, new, flow))


def _one_after_the_other(run: _Run, children: Children, x: Any) -> Any:
    return run.in_order(children, x)


def _side_by_side(function: Callable[[dict[str, Any]], Any]) -> Flow:
    return lambda run, children, x: run.join(
        function, {name: run(name, child, x) for name, child in children}
    )


def _sum(outputs: dict[str, Array]) -> Array:
    if len({(y.shape, y.dtype) for y in outputs.values()}) > 1:
        raise LayerError(f"expected outputs of one shape and dtype to add, got {_shapes(outputs)}")
    first, *rest = outputs.values()
    return sum(rest, start=first)


def _concatenate(outputs: dict[str, Array]) -> Array:
    if len({(y.shape[:-1], y.dtype) for y in outputs.values()}) > 1:
        raise LayerError(f"expected outputs that differ in their last axis alone, got {_shapes(outputs)}")
    return jnp.concatenate(list(outputs.values()), axis=-1)


def _shapes(outputs: dict[str, Array]) -> str:
    return ", ".join(f"{name} {y.dtype.name}{list(y.shape)}" for name, y in outputs.items())


def name_children(kind: str, unnamed: tuple[Layer, ...], named: dict[str, Layer]) -> Children:
    """Children with their names: their own, or their kind and number."""
    numbers: dict[str, int] = {}
    children: dict[str, Layer] = {}
    for name, child in [*((None, layer) for layer in unnamed), *named.items()]:
        refuse_constructor(kind, child)
        name = name or child.name
        if name is None:
            numbers[child.kind] = numbers.get(child.kind, 0) + 1
            name = f"{child.kind}{numbers[child.kind]}"
        if name in children:
            raise LayerError(f"{kind} has two children named {name!r}: give one another name, fnn.named(...)")
        children[check_name(name)] = child
    if not children and kind != "serial":
        raise LayerError(f"{kind} needs a layer or more")
    return tuple(children.items())


def refuse_constructor(kind: str, child: Any) -> None:
    """An error where a container was given something else than a layer, such as its constructor."""
    if isinstance(child, Layer):
        return
    name = getattr(child, "__name__", None)
    hint = f": write {name}(...), a call, even with its defaults" if callable(child) and name else ""
    raise LayerError(f"{kind} is made of layers, got {name or repr(child)}{hint}")


def refuse_strangers(children: Children, **trees: dict[str, Any]) -> None:
    """An error where ``params`` or ``state`` hold something that names no child."""
    names = [name for name, _ in children]
    for what, tree in trees.items():
        for key in tree:
            if key not in names:
                raise LayerError(f"{key!r} in {what} names no child; nearest: {near(key, names)}")


def unless_empty(name: str, tree: dict[str, Any]) -> dict[str, Any]:
    """A child's share of a tree; nothing where it has none."""
    return {name: tree} if tree else {}


def _check_axes(y: Any) -> None:
    """Refuse what no array can be: JAX counts along an axis in int32."""
    for leaf in jax.tree.leaves(y):
        if max(leaf.shape, default=0) >= 2**31:
            raise LayerError(f"expected an output whose axes are below 2**31, got {leaf.shape}")


def _output(layer: Layer, params: Params, state: State, x: Any) -> Any:
    """The shapes that a layer gives for the shapes ``x``."""
    return jax.eval_shape(lambda p, s, v: layer.apply(p, s, v)[0], params, state, x)
