"""A trained model in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fnn.layer import Params, State
from fnn.trees import from_paths, paths


class WeightsError(ValueError):
    """A weights file cannot be read, or does not fit the model."""


def save_weights(
    params: Params, state: State, metadata: Mapping[str, str], raw: Params | None = None
) -> bytes:
    """The bytes of a safetensors file: ``params/<path>``, ``state/<path>``, of averages ``raw/<path>``."""
    tree = {"params": params, "state": state, "raw": raw or {}}
    return save({path: np.ascontiguousarray(leaf) for path, leaf in paths(tree).items()}, dict(metadata))


def load_weights(file: str | Path, params: Any, state: Any) -> tuple[Params, State]:
    """Read a model's params and state.

    Args:
        file: Written from `save_weights`.
        params, state: What the model has, as arrays or shapes (``jax.eval_shape(model.init, key, x)``).

    Raises:
        WeightsError: The file is no safetensors file, or differs from the model; every missing, extra and
            misshaped tensor is listed.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            names = [name for name in tensors.keys() if not name.startswith("raw/")]  # noqa: SIM118
            found = {name: tensors.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: cannot be read as safetensors: {error}") from None
    wanted = paths({"params": params, "state": state})
    problems = [f"missing {n}" for n in wanted if n not in found]
    problems += [f"unknown {n}" for n in found if n not in wanted]
    problems += [
        f"{n}: expected {_form(wanted[n])}, got {_form(found[n])}"
        for n in wanted
        if n in found and _form(wanted[n]) != _form(found[n])
    ]
    if problems:
        raise WeightsError(f"{file} does not fit the model: " + "; ".join(problems))
    tree = from_paths({name: found[name] for name in wanted})
    return tree.get("params", {}), tree.get("state", {})


def _form(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"
