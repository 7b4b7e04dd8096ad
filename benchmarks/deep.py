"""CPU seconds until a deep network's step is compiled, its blocks one by one and scanned.

``python -m benchmarks.deep resnet50 resnet152`` prints a row for each network and form. What is kept of
earlier compilations is left aside. Tracing, lowering and compiling count: of ``value_and_grad`` in training,
the step, and of inference. CPU seconds, of all threads, depend less on what else the machine does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import fnn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet50", "resnet152"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    x = jax.ShapeDtypeStruct((arguments.batch, arguments.size, arguments.size, 3), jnp.float32)
    print(f"{'model':<16} {'blocks':<12} {'step':>8} {'inference':>10}   CPU seconds to compile")
    for name in arguments.models:
        for scan in (False, True):
            step, inference = compile_times(getattr(fnn, name)(scan=scan), x)
            print(f"{name:<16} {'scanned' if scan else 'one by one':<12} {step:>8.1f} {inference:>10.1f}")


def compile_times(model: fnn.Layer, x: Any) -> tuple[float, float]:
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    labels = jax.ShapeDtypeStruct((x.shape[0],), jnp.int32)

    def loss(params: Any, state: Any, x: Any, labels: Any, key: Any) -> Any:
        logits, state = model.apply(params, state, x, key=key, train=True)
        return fnn.losses.cross_entropy(logits, labels).mean(), state

    step = jax.value_and_grad(loss, has_aux=True)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return (
        seconds(step, params, state, x, labels, key),
        seconds(lambda p, s, v: model.apply(p, s, v)[0], params, state, x),
    )


def seconds(function: Callable[..., Any], *shapes: Any) -> float:
    start = time.process_time()
    jax.jit(function).lower(*shapes).compile()
    return time.process_time() - start


if __name__ == "__main__":
    main()
