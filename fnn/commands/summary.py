"""Print the table of a model, wherever it is found."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp

from fnn.analysis.summary import Summary, summary
from fnn.choices import ConfigError
from fnn.experiment import build, read
from fnn.experiment.model import build_model
from fnn.experiment.saved import read_saved
from fnn.layer import Layer
from fnn.machine import in_bytes, memory
from fnn.models.catalog import ARCHITECTURES
from fnn.registry import registry
from fnn.trees import near

Shape = tuple[int, ...]


def summarise(
    source: str, overrides: Iterable[str] = (), shape: Shape | None = None, batch: int = 1
) -> Summary:
    """The table of a model.

    Args:
        source: A config, a weights file, the folder of a run that has ended, or the name of a network.
        overrides: ``dotted.key=value`` of a config.
        shape: Of one example, if it is not that of the config's data, of the file, or of what the network
            was published for.
        batch: Examples.

    Raises:
        ConfigError: There is no such model, or something does not fit, as in `fnn.train`.
        WeightsError: The file cannot be read.
        LayerError: The model does not take such an example.

    Example:
        >>> summarise("flatten", shape=(8, 8, 1), batch=2).rows[0].output
        (2, 64)
    """
    overrides = list(overrides)
    config = Path(source).suffix in (".yaml", ".yml")
    if overrides and not config:
        raise ConfigError((), f"{source} is no config (.yaml): expected no override, got {overrides[0]!r}")
    model, example = _of_config(source, overrides) if config else _of_name(source, shape)
    x = jax.ShapeDtypeStruct((batch, *(shape or example.shape[1:])), example.dtype)
    if (size := math.prod(x.shape) * x.dtype.itemsize) > (most := memory()):
        found = f"{x.shape} with {in_bytes(size)}"
        raise ConfigError(
            (), f"expected inputs of at most {in_bytes(most)}, this machine's memory, got {found}"
        )
    return summary(model, x)


def _of_config(file: str, overrides: list[str]) -> tuple[Layer, jax.ShapeDtypeStruct]:
    experiment = read(file, overrides)
    parts = build(experiment)
    shape = parts.dataset.train.inputs.shape[1:]
    return parts.model, jax.ShapeDtypeStruct((1, *shape), jnp.dtype(experiment.precision))


def _of_name(name: str, shape: Shape | None) -> tuple[Layer, jax.ShapeDtypeStruct]:
    """Of a network, unless there is none of that name: of a weights file or a run."""
    known = {*ARCHITECTURES, *registry["layer"]}
    if name not in known:
        if not Path(name).exists() and Path(name).name == name and not Path(name).suffix:
            wanted = "a config (.yaml), a weights file (.safetensors), a run's folder or a network"
            raise ConfigError((), f"{name}: expected {wanted}; nearest: {near(name, known)}")
        saved = read_saved(name)
        return saved.model, saved.inputs
    if name in ARCHITECTURES:
        preprocessing = ARCHITECTURES[name].preprocessing
        shape = shape or (*preprocessing.size, preprocessing.channels)
    if shape is None:
        raise ConfigError((), f"{name}: expected the shape of an example, such as --input 28x28x1")
    return build_model(name), jax.ShapeDtypeStruct((1, *shape), jnp.float32)


def read_shape(text: str) -> Shape:
    """A shape as it is typed.

    Raises:
        ConfigError: It is none.

    Example:
        >>> read_shape("224x224x3")
        (224, 224, 3)
    """
    if not re.fullmatch(r"[1-9]\d{0,8}(x[1-9]\d{0,8}){0,3}", text):
        raise ConfigError((), f"--input: expected sizes such as 224x224x3, got {text!r}")
    return tuple(int(size) for size in text.split("x"))
