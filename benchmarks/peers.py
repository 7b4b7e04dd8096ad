"""One peer's training step, timed in a process of its own: python -m benchmarks.peers JOB PEER.

Every peer trains the same network on the same batches with the same optimiser, in its own idiom: a
``jax.jit``-compiled step of a few lines, dispatched once per batch. Prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

BATCH = 128
JOBS = {"digits_mlp": (64, 64, 10)}
"""The widths of the perceptrons, ReLU between them."""

Apply = Callable[[Any, jax.Array], jax.Array]


def fnn_peer(widths: tuple[int, ...], x: jax.Array) -> tuple[Any, Apply]:
    import fnn

    model = fnn.mlp(widths[1:])
    params, state = model.init(jax.random.key(0), x)
    return params, lambda params, x: model.apply(params, state, x)[0]


def haiku_peer(widths: tuple[int, ...], x: jax.Array) -> tuple[Any, Apply]:
    import haiku as hk

    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP(widths[1:])(x)))
    return model.init(jax.random.key(0), x), model.apply


def linen_peer(widths: tuple[int, ...], x: jax.Array) -> tuple[Any, Apply]:
    from flax import linen

    layers = [layer for width in widths[1:] for layer in (linen.Dense(width), linen.relu)][:-1]
    model = linen.Sequential(layers)
    return model.init(jax.random.key(0), x), model.apply


PEERS = {"fnn": fnn_peer, "haiku": haiku_peer, "linen": linen_peer}


def make_step(params: Any, apply: Apply) -> tuple[Callable[..., Any], Any]:
    """The training step as a user writes it, and the optimiser's state."""
    optimizer = optax.adam(1e-3)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()

    @jax.jit
    def step(params: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    return step, optimizer.init(params)


def measure(job: str, peer: str, steps: int = 3000, warm_up: int = 300) -> float:
    """Milliseconds of a step, the mean over all steps after the warm-up."""
    rng = np.random.default_rng(0)
    widths = JOBS[job]
    x = jax.numpy.asarray(rng.standard_normal((BATCH, widths[0]), np.float32))
    y = jax.numpy.asarray(rng.integers(0, widths[-1], BATCH, np.int32))
    params, apply = PEERS[peer](widths, x)
    step, opt_state = make_step(params, apply)
    begin = 0.0
    for i in range(warm_up + steps):
        if i == warm_up:
            jax.block_until_ready(params)
            begin = time.perf_counter()
        params, opt_state, _ = step(params, opt_state, x, y)
    jax.block_until_ready(params)
    return 1000 * (time.perf_counter() - begin) / steps


if __name__ == "__main__":
    print(json.dumps({"ms_per_step": measure(*sys.argv[1:])}))
