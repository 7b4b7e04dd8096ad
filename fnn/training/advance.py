"""Many steps at a time: in one compiled loop, or dispatched one by one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.layer import Key
from fnn.training.step import Recipe, TrainState, make_step

Mode = Literal["scan", "step"]
Step = Callable[[TrainState, Array, np.int32, tuple[Array, Array], Array], tuple[TrainState, Any]]
"""``(train_state, order, i, data, key) -> (train_state, log)``: begins step i of an order, and does not wait;
the old state is donated."""
Advance = Callable[[TrainState, Array, int, int], tuple[TrainState, list[Any]]]
"""``(train_state, order, first, count) -> (train_state, logs)``: does the steps ``first, ...`` of an order
``(steps, batch)``, ``count`` of them; the logs are on the host, one a step. The old state is donated."""

BUFFER = 1 << 24
"""Bytes on the device that the logs of one call may take."""


def compile_steps(
    mode: Mode, recipe: Recipe, train_state: TrainState, order: Array, data: tuple[Array, Array], key: Key
) -> Advance:
    """Compile what a run does over and over, once.

    Args:
        mode: ``scan``: a compiled loop over the steps, which costs no dispatch. ``step``: one compiled step.
            The two may differ in the last bit; how many steps a call does never changes a bit.
        recipe: What is trained.
        train_state: Only shapes and dtypes are read, as of ``order``.
        order: Every order that follows has its shape.
        data: Inputs and targets of all examples.
        key: The randomness of the steps.
    """
    if mode == "step":
        return _dispatched(compile_step(recipe, train_state, order, data, key), data, key)
    return _scanned(_step(recipe), train_state, order, data, key)


def compile_step(
    recipe: Recipe, train_state: TrainState, order: Any, data: tuple[Any, Any], key: Key
) -> Step:
    """Compile one step; of the arguments, as in `compile_steps`, only shapes and dtypes are read."""
    step = jax.jit(_step(recipe), donate_argnums=0)
    compiled: Step = step.lower(train_state, order, np.int32(0), data, key).compile()
    return compiled


def _step(recipe: Recipe) -> Callable[..., Any]:
    pure = make_step(recipe)

    @functools.partial(jax.jit, inline=True)  # traced once, for its shapes and for its place in the loop
    def step(old: TrainState, order: Array, i: Array, data: tuple[Array, Array], key: Key) -> Any:
        inputs, targets = data
        return pure(old, inputs[order[i]], targets[order[i]], key)

    return step


def _dispatched(run: Step, data: tuple[Array, Array], key: Key) -> Advance:
    def advance(
        train_state: TrainState, order: Array, first: int, count: int
    ) -> tuple[TrainState, list[Any]]:
        logs = []
        for i in range(first, first + count):
            train_state, log = run(train_state, order, np.int32(i), data, key)
            logs.append(log)
        return train_state, jax.device_get(logs)

    return advance


def _scanned(
    step: Callable[..., Any], example: TrainState, order: Array, data: tuple[Array, Array], key: Key
) -> Advance:
    _, log = jax.eval_shape(step, example, order, np.int32(0), data, key)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(log))
    capacity = max(1, min(len(order), BUFFER // size))

    # The number of steps is traced: one program does any number of them, and with other numbers of steps XLA
    # has no occasion to compile the body otherwise.
    def steps(
        old: TrainState, order: Array, first: Array, count: Array, data: tuple[Array, Array], key: Key
    ) -> Any:
        def body(i: Array, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            train_state, log = step(carry[0], order, first + i, data, key)
            return train_state, jax.tree.map(lambda all, own: all.at[i].set(own), carry[1], log)

        logs = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), log)
        return jax.lax.fori_loop(0, count, body, (old, logs))

    shapes = (example, order, np.int32(0), np.int32(0), data, key)
    run = jax.jit(steps, donate_argnums=0).lower(*shapes).compile()

    def advance(
        train_state: TrainState, order: Array, first: int, count: int
    ) -> tuple[TrainState, list[Any]]:
        logs: list[Any] = []
        for begin in range(first, first + count, capacity):
            part = min(capacity, first + count - begin)
            train_state, stacked = run(train_state, order, np.int32(begin), np.int32(part), data, key)
            logs += _unstacked(jax.device_get(stacked), part)
        return train_state, logs

    return advance


def _unstacked(tree: Any, n: int) -> list[Any]:
    """The first n trees of a stacked one."""
    leaves, structure = jax.tree.flatten(tree)
    return [jax.tree.unflatten(structure, each) for each in zip(*(leaf[:n] for leaf in leaves), strict=True)]
