"""Import weights: another library's tensors as a model that says all that it takes to use it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import document
from fnn.choices import ConfigError, find
from fnn.commands.output import check_output, write_output
from fnn.data import Preprocessing
from fnn.data.class_names import imagenet_classes, read_classes
from fnn.experiment import build_model
from fnn.layer import Params, State
from fnn.models.architecture import Architecture
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import ExchangeError, Naming, from_foreign, nearest_naming, to_foreign, unwrapped
from fnn.registry import registry
from fnn.training import save_weights
from fnn.training.folder import to_json
from fnn.training.foreign import read_tensors
from fnn.trees import count, from_paths, paths

IMAGENET = 1000
"""Outputs of a network for ImageNet's classes."""


def import_weights(
    architecture: str,
    weights: Path,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    naming: str | None = None,
    classes: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Write a weights file of fnn's from one of another library.

    Args:
        architecture: The name of a published network.
        weights: A safetensors file, or an ``.npz`` archive of plain arrays.
        out: What is written.
        overrides: ``key=value`` arguments of the network's function; the number of classes, and what the
            library asks for, need not be said.
        naming: The library whose names the tensors bear; None: the one whose names are there.
        classes: A file with the names of the outputs; None: ImageNet's where there are 1,000.
        overwrite: Whether ``out`` may be there.

    Returns:
        What was done, in a line.

    Raises:
        ConfigError: The architecture, an argument or the naming is unknown, or the classes are too many or
            too few.
        ExchangeError: The tensors do not fit the network.
        WeightsError, DataError: A file cannot be read.
        OutputError: ``out`` cannot be written.
    """
    check_output(out, overwrite)
    known: Architecture = find(architecture, ARCHITECTURES, "architecture", ())
    if not known.namings:
        having = ", ".join(name for name, other in ARCHITECTURES.items() if other.namings)
        raise ConfigError((), f"{architecture}: no library's names of its tensors are known; of {having} are")
    if naming is not None:
        find(naming, known.namings, f"naming of {architecture}", ())
    given = _arguments(architecture, overrides)
    tensors = unwrapped(read_tensors(weights))
    library = naming or _library(architecture, known, weights, tensors, given)
    preprocessing = known.exceptions.get(library, known.preprocessing)
    arguments = dict(known.arguments.get(library, {})) | given
    outputs = _outputs(architecture, known.namings[library], tensors, arguments, preprocessing)
    arguments = ({} if outputs is None else {"classes": outputs}) | arguments
    shapes = _shapes(architecture, arguments, preprocessing)
    try:
        params, state = from_foreign(known.namings[library], tensors, *shapes)
    except ExchangeError as error:
        raise ExchangeError(f"{weights} as {architecture} in {library}'s names: {error}") from None
    names = _names(classes, arguments.get("classes"))
    metadata = _metadata(architecture, arguments, preprocessing, names)
    write_output({out: save_weights(params, state, metadata)})
    called = "without names" if names is None else f"{names[0]} to {names[-1]}"
    return (
        f"{out}: {architecture} with {count(params):,} parameters from {library}'s names, "
        f"{arguments.get('classes')} outputs ({called})"
    )


def _arguments(architecture: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What ``key=value`` texts say, and that the network's function takes it."""
    found = document.Document({"model": {architecture: {}}})
    for text in overrides:
        if "=" not in text:
            raise ConfigError((), f"expected an argument of {architecture} as key=value, got {text!r}")
    document.override(found, [f"model.{architecture}.{text}" for text in overrides], lambda name: None)
    build_model(found.tree["model"], ())
    arguments: dict[str, Any] = found.tree["model"][architecture]
    return arguments


def _library(
    architecture: str,
    known: Architecture,
    weights: Path,
    tensors: Mapping[str, np.ndarray],
    arguments: Mapping[str, Any],
) -> str:
    """Whose names the tensors bear."""
    shapes = _shapes(architecture, arguments, known.preprocessing)
    library = nearest_naming(known.namings, tensors.keys(), *shapes)
    if library is None:
        first, naming = next(iter(known.namings.items()))
        wanted = naming.name(next(iter(paths(shapes[0]))))
        raise ExchangeError(
            f"{weights}: expected the tensors of {architecture} as {' or '.join(known.namings)} calls them, "
            f"such as {wanted} ({first}), found {', '.join(list(tensors)[:3]) or 'none'}"
        )
    return library


def _outputs(
    architecture: str,
    naming: Naming,
    tensors: Mapping[str, np.ndarray],
    arguments: Mapping[str, Any],
    preprocessing: Preprocessing,
) -> int | None:
    """How many classes the tensors are for: the length of the axis that depends on their number.

    None where the network has no such argument, it is given, or no such tensor is there.
    """
    if "classes" in arguments or "classes" not in _parameters(architecture):
        return None
    one, other = (
        paths(dict(zip(("params", "state"), shapes, strict=True)))
        for shapes in (_shapes(architecture, {**arguments, "classes": n}, preprocessing) for n in (2, 3))
    )
    changed = [path for path, leaf in one.items() if other[path].shape != leaf.shape]
    trees = (from_paths({path: leaves[path] for path in changed}) for leaves in (one, other))
    theirs = [to_foreign(naming, *_hollow(tree.get("params", {}), tree.get("state", {}))) for tree in trees]
    for name, tensor in theirs[0].items():
        if name in tensors and tensors[name].ndim == tensor.ndim:
            sizes = zip(tensor.shape, theirs[1][name].shape, tensors[name].shape, strict=True)
            return next(int(found) for two, three, found in sizes if two != three)
    return None


def _parameters(architecture: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(registry["layer"][architecture]).parameters


def _shapes(
    architecture: str, arguments: Mapping[str, Any], preprocessing: Preprocessing
) -> tuple[Params, State]:
    model = build_model({architecture: dict(arguments)})
    inputs = jax.ShapeDtypeStruct((1, *preprocessing.size, preprocessing.channels), np.float32)
    shapes: tuple[Params, State] = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return shapes


def _hollow(params: Params, state: State) -> tuple[Params, State]:
    """Arrays of these shapes that take no memory."""
    hollow: tuple[Params, State] = jax.tree.map(
        lambda leaf: np.broadcast_to(np.int8(0), leaf.shape), (params, state)
    )
    return hollow


def _names(file: Path | None, outputs: int | None) -> tuple[str, ...] | None:
    if file is None:
        return imagenet_classes() if outputs == IMAGENET else None
    names = read_classes(file)
    if len(names) != outputs:
        raise ConfigError((), f"{file}: expected {outputs} names, one an output, found {len(names)}")
    return names


def _metadata(
    architecture: str,
    arguments: dict[str, Any],
    preprocessing: Preprocessing,
    names: tuple[str, ...] | None,
) -> dict[str, str]:
    found = {
        "config": document.write({"model": {architecture: arguments}}),
        "input": to_json((*preprocessing.size, preprocessing.channels)),
        "preprocess": to_json(asdict(preprocessing)),
    }
    return found if names is None else found | {"classes": to_json(names)}
