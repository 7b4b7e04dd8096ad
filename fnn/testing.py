"""The laws that every layer keeps: one small function a law, to hold your own layers to.

``check_layer`` runs them all, `LAWS` holds them by name. The laws' docstrings say what is promised; a broken
one raises an ``AssertionError`` that names the law and says what differed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.layer import Key, Layer, LayerError, State, join, map_layers, name_key, spec
from fnn.trees import paths

__all__ = ["LAWS", "Law", "check_layer"]

ROWS = 100_000  # of the bfloat16 law: sums over so many show whether they are made in float32
STEP = 1e-6  # of the central differences
WIDE = jnp.float32, jnp.bfloat16
MODES = False, True


class Law(Protocol):
    """``(layer, x, key=None) -> None``; ``x`` is an input of two or more examples."""

    def __call__(self, layer: Layer, x: Any, key: Key | None = None) -> None:
        """Raise an ``AssertionError`` where the layer breaks the law."""


LAWS: dict[str, Law] = {}
"""Every law by its name."""


def check_layer(layer: Layer, x: Any, *, key: Key | None = None) -> None:
    """Hold a layer to every law.

    Args:
        layer: Any layer, containers and whole models too.
        x: An input of two or more examples, small: some laws run the layer a dozen times.
        key: What parameters, noise and directions are drawn from; by default ``jax.random.key(0)``.

    Raises:
        AssertionError: One line for each law that the layer breaks.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> from fnn.testing import check_layer
        >>> check_layer(fnn.flatten, jnp.ones((2, 3, 4)))
        >>> check_layer(fnn.fn(lambda x: x - x.mean(0, keepdims=True)), jnp.arange(6.0).reshape(3, 2))
        Traceback (most recent call last):
        AssertionError: rows_are_independent: row by row: y differs by 2, more than 2e-05
    """
    broken = []
    for law in LAWS.values():
        try:
            law(layer, x, key)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))


def _law(check: Callable[[_Trial], None]) -> Law:
    """Enter a law into `LAWS`; whatever goes wrong in it becomes one line that names it."""

    @functools.wraps(check)
    def law(layer: Layer, x: Any, key: Key | None = None) -> None:
        try:
            check(_Trial(layer, x, key))
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {error}") from None
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise AssertionError(f"{check.__name__}: {type(error).__name__}: {first}") from error

    LAWS[check.__name__] = law
    return law


class _Trial:
    """A layer with an input, keys, parameters and state, and the ways to run it."""

    def __init__(self, layer: Layer, x: Any, key: Key | None) -> None:
        self.layer, self.x = layer, jnp.asarray(x)
        if self.x.ndim < 1 or self.x.shape[0] < 2:
            raise AssertionError(f"expected an input of two or more examples, got {self.x.shape}")
        self.init_key, self.key, noise = jax.random.split(jax.random.key(0) if key is None else key, 3)
        params, self.state = layer.init(self.init_key, self.x)
        self.params = _like(
            params, noise, lambda leaf, normal: leaf + 0.1 * normal
        )  # no zeros that hide faults
        self.floating = bool(jnp.issubdtype(self.x.dtype, jnp.floating))
        self.compiled = jax.jit(
            layer.apply, static_argnames="train"
        )  # shared by all laws: jit knows layer.apply

    def run(self, x: Any = None, *, state: State | None = None, key: Key | None = None, train: bool) -> Any:
        """What one compiled pass gives, by name."""
        x, state = self.x if x is None else x, self.state if state is None else state
        return _named(self.compiled(self.params, state, x, key=self.key if key is None else key, train=train))

    @functools.cached_property
    def moved(self) -> State:
        """The state after a step of training: the first one may hide faults behind zeros and ones."""
        state: State = self.run(train=True)["state"]
        return state

    def inputs(self, n: int) -> Array:
        """So many inputs like ``x``, which differ: its examples in other orders and, if it has any, scales."""
        turned = [jnp.roll(self.x, i, 0) for i in range(n)]
        return jnp.stack([t * (1 + i / 4) if self.floating else t for i, t in enumerate(turned)])

    def specs(self) -> list[jax.ShapeDtypeStruct]:
        """The input in every dtype that activations come in."""
        return [jax.ShapeDtypeStruct(self.x.shape, d) for d in (WIDE if self.floating else (self.x.dtype,))]

    def shapes(self, x: Any, train: bool) -> Any:
        """The shapes and dtypes of what a pass gives."""
        apply = functools.partial(self.layer.apply, train=train)
        return _named(
            jax.eval_shape(lambda p, s, v, k: apply(p, s, v, key=k), self.params, self.state, x, self.key)
        )


# --- values -----------------------------------------------------------------------------------------------------


@_law
def jit_equals_eager(t: _Trial) -> None:
    """Compiled or not, a pass gives the same outputs and state; in training and evaluation."""
    for train in MODES:
        eager = t.layer.apply(t.params, t.state, t.x, key=t.key, train=train)
        _close(_mode(train), t.run(train=train), _named(eager))


@_law
def same_key_same_values(t: _Trial) -> None:
    """Training draws from its key alone; whoever needs none gives the same values with any or none."""
    first = t.run(train=True)
    _equal("the same key twice", t.run(train=True), first)
    keys = jax.random.split(t.key, 8)
    try:
        _close("without a key", _named(t.layer.apply(t.params, t.state, t.x, train=True)), first)
    except LayerError:  # it needs one: it draws at random
        if all(_same(t.run(key=key, train=True), first) for key in keys):
            raise AssertionError("it asks for a key, but eight others give the same values") from None
    else:
        _equal("another key, though it asks for none", t.run(key=keys[0], train=True), first)


@_law
def evaluation_ignores_key(t: _Trial) -> None:
    """In evaluation the outputs are the same with any key or none."""
    first = t.run(state=t.moved, train=False)
    _equal("another key", t.run(state=t.moved, key=t.init_key, train=False), first)
    _close("no key", _named(t.compiled(t.params, t.moved, t.x, train=False)), first)


@_law
def evaluation_keeps_state(t: _Trial) -> None:
    """In evaluation the state comes back as it was, to the bit."""
    _equal("evaluation", {"state": t.run(state=t.moved, train=False)["state"]}, {"state": t.moved})


@_law
def rows_are_independent(t: _Trial) -> None:
    """In evaluation no example sees another: apart, together or in another order they give the same."""
    together = t.run(state=t.moved, train=False)["y"]
    apart = [t.run(t.x[i : i + 1], state=t.moved, train=False)["y"] for i in range(t.x.shape[0])]
    joined = jax.tree.map(lambda *rows: jnp.concatenate(rows), *apart)
    _close("row by row", {"y": joined}, {"y": together})
    order = jnp.roll(jnp.arange(t.x.shape[0])[::-1], 1)
    turned = t.run(t.x[order], state=t.moved, train=False)["y"]
    _close("in another order", {"y": turned}, {"y": jax.tree.map(lambda y: y[order], together)})


# --- shapes, dtypes, names ----------------------------------------------------------------------------------------


@_law
def dtype_follows_input(t: _Trial) -> None:
    """A floating-point output has the dtype of the input: float32, bfloat16 and, in 64-bit mode, float64."""
    if t.floating:
        with jax.enable_x64(True):
            for dtype in (*WIDE, jnp.float64):
                for train in MODES:
                    y = t.shapes(jax.ShapeDtypeStruct(t.x.shape, dtype), train)["y"]
                    _dtypes(f"{_mode(train)} of {jnp.dtype(dtype).name}", {"y": y}, dtype)


@_law
def parameters_are_float32(t: _Trial) -> None:
    """Parameters and floating-point state are float32, whatever the input and in 64-bit mode too."""
    for x64 in MODES:
        with jax.enable_x64(x64):
            for x in [
                *t.specs(),
                *([jax.ShapeDtypeStruct(t.x.shape, jnp.float64)] if x64 and t.floating else []),
            ]:
                params, state = jax.eval_shape(t.layer.init, t.init_key, x)
                what = f"init for {x.dtype.name}{' in 64-bit mode' if x64 else ''}"
                _dtypes(what, {"params": params, "state": state}, jnp.float32)


@_law
def train_keeps_form(t: _Trial) -> None:
    """The shape and dtype of the output do not depend on ``train``."""
    for x in t.specs():
        _alike(f"training of {x.dtype.name}", {"y": t.shapes(x, True)["y"]}, {"y": t.shapes(x, False)["y"]})


@_law
def state_keeps_form(t: _Trial) -> None:
    """State keeps structure, shapes and dtypes, so that a step compiles once; what came in is left alone."""
    for x in t.specs():
        for train in MODES:
            before = jax.tree.map(id, (t.params, t.state))
            after = t.shapes(x, train)["state"]
            _alike(f"{_mode(train)} of {x.dtype.name}", {"state": after}, {"state": spec(t.state)})
            if before != jax.tree.map(id, (t.params, t.state)):
                raise AssertionError(f"{_mode(train)} changed the params or state that it was given")


@_law
def plain_names(t: _Trial) -> None:
    """Parameters and state are nested dicts without empty ones; names hold neither ``/`` nor ``.``."""
    names = [*_names("params", t.params), *_names("state", t.state)]
    map_layers(lambda path, inner: names.extend(n for n, _ in inner.children) or inner, t.layer)
    for name in names:
        if not isinstance(name, str) or not name or "/" in name or "." in name:
            raise AssertionError(f"expected names without '/' and '.', got {name!r}")


@_law
def strict_promotion(t: _Trial) -> None:
    """Forward and backward, no dtype and no rank is promoted silently."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for x in t.specs():
            jax.eval_shape(t.layer.init, t.init_key, x)
            for train in MODES:
                loss = _loss(t, train)
                jax.eval_shape(jax.grad(loss), {"params": t.params, **({"x": x} if t.floating else {})})


@_law
def rebuilds_as_itself(t: _Trial) -> None:
    """A container rebuilt around its own children, as ``map_layers`` does it, is the same container."""
    if t.layer.rebuild is None:
        return
    again = map_layers(lambda path, inner: inner, t.layer)
    if _structure(again) != _structure(t.layer):
        raise AssertionError(f"expected {_structure(t.layer)}, got {_structure(again)}")
    _equal("init", _both(again.init(t.init_key, t.x)), _both(t.layer.init(t.init_key, t.x)))
    for train in MODES:
        other = jax.jit(again.apply, static_argnames="train")(t.params, t.state, t.x, key=t.key, train=train)
        _close(_mode(train), _named(other), t.run(train=train))


# --- init -------------------------------------------------------------------------------------------------------


@_law
def init_repeats(t: _Trial) -> None:
    """The same key makes the same parameters and state, to the bit."""
    _equal("init twice", _both(t.layer.init(t.init_key, t.x)), _both(t.layer.init(t.init_key, t.x)))


@_law
def init_reads_shapes(t: _Trial) -> None:
    """``init`` reads nothing but the shape and dtype of its input."""
    made = _both(t.layer.init(t.init_key, t.x))
    _equal("init from a ShapeDtypeStruct", _both(t.layer.init(t.init_key, spec(t.x))), made)
    _alike("init under eval_shape", _both(jax.eval_shape(t.layer.init, t.init_key, spec(t.x))), spec(made))


@_law
def init_under_jit(t: _Trial) -> None:
    """``init`` compiles, and then makes the same."""
    compiled = jax.jit(lambda key: t.layer.init(key, spec(t.x)))
    _close("init under jit", _both(compiled(t.init_key)), _both(t.layer.init(t.init_key, t.x)))


# --- transformations --------------------------------------------------------------------------------------------


@_law
def vmap_over_inputs(t: _Trial) -> None:
    """Mapped over a stack of inputs, a layer gives what it gives for each of them."""
    xs = t.inputs(3)
    for train in MODES:
        mapped = jax.jit(jax.vmap(lambda x: t.layer.apply(t.params, t.state, x, key=t.key, train=train)))  # noqa: B023
        _close(_mode(train), _named(mapped(xs)), _stack([t.run(x, train=train) for x in xs]))


@_law
def vmap_over_params(t: _Trial) -> None:
    """Mapped over stacked parameters and state, a layer is an ensemble of its members."""
    keys = jax.random.split(t.init_key, 2)
    one = [_both(t.layer.init(key, spec(t.x))) for key in keys]
    members = jax.jit(jax.vmap(lambda key: t.layer.init(key, spec(t.x))))(keys)
    _close("init", _both(members), _stack(one))
    for train in MODES:

        def apply(params: Any, state: Any, train: bool = train) -> Any:
            return t.layer.apply(params, state, t.x, key=t.key, train=train)

        alone = [_named(t.compiled(m["params"], m["state"], t.x, key=t.key, train=train)) for m in one]
        _close(_mode(train), _named(jax.jit(jax.vmap(apply, axis_size=2))(*members)), _stack(alone))


@_law
def scan_carries_state(t: _Trial) -> None:
    """Scanned over inputs and keys, with the state as carry, training goes as in a Python loop."""
    xs, keys = t.inputs(3), jax.random.split(t.key, 3)

    def step(state: Any, each: tuple[Array, Key]) -> tuple[Any, Any]:
        y, state = t.layer.apply(t.params, state, each[0], key=each[1], train=True)
        return state, y

    state, ys = jax.jit(lambda first: jax.lax.scan(step, first, (xs, keys)))(t.state)
    loop, by_hand = t.state, []
    for x, key in zip(xs, keys, strict=True):
        by_hand.append(t.run(x, state=loop, key=key, train=True))
        loop = by_hand[-1]["state"]
    _close("scan", {"y": ys, "state": state}, {"y": _stack(by_hand)["y"], "state": loop})


# --- gradients --------------------------------------------------------------------------------------------------


@_law
def float64_gradients(t: _Trial) -> None:
    """In float64, gradients of parameters and inputs agree with central differences along a random direction."""
    with jax.enable_x64(True):
        at, along = _point(t)
        for train in MODES:
            slopes = jax.jit(functools.partial(_slopes, _loss(t, train)))
            for name in at:
                only = {
                    n: tree if n == name else jax.tree.map(jnp.zeros_like, tree) for n, tree in along.items()
                }
                difference, product, size = slopes(at, only)
                if not abs(difference - product) <= 1e-5 * (1 + size):
                    raise AssertionError(
                        f"{_mode(train)}: along a direction in {name} the gradient says {product:.9g}, "
                        f"central differences {difference:.9g}"
                    )


@_law
def jvp_equals_vjp(t: _Trial) -> None:
    """Forward and reverse mode are one derivative."""
    with jax.enable_x64(True):
        at, along = _point(t)
        for train in MODES if at else ():
            loss = _loss(t, train)
            forward = jax.jit(lambda a, d, loss=loss: jax.jvp(loss, (a,), (d,))[1])(at, along)
            backward = jax.jit(lambda a, d, loss=loss: _dot(jax.grad(loss)(a), d))(at, along)
            _close(f"{_mode(train)}: jvp", {"slope": forward}, {"slope": backward}, tolerance=1e-9)


@_law
def bfloat16_gradients(t: _Trial) -> None:
    """In bfloat16, over 100,000 rows, parameter gradients stay within 2 % of the largest float32 one."""
    if not t.floating or not t.params:
        return
    rows = max(t.x.shape[0], math.prod(t.x.shape[:-1]))
    x = jnp.tile(t.x, (-(-ROWS // rows), *(1,) * (t.x.ndim - 1)))
    x = (x * jax.random.uniform(t.key, x.shape, x.dtype, 0.5, 1.5)).astype(jnp.bfloat16)

    @jax.jit
    def gradients(x: Array) -> Any:
        y, pull = jax.vjp(
            lambda params: t.layer.apply(params, t.state, x, key=t.key, train=True)[0], t.params
        )
        weights = _like(y, t.init_key, lambda leaf, normal: (1 + 0.5 * normal).astype(jnp.bfloat16))
        return pull(jax.tree.map(lambda weight, leaf: weight.astype(leaf.dtype), weights, y))[0]

    narrow, wide = gradients(x), gradients(x.astype(jnp.float32))
    _close("gradients", {"params": narrow}, {"params": wide}, tolerance=0.02, least=0.0)


# --- how the laws compare ---------------------------------------------------------------------------------------


def _close(what: str, got: Any, wanted: Any, tolerance: float = 1e-5, least: float = 1.0) -> None:
    """Every array like the wanted one, within the tolerance times its largest value (``least`` at the least)."""
    _alike(what, spec(got), spec(wanted))
    for (path, a), b in zip(paths(got).items(), paths(wanted).values(), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        allowed = tolerance * max(least, float(np.max(np.abs(b), initial=0.0)))
        if not np.max(off, initial=0.0) <= allowed:
            raise AssertionError(f"{what}: {path} differs by {np.max(off):.4g}, more than {allowed:.4g}")


def _equal(what: str, got: Any, wanted: Any) -> None:
    """Every array the wanted one, bit for bit."""
    _alike(what, spec(got), spec(wanted))
    for (path, a), b in zip(paths(got).items(), paths(wanted).values(), strict=True):
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            raise AssertionError(f"{what}: {path} differs")


def _same(one: Any, other: Any) -> bool:
    try:
        _equal("", one, other)
    except AssertionError:
        return False
    return True


def _alike(what: str, got: Any, wanted: Any) -> None:
    """The same paths, and below each one shape and one dtype, weakly typed or not."""
    forms, expected = ({p: _form(leaf) for p, leaf in paths(tree).items()} for tree in (got, wanted))
    for path in [*expected, *forms]:
        if forms.get(path) != expected.get(path):
            there, should = forms.get(path, "missing"), expected.get(path, "nothing")
            raise AssertionError(f"{what}: {path} is {there}, expected {should}")


def _form(leaf: Any) -> str:
    return f"{leaf.dtype.name}{list(leaf.shape)}{' (weak)' if leaf.weak_type else ''}"


def _dtypes(what: str, tree: Any, dtype: Any) -> None:
    for path, leaf in paths(tree).items():
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != dtype:
            raise AssertionError(f"{what}: {path} is {leaf.dtype.name}, expected {jnp.dtype(dtype).name}")


def _names(path: str, tree: Any) -> Iterator[Any]:
    if not isinstance(tree, dict):
        raise AssertionError(f"expected {path} to be a dict, got {type(tree).__name__}")
    for name, value in tree.items():
        yield name
        if not isinstance(value, Array):
            yield from _names(join(path, str(name)), value)
            if not value:
                raise AssertionError(f"expected nothing in place of the empty {join(path, str(name))}")


def _structure(layer: Layer) -> str:
    inner = ", ".join(f"{name}={_structure(child)}" for name, child in layer.children)
    return f"{layer.kind}({inner})"


def _mode(train: bool) -> str:
    return "training" if train else "evaluation"


def _named(outcome: tuple[Any, State]) -> dict[str, Any]:
    return {"y": outcome[0], "state": outcome[1]}


def _both(made: tuple[Any, Any]) -> dict[str, Any]:
    return {"params": made[0], "state": made[1]}


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# --- how the laws differentiate ---------------------------------------------------------------------------------


def _like(tree: Any, key: Key, f: Callable[[Any, Array], Any]) -> Any:
    """``f(leaf, noise)`` for every leaf; the noise is normal, of its shape, and drawn by its path."""

    def one(path: Any, leaf: Any) -> Any:
        own = name_key(key, jax.tree_util.keystr(path))
        return f(leaf, jax.random.normal(own, leaf.shape, jnp.float32))

    return jax.tree_util.tree_map_with_path(one, tree)


def _point(t: _Trial) -> tuple[Any, Any]:
    """Parameters and input in float64, as far as there are any, and a direction to go from there."""
    at = {**({"params": t.params} if t.params else {}), **({"x": t.x} if t.floating else {})}
    at = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), at)
    return at, _like(at, t.init_key, lambda leaf, normal: normal.astype(leaf.dtype))


def _loss(t: _Trial, train: bool) -> Callable[[Any], Array]:
    """Parameters and input to one number: the outputs' sum, each value weighted at random."""

    def loss(at: Any) -> Array:
        params, x = at.get("params", t.params), at.get("x", t.x)
        y, _ = t.layer.apply(params, t.state, x, key=t.key, train=train)
        weighted = _like(y, t.init_key, lambda leaf, normal: jnp.sum(leaf * normal.astype(leaf.dtype)))
        return sum(jax.tree.leaves(weighted), start=jnp.zeros((), jax.tree.leaves(weighted)[0].dtype))

    return loss


def _slopes(loss: Callable[[Any], Array], at: Any, along: Any) -> tuple[Array, Array, Array]:
    """The slope along a direction by central differences and by the gradient, and the gradient's norm."""
    ends = jax.tree.map(lambda a, d: jnp.stack([a + STEP * d, a - STEP * d]), at, along)
    high, low = jax.lax.map(loss, ends)
    gradient = jax.grad(loss)(at)
    return (high - low) / (2 * STEP), _dot(gradient, along), jnp.sqrt(_dot(gradient, gradient))


def _dot(one: Any, other: Any) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other)), start=jnp.zeros(()))
