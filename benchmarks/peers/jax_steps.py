"""The steps of all JAX peers, fnn among them: plain optax, plain ``jax.jit``, as their users write them.

Parameters, statistics and the optimiser's state are donated, for all alike.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.jobs import Job, Run, make_batches
from benchmarks.networks import Layers, Shape, Weights, make_weights


class Model(NamedTuple):
    """A network as a peer builds it.

    Attributes:
        params: What the gradient is taken of, in the peer's own form.
        state: The running statistics, likewise.
        apply: ``(params, state, x, train) -> (logits, state)``, where ``train`` is a Python bool.
        layout: Makes inputs ``(..., height, width, channels)`` to what the peer takes.
    """

    params: Any
    state: Any
    apply: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
    layout: Callable[[np.ndarray], np.ndarray] = lambda x: x


Build = Callable[[Layers, Shape, Weights, Any], Model]
"""``(layers, shape, weights, dtype) -> model``: what each JAX peer's file has as ``build``."""

OPTIMIZERS = {"adam": lambda: optax.adam(1e-3), "sgd": lambda: optax.sgd(0.01, momentum=0.9)}


def prepare(build: Build, job: Job, dtype: str, mode: str) -> Run:
    """A job with the model that ``build`` makes."""
    model = build(job.layers, job.shape, make_weights(job.layers, job.shape), jnp.dtype(dtype))
    x, y = make_batches(job)
    x, y = jnp.asarray(model.layout(x)), jnp.asarray(y)
    if job.optimizer is None:
        return _inference(model, list(x))
    forward = jax.jit(lambda params, state, x: model.apply(params, state, x, True)[0])
    step, carry = make_step(model, OPTIMIZERS[job.optimizer]())
    batches = list(zip(x, y, strict=True))
    if mode == "scanned":
        step, batches = scanned(step), [(x, y)]

    def logits() -> np.ndarray:
        return np.asarray(forward(model.params, model.state, x[0]), np.float32)

    return Run(logits, _training(step, carry, batches), steps=job.batches // len(batches))


def make_step(model: Model, optimizer: optax.GradientTransformation) -> tuple[Callable[..., Any], Any]:
    """The training step ``(carry, (x, y)) -> (carry, loss)``, and the first carry."""

    def objective(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = model.apply(params, state, x, True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), y)
        return losses.mean(), state

    def step(carry: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        params, state, opt_state = carry
        (loss, state), gradient = jax.value_and_grad(objective, has_aux=True)(params, state, *batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), state, opt_state), loss

    return step, (model.params, model.state, optimizer.init(model.params))


def scanned(step: Callable[..., Any]) -> Callable[..., Any]:
    """A whole epoch: the batches are stacked, the losses come back stacked."""
    return lambda carry, batches: jax.lax.scan(step, carry, batches)


def _training(step: Callable[..., Any], carry: Any, batches: list[Any]) -> Callable[[int], Any]:
    step = jax.jit(step, donate_argnums=0)
    carry = jax.tree.map(jnp.copy, carry)  # the model's own arrays must outlive the donation
    turn = cycle(batches)

    def call(n: int) -> np.ndarray:
        nonlocal carry
        for _ in range(n):
            carry, loss = step(carry, next(turn))
        return np.asarray(jax.block_until_ready((carry, loss))[1])

    return call


def _inference(model: Model, batches: list[jax.Array]) -> Run:
    forward = jax.jit(lambda x: model.apply(model.params, model.state, x, False)[0].astype(jnp.float32))
    turn = cycle(batches)

    def call(n: int) -> None:
        for _ in range(n):
            forward(next(turn)).block_until_ready()

    return Run(lambda: np.asarray(forward(batches[0])), call, 1)
