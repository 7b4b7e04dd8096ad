"""Laws about JAX's transformations: a layer goes through each of them as it is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from jax import Array

from fnn.layer import Key, spec
from fnn.testing.compare import close, equal, made, outcome, stack
from fnn.testing.law import Trial, law


@law
def jit_equals_eager(t: Trial) -> None:
    """Compiled or not, a pass gives the same outputs and state, and leaves alone what it was given."""
    given = jax.tree.map(lambda leaf: leaf, made((t.params, t.state)))
    for mode, train in t.modes.items():
        eager = t.layer.apply(t.params, t.state, t.x, key=t.key, train=train)
        equal(f"after {mode}, what it was given", made((t.params, t.state)), given)
        close(mode, t.run(train=train), outcome(eager))


@law
def init_under_jit(t: Trial) -> None:
    """Compiled, ``init`` makes the same."""
    compiled = jax.jit(lambda key: t.layer.init(key, spec(t.x)))
    close("init under jit", made(compiled(t.init_key)), made(t.layer.init(t.init_key, t.x)))


@law
def vmap_over_inputs(t: Trial) -> None:
    """Mapped over inputs, a layer gives what it gives for each."""
    xs, modes = t.inputs(3), t.modes

    def one(x: Array) -> Any:
        apply = functools.partial(t.layer.apply, t.params, t.state, x, key=t.key)
        return {mode: outcome(apply(train=train)) for mode, train in modes.items()}

    each = [{mode: t.run(x, train=train) for mode, train in modes.items()} for x in xs]
    close("vmap", jax.jit(jax.vmap(one))(xs), stack(each))


@law
def vmap_over_params(t: Trial) -> None:
    """Mapped over keys, and so over parameters and state, a layer is an ensemble."""
    modes = t.modes

    def member(key: Key) -> Any:
        params, state = t.layer.init(key, spec(t.x))
        apply = functools.partial(t.compiled, params, state, t.x, key=t.key)
        return made((params, state)) | {mode: outcome(apply(train=train)) for mode, train in modes.items()}

    keys = jax.random.split(t.init_key, 2)
    close("vmap", jax.jit(jax.vmap(member))(keys), stack([member(key) for key in keys]))


@law
def scan_carries_state(t: Trial) -> None:
    """Scanned over inputs and keys with the state as carry, training goes as in a Python loop."""
    xs, keys = t.inputs(3), jax.random.split(t.key, 3)

    def step(state: Any, each: Any) -> tuple[Any, Any]:
        y, state = t.layer.apply(t.params, state, each[0], key=each[1], train=True)
        return state, y

    state, ys = jax.jit(lambda first: jax.lax.scan(step, first, (xs, keys)))(t.state)
    expected, loop = t.state, []
    for x, key in zip(xs, keys, strict=True):
        loop.append(t.run(np.asarray(x), state=expected, key=key, train=True))
        expected = loop[-1]["state"]
    close("scan", {"y": ys, "state": state}, {"y": stack(loop)["y"], "state": expected})
