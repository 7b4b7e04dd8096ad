"""Print the table of a config's model."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn.analysis.summary import Summary, summary
from fnn.experiment import Experiment, build


def summarise(experiment: Experiment) -> Summary:
    """The table of an experiment's model, for one example.

    Raises:
        ConfigError: As in `fnn.train`.
    """
    parts = build(experiment)
    shape = parts.dataset.train.inputs.shape[1:]
    return summary(parts.model, jax.ShapeDtypeStruct((1, *shape), jnp.dtype(experiment.precision)))
