"""Laws about gradients: that they are right, and that they are summed in float32 or wider."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.testing.compare import close
from fnn.testing.law import Trial, dot, floats, law

ROWS = 100_000  # so many show whether a sum is made in float32
COUNTED = 256  # 256 + 1 is 256 in bfloat16
STEP = 1e-6  # of the central differences


@law
def float64_gradients(t: Trial) -> None:
    """In float64 reverse mode, forward mode and central differences agree, for parameters and input."""
    modes = t.modes
    point = ({"params": t.params} if t.params else {}) | ({"x": t.x} if t.floating else {})
    with jax.enable_x64(True):
        at, noise = (
            jax.tree.map(lambda v: np.asarray(v, np.float64), tree) for tree in (point, t.noise(point))
        )
        for mode, train in modes.items() if at else ():
            slopes = jax.jit(functools.partial(_slopes, t.loss(train)))
            for name in at:
                along = {**jax.tree.map(np.zeros_like, at), name: noise[name]}
                ahead, behind = (jax.tree.map(lambda a, d, h=h: a + h * d, at, along) for h in (STEP, -STEP))
                _, reverse, forward, norm = map(float, slopes(at, along))
                central = float(slopes(ahead, along)[0] - slopes(behind, along)[0]) / (2 * STEP)
                what = f"{mode}: along a direction in {name}, grad gives {reverse:.9g}"
                if not abs(central - reverse) <= 1e-5 * (1 + norm):
                    raise AssertionError(f"{what}, central differences {central:.9g}")
                if not abs(forward - reverse) <= 1e-10 * (1 + norm):
                    raise AssertionError(f"{what}, jvp differs by {forward - reverse:.3g}")


@law
def bfloat16_gradients(t: Trial) -> None:
    """In bfloat16, over 100,000 rows, parameter gradients are within 2 % of the largest float32 one.

    The largest of that parameter; in a container, where roundings add up from layer to layer, of all. And,
    since some compilers widen some sums, none of them is written in bfloat16 in the first place.
    """
    if not t.floating or not t.params:
        return
    rows = max(t.x.shape[0], math.prod(t.x.shape[:-1]))
    many = np.tile(t.x, (-(-ROWS // rows), *(1,) * (t.x.ndim - 1)))
    x = jnp.asarray(many * np.random.default_rng(t.seed).uniform(0.5, 1.5, many.shape), jnp.bfloat16)
    shapes = floats(t.shapes(x, train=True)["y"])
    weights = [jnp.asarray(1 + 0.5 * noise, jnp.bfloat16) for noise in t.noise(shapes)]

    def gradients(x: Array, weights: list[Array]) -> Any:
        y, pull = jax.vjp(lambda p: floats(t.layer.apply(p, t.state, x, key=t.key, train=True)[0]), t.params)
        return pull([weight.astype(leaf.dtype) for weight, leaf in zip(weights, y, strict=True)])[0]

    for equation in _equations(jax.make_jaxpr(gradients)(x, weights).jaxpr):
        if equation.primitive.name == "reduce_sum" and equation.invars[0].aval.dtype == jnp.bfloat16:
            n = math.prod(equation.invars[0].aval.shape[axis] for axis in equation.params["axes"])
            if n > COUNTED:
                raise AssertionError(f"it sums {n} values in bfloat16, which counts to {COUNTED}")
    compiled = jax.jit(gradients)
    narrow, wide = compiled(x, weights), compiled(x.astype(jnp.float32), weights)
    largest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in jax.tree.leaves(wide))
    least = largest if t.layer.children else 0.0
    close("gradients", {"params": narrow}, {"params": wide}, tolerance=0.02, least=least)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every operation of a program, those of its inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr")):
            program = getattr(inner, "jaxpr", inner)
            if hasattr(program, "eqns"):
                yield from _equations(program)


def _slopes(loss: Callable[[Any], Array], at: Any, along: Any) -> tuple[Array, Array, Array, Array]:
    """The value at a point, its slope along a direction by reverse and forward mode, the gradient's norm."""
    value, slope = jax.jvp(loss, (at,), (along,))
    gradient = jax.grad(loss)(at)
    return value, dot(gradient, along), slope, jnp.sqrt(dot(gradient, gradient))
