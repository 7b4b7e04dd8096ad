"""Whether a run fits the memory, as far as shapes say so before anything is compiled."""

from __future__ import annotations

import math
from typing import Any

import jax

from fnn.choices import ConfigError
from fnn.experiment.build import Parts
from fnn.experiment.schema import Experiment
from fnn.machine import device_memory, in_bytes
from fnn.trees import paths


def check_size(experiment: Experiment, parts: Parts) -> None:
    """Refuse a run of which one thing alone is larger than the memory: no other machine setting can save it.

    What is counted has to be there at one time: the parameters with their gradient, the optimiser's state,
    the largest output of a layer, the statistics of a metric. What XLA needs besides is not known yet.

    Raises:
        ConfigError: Something is larger; of an experiment that was read, the message begins with file and
            line.
    """
    most = device_memory()
    with experiment.document.located():
        if (needed := size(parts.params) + size(parts.trained)) > most:
            name, leaf = max(paths(parts.params).items(), key=lambda item: size(item[1]))
            total = f"parameters with their gradient take {in_bytes(needed)}"
            raise ConfigError(("model",), f"{_in(most, total)}; the largest is {name}, {leaf.shape}")
        optimizer = jax.eval_shape(parts.optimizer.transformation.init, parts.trained)
        if size(optimizer) > most:
            raise ConfigError(("optimizer",), _in(most, f"its state takes {in_bytes(size(optimizer))}"))
        for name, output in parts.outputs.items():
            if size(output) > most:
                batch = f"the output {_shape(output)} of a batch takes {in_bytes(size(output))}"
                raise ConfigError(("model",), f"{name}: {_in(most, batch)}" if name else _in(most, batch))
        for i, (name, statistics) in enumerate(parts.statistics.items()):
            if size(statistics) > most:
                table = f"{name} counts in {in_bytes(size(statistics))}"
                raise ConfigError(("metrics", i), _in(most, table))


def size(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of their shapes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.experiment.size import size
        >>> size({"kernel": jax.ShapeDtypeStruct((10**9, 10**9), jnp.float32)})
        4000000000000000000
    """
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _in(most: int, what: str) -> str:
    return f"{what}, more than the {in_bytes(most)} of memory that there are"


def _shape(output: Any) -> str:
    return ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(output))
