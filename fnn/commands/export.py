"""Export a model: its weights in the names of another library, or the whole of it as a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from fnn import kernels
from fnn.choices import ConfigError, find, read_choice
from fnn.commands.onnx_model import onnx_model
from fnn.commands.output import OutputError, check_output, write_output
from fnn.experiment.saved import Saved, read_saved
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import Naming, to_foreign
from fnn.training import save_weights
from fnn.training.folder import WEIGHTS, to_json
from fnn.training.weights import read_metadata

PLATFORMS = ("cpu", "cuda", "tpu")
"""Where a StableHLO program runs."""
OWN = "fnn"
"""The naming of weights as fnn itself keeps them."""


def export(
    model: Path, form: str, out: Path | None = None, *, naming: str | None = None, overwrite: bool = False
) -> str:
    """Write a model in another form.

    Args:
        model: A run's folder, or a weights file.
        form: ``safetensors``, ``stablehlo`` or ``onnx``.
        out: The file; None: beside the weights, with the form's ending.
        naming: Of safetensors, whose names the tensors get; None: those of the first library that is known to
            have the network, else fnn's.
        overwrite: Whether what is written may be there.

    Returns:
        What was done, in a line.

    Raises:
        ConfigError: The form or the naming is unknown.
        WeightsError: The weights cannot be read.
        OutputError: The file cannot be written.
        OnnxError: The program cannot be converted to ONNX, or what converts it is not installed.
    """
    write: Callable[[Saved, Path, str | None, Path | None], tuple[dict[Path, bytes], str]]
    write = find(form, FORMATS, "format", ())
    if naming is not None and form != "safetensors":
        raise ConfigError((), f"--naming goes with --format safetensors, and not with {form}")
    source = model / WEIGHTS if model.is_dir() else model
    if out is not None:
        check_output(out, overwrite)
    files, done = write(read_saved(model), source, naming, out)
    for file in files:
        check_output(file, overwrite)
    write_output(files)
    return f"{' and '.join(map(str, files))}: {done}"


def _safetensors(
    saved: Saved, source: Path, naming: str | None, out: Path | None
) -> tuple[dict[Path, bytes], str]:
    """The weights alone; beside those of fnn, the file bears the name of the naming."""
    namings = _namings(saved)
    name = naming or next(iter(namings))
    chosen = find(name, namings, "naming of this model", ())
    file = out or source.with_suffix(f".{name}.safetensors")
    if chosen is None:
        weights = save_weights(saved.params, saved.state, read_metadata(source))
        why = "" if naming else "; of no other library are the names of this model's known"
        return {file: weights}, f"the tensors in fnn's own names and layouts{why}"
    tensors = to_foreign(chosen, saved.params, saved.state)
    known = {key: value for key, value in read_metadata(source).items() if key in ("classes", "preprocess")}
    return {file: save(tensors, {"format": "pt", **known})}, f"{len(tensors)} tensors in {name}'s names"


def _namings(saved: Saved) -> Mapping[str, Naming | None]:
    """Those of the published network that the model is, if it is one, and fnn's own."""
    own: dict[str, Naming | None] = {OWN: None}
    if isinstance(saved.config, list):
        return own
    name, _, _ = read_choice(saved.config, ("model",))
    return {**ARCHITECTURES[name].namings, **own} if name in ARCHITECTURES else own


def _stablehlo(
    saved: Saved, source: Path, naming: str | None, out: Path | None
) -> tuple[dict[Path, bytes], str]:
    """The program, and beside it in JSON what goes in and comes out."""
    file = out or source.with_suffix(".stablehlo")
    if file.suffix == ".json":
        raise OutputError(f"{file}: expected another ending: what goes in and comes out is told in a .json")
    example = _example(saved)
    batch = jax.export.symbolic_shape("batch")
    arguments = jax.ShapeDtypeStruct((*batch, *example.shape[1:]), example.dtype)
    with kernels.plain():
        exported = jax.export.export(jax.jit(_program(saved)), platforms=PLATFORMS)(arguments)
    facts = _facts(saved) | {"platforms": PLATFORMS, "jax": jax.__version__}
    files = {
        file: bytes(exported.serialize()),
        file.with_suffix(".json"): (to_json(facts, indent=2) + "\n").encode(),
    }
    return files, f"a program for {', '.join(PLATFORMS)}, {_taken(saved)}"


def _onnx(saved: Saved, source: Path, naming: str | None, out: Path | None) -> tuple[dict[Path, bytes], str]:
    """The program, with what goes in and comes out in its metadata."""
    example = _example(saved)
    facts = {
        name: value if isinstance(value, str) else to_json(value) for name, value in _facts(saved).items()
    }
    with kernels.plain():
        data = onnx_model(_program(saved), example.shape[1:], example.dtype, facts)
    return {out or source.with_suffix(".onnx"): data}, f"a program, {_taken(saved)}"


FORMATS = {"safetensors": _safetensors, "stablehlo": _stablehlo, "onnx": _onnx}


def _program(saved: Saved) -> Callable[[jax.Array], jax.Array]:
    """From examples as `Preprocessing.prepare` gives them to outputs in float32, the weights in it."""

    def program(examples: jax.Array) -> jax.Array:
        x = examples if saved.normalizer is None else saved.normalizer(examples)
        outputs, _ = saved.model.apply(saved.params, saved.state, x.astype(saved.inputs.dtype))
        wide: jax.Array = outputs.astype(np.float32)
        return wide

    return program


def _example(saved: Saved) -> jax.ShapeDtypeStruct:
    """Pictures are bytes; other examples are numbers."""
    dtype = np.float32 if saved.preprocessing is None else np.uint8
    return jax.ShapeDtypeStruct(saved.inputs.shape, dtype)


def _facts(saved: Saved) -> dict[str, Any]:
    """What a program takes and gives."""
    example = _example(saved)
    facts: dict[str, Any] = {"input": example.shape[1:], "dtype": example.dtype.name}
    if saved.preprocessing is not None:
        facts["preprocess"] = asdict(saved.preprocessing)
    return facts if saved.classes is None else facts | {"classes": saved.classes}


def _taken(saved: Saved) -> str:
    example = _example(saved)
    sizes = ", ".join(map(str, ("batch", *example.shape[1:])))
    return f"from {example.dtype.name} ({sizes}) to outputs that are no probabilities yet"
