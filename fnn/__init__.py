"""Neural networks as plain functions on JAX.

A layer is a pair of pure functions, ``init`` and ``apply``; layers compose into models, and everything
in JAX and optax works on a model as it is. ``fnn.train`` and the command line run experiments from a
config; they are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fnn import data, layers, losses, metrics, models
from fnn.capture import capture, captured
from fnn.choices import ConfigError
from fnn.combine import add, concat, residual, serial
from fnn.layer import Key, Layer, LayerError, Params, State, map_layers, named, spec, stateless
from fnn.layers import *  # noqa: F403
from fnn.models import *  # noqa: F403
from fnn.registry import register
from fnn.repeat import remat, repeat
from fnn.trees import count, digest, near, paths
from fnn.version import __version__ as __version__

if TYPE_CHECKING:
    from fnn.analysis.summary import summary
    from fnn.commands.train import Run, train
    from fnn.experiment import Experiment


__all__ = [
    "ConfigError",
    "Experiment",
    "Key",
    "Layer",
    "LayerError",
    "Params",
    "Run",
    "State",
    "add",
    "capture",
    "captured",
    "concat",
    "count",
    "data",
    "digest",
    "losses",
    "map_layers",
    "metrics",
    "named",
    "paths",
    "register",
    "remat",
    "repeat",
    "residual",
    "serial",
    "spec",
    "stateless",
    "summary",
    "train",
]
__all__ += layers.__all__
__all__ += models.__all__

_LATER = {
    "Experiment": "experiment",
    "Run": "commands.train",
    "experiment": "experiment",
    "optim": "optim",
    "summary": "analysis.summary",
    "testing": "testing",
    "train": "commands.train",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'fnn' has no attribute {name!r}; nearest: {near(name, __all__)}")
    module = import_module(f"fnn.{_LATER[name]}")
    return module if name == _LATER[name] else getattr(module, name)
