"""Laws about gradients: that they are right, and that they are summed in float32 or wider."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.testing.compare import close
from fnn.testing.law import Trial, dot, law

ROWS = 100_000  # so many show whether a sum is made in float32
STEP = 1e-6  # of the central differences


@law
def float64_gradients(t: Trial) -> None:
    """In float64 reverse mode, forward mode and central differences agree, for parameters and input."""
    with jax.enable_x64(True):
        point = ({"params": t.params} if t.params else {}) | ({"x": t.x} if t.floating else {})
        at, noise = (
            jax.tree.map(lambda v: np.asarray(v, np.float64), tree) for tree in (point, t.noise(point))
        )
        for mode, train in t.modes.items() if at else ():
            slopes = jax.jit(functools.partial(_slopes, t.loss(train)))
            for name in at:
                along = {**jax.tree.map(np.zeros_like, at), name: noise[name]}
                reverse, forward, difference, norm = map(float, slopes(at, along))
                what = f"{mode}: along a direction in {name}, grad gives {reverse:.9g}"
                if not abs(difference - reverse) <= 1e-5 * (1 + norm):
                    raise AssertionError(f"{what}, central differences {difference:.9g}")
                if not abs(forward - reverse) <= 1e-10 * (1 + norm):
                    raise AssertionError(f"{what}, jvp differs by {forward - reverse:.3g}")


@law
def bfloat16_gradients(t: Trial) -> None:
    """In bfloat16, over 100,000 rows, parameter gradients are within 2 % of the largest float32 one.

    The largest of that parameter; in a container, where roundings add up from layer to layer, of all.
    """
    if not t.floating or not t.params:
        return
    rows = max(t.x.shape[0], math.prod(t.x.shape[:-1]))
    many = np.tile(t.x, (-(-ROWS // rows), *(1,) * (t.x.ndim - 1)))
    x = jnp.asarray(many * np.random.default_rng(t.seed).uniform(0.5, 1.5, many.shape), jnp.bfloat16)
    y = t.shapes(x, train=True)["y"]
    weights = jax.tree.map(lambda noise: jnp.asarray(1 + 0.5 * noise, jnp.bfloat16), t.noise(y))

    @jax.jit
    def gradients(x: Array, weights: Any) -> Any:
        y, pull = jax.vjp(lambda p: t.layer.apply(p, t.state, x, key=t.key, train=True)[0], t.params)
        return pull(jax.tree.map(lambda leaf, weight: weight.astype(leaf.dtype), y, weights))[0]

    narrow, wide = gradients(x, weights), gradients(x.astype(jnp.float32), weights)
    largest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in jax.tree.leaves(wide))
    least = largest if t.layer.children else 0.0
    close("gradients", {"params": narrow}, {"params": wide}, tolerance=0.02, least=least)


def _slopes(loss: Callable[[Any], Array], at: Any, along: Any) -> tuple[Array, Array, Array, Array]:
    """A slope by reverse mode, forward mode and central differences, and the norm of the whole gradient."""
    points = jax.tree.map(lambda a, d: jnp.stack([a, a + STEP * d, a - STEP * d]), at, along)
    values, slopes = jax.lax.map(lambda point: jax.jvp(loss, (point,), (along,)), points)
    gradient = jax.grad(loss)(at)
    central = (values[1] - values[2]) / (2 * STEP)
    return dot(gradient, along), slopes[0], central, jnp.sqrt(dot(gradient, gradient))
