"""Laws about structure, shapes, dtypes and names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fnn.layer import Layer, join, map_layers, spec
from fnn.testing.compare import alike, close, equal, made, of_dtype, outcome
from fnn.testing.law import DTYPES, Trial, law


@law
def dtype_follows_input(t: Trial) -> None:
    """A floating-point output has the dtype of the input: float32, bfloat16 and, in 64-bit mode, float64."""
    with jax.enable_x64(True):
        for dtype in (*DTYPES, jnp.float64) if t.floating else ():
            for train in (False, True):
                y = t.shapes(jax.ShapeDtypeStruct(t.x.shape, dtype), train=train)["y"]
                of_dtype(f"for {jnp.dtype(dtype).name}", {"y": y}, dtype)


@law
def parameters_are_float32(t: Trial) -> None:
    """Parameters and floating-point state are float32, whatever the input's dtype and in 64-bit mode too."""
    for x64 in (False, True):
        with jax.enable_x64(x64):
            wide = [jax.ShapeDtypeStruct(t.x.shape, jnp.float64)] if x64 and t.floating else []
            for x in (*t.specs(), *wide):
                new = made(jax.eval_shape(t.layer.init, t.init_key, x))
                of_dtype(f"for {x.dtype.name}{' in 64-bit mode' if x64 else ''}", new, jnp.float32)


@law
def train_keeps_form(t: Trial) -> None:
    """The shape and dtype of the output do not depend on ``train``."""
    for x in t.specs():
        evaluated, trained = ({"y": t.shapes(x, train=train)["y"]} for train in (False, True))
        alike(f"training in {x.dtype.name}", trained, evaluated)


@law
def state_keeps_form(t: Trial) -> None:
    """State keeps structure, shapes and dtypes, weak ones too, so that a step compiles once."""
    for x in t.specs():
        for train in (False, True):
            what = f"{'training' if train else 'evaluation'} in {x.dtype.name}"
            alike(what, {"state": t.shapes(x, train=train)["state"]}, {"state": spec(t.state)}, weak=True)


@law
def plain_names(t: Trial) -> None:
    """Parameters and state are nested dicts, none of them empty, by names without ``/`` and ``.``."""
    names = [*_names("params", t.params), *_names("state", t.state)]

    def note(path: str, inner: Layer) -> Layer:
        names.extend(name for name, _ in inner.children)
        return inner

    map_layers(note, t.layer)
    for name in names:
        if not isinstance(name, str) or not name or "/" in name or "." in name:
            raise AssertionError(f"expected names without '/' and '.', got {name!r}")


@law
def strict_promotion(t: Trial) -> None:
    """Forward and backward, no dtype and no rank is promoted unasked."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for x in t.specs():
            jax.eval_shape(t.layer.init, t.init_key, x)
            at = {"params": t.params} | ({"x": x} if t.floating else {})
            for train in (False, True):
                t.shapes(x, train=train)
                jax.eval_shape(jax.grad(t.loss(train)), at)


@law
def rebuilds_as_itself(t: Trial) -> None:
    """A container that ``map_layers`` rebuilds around its own children is the same container."""
    if t.layer.rebuild is None:
        return
    again = map_layers(lambda path, inner: inner, t.layer)
    if _structure(again) != _structure(t.layer):
        raise AssertionError(f"{_structure(t.layer)} became {_structure(again)}")
    equal("init", made(again.init(t.init_key, t.x)), made(t.layer.init(t.init_key, t.x)))
    compiled = jax.jit(again.apply, static_argnames="train")
    for mode, train in t.modes.items():
        got = compiled(t.params, t.state, t.x, key=t.key, train=train)
        close(mode, outcome(got), t.run(train=train))


def _names(path: str, tree: Any) -> Iterator[Any]:
    if isinstance(tree, jax.Array):
        return
    if not isinstance(tree, dict):
        raise AssertionError(f"expected {path} to be a dict or an array, got {type(tree).__name__}")
    for name, value in tree.items():
        yield name
        inner = join(path, str(name))
        if isinstance(value, dict) and not value:
            raise AssertionError(f"expected nothing in place of the empty {inner}")
        yield from _names(inner, value)


def _structure(layer: Layer) -> str:
    return f"{layer.kind}({', '.join(f'{name}={_structure(child)}' for name, child in layer.children)})"
