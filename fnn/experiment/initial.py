"""Weights to begin with, from a run or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fnn.choices import ConfigError
from fnn.experiment.saved import weights_file
from fnn.experiment.schema import InitSection
from fnn.models.blocks import regrouped
from fnn.training.weights import WeightsError, load_part, tensor_names
from fnn.trees import matches, near, paths

_FEW = 2
"""Layers that a model may differ in from the weights, to be told how these are made anew."""


@dataclass(frozen=True, eq=False)
class Initial:
    """What a run begins with in the place of what is drawn at random.

    Attributes:
        file: Where it is from.
        sha256: Of the file.
        arrays: By path, ``params/conv1/kernel`` or ``state/batch_norm1/mean``.
        new: The paths of what the run makes anew all the same.
    """

    file: Path
    sha256: str
    arrays: dict[str, np.ndarray]
    new: tuple[str, ...]

    @property
    def message(self) -> str:
        """What a user should know."""
        made = f"; made anew: {', '.join(self.new)}" if self.new else ""
        return f"beginning with {len(self.arrays)} tensors of {self.file}{made}"


def read_initial(section: InitSection, params: Any, state: Any) -> Initial:
    """The weights that a config begins with, for a model.

    Its blocks may be scanned where the file's are not, or the other way about.

    Args:
        section: Which file, and what is not taken from it.
        params, state: What the model has, as arrays or shapes.

    Raises:
        ConfigError: The file is missing, damaged or another one than ``sha256`` says; it differs from the
            model in what is to be taken, all of which is listed; a pattern fits nothing, or everything.
    """
    assert section.path is not None
    here = ("init_from", "path")
    wanted = paths({"params": params, "state": state})
    try:
        file = weights_file(section.path)
        names = tensor_names(file)
        _check_patterns(section.replace, {_inner(name) for name in (*names, *wanted)})
        with open(file, "rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        if section.sha256 not in (None, sha256):
            text = f"expected {section.sha256}, and {file} has {sha256}: it is another file than it was"
            raise ConfigError(("init_from", "sha256"), text)
        new = tuple(name for name in wanted if covered(section.replace, _inner(name)))
        if len(new) == len(wanted):
            raise ConfigError(
                ("init_from", "replace"), "covers all that the model has: nothing is left to take"
            )
        arrays = _taken(file, names, wanted, new, section.replace)
    except WeightsError as error:
        raise ConfigError(here, f"{error}{_advice(error, wanted)}") from None
    except OSError as error:
        raise ConfigError(here, f"{section.path}: cannot be read: {error.strerror}") from None
    return Initial(file, sha256, arrays, tuple(_inner(name) for name in new))


def covered(patterns: Iterable[str], path: str) -> bool:
    """Whether any of the patterns fits a path."""
    return any(matches(pattern, path) for pattern in patterns)


def _taken(
    file: Path,
    names: Collection[str],
    wanted: Mapping[str, Any],
    new: Collection[str],
    patterns: Collection[str],
) -> dict[str, np.ndarray]:
    """What the model has and is not new, from a file that has its stages stacked as the names there say."""
    theirs = regrouped(wanted, names)
    made = regrouped({name: wanted[name] for name in new}, names)
    for name, leaf in theirs.items():
        if name not in made and covered(patterns, _inner(name)):
            block = next(iter(regrouped({name: leaf}, ())))
            here = next(path for path, leaf in wanted.items() if block in regrouped({path: leaf}, ()))
            raise ConfigError(
                ("init_from", "replace"),
                f"covers {_inner(name)} of {file}, which the model stacks otherwise: "
                f"expected a pattern for the model's own paths, such as {_inner(here)}",
            )

    def left_out(name: str) -> bool:
        return name in made or (name not in theirs and covered(patterns, _inner(name)))

    try:
        ours = regrouped(load_part(file, theirs, left_out), wanted)
    except WeightsError as error:
        foreign = (theirs.keys() & error.names) - wanted.keys()  # which no pattern of the model's paths fits
        raise WeightsError(str(error), () if foreign else error.names) from None
    return {name: ours[name] for name in wanted if name not in new}


def _check_patterns(patterns: Iterable[str], known: set[str]) -> None:
    for pattern in patterns:
        if not any(matches(pattern, path) for path in known):
            text = f"pattern {pattern!r} matches no parameter; nearest: {near(pattern, sorted(known))}"
            raise ConfigError(("init_from", "replace"), text)


def _advice(error: WeightsError, wanted: Iterable[str]) -> str:
    """How a layer or two that do not fit, such as the last one, are made anew."""
    inner = [_inner(name) for name in error.names]
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in inner))
    left = [name for name in map(_inner, wanted) if name.rpartition("/")[0] not in layers]
    if not left or not 0 < len(layers) <= _FEW or "" in layers:
        return ""
    patterns = ", ".join(f'"{layer}/*"' for layer in layers)
    return f"; init_from.replace: [{patterns}] makes that anew"


def _inner(name: str) -> str:
    """The path of a tensor in ``params`` or ``state``."""
    return name.partition("/")[2]
