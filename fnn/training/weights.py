"""A trained model in a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fnn.layer import Params, State
from fnn.trees import from_paths, paths

MOST_UNKNOWN = 20
"""How many tensors that the model has not are named; a file may hold millions."""
DTYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "bfloat16",
    "BOOL": "bool",
}
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, as PyTorch's .pth and NumPy's .npz are",
    b"\x80": "a pickle",
    b"\x93NUMPY": "an array of NumPy (.npy)",
    b"\x89HDF\r\n": "an HDF5 file (.h5)",
}
"""What their first bytes tell."""


class WeightsError(ValueError):
    """A weights file cannot be read, or does not fit the model.

    Attributes:
        names: Of the tensors that do not fit.
    """

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


def save_weights(
    params: Params, state: State, metadata: Mapping[str, str], raw: Params | None = None
) -> bytes:
    """The bytes of a safetensors file: ``params/<path>``, ``state/<path>``, of averages ``raw/<path>``."""
    tree = {"params": params, "state": state, "raw": raw or {}}
    return save({path: np.ascontiguousarray(leaf) for path, leaf in paths(tree).items()}, dict(metadata))


def load_weights(file: str | Path, params: Any, state: Any) -> tuple[Params, State]:
    """Read a model's params and state from a safetensors file, the only format: nothing is ever unpickled.

    Args:
        file: Written from `save_weights`.
        params, state: What the model has, as arrays or shapes (``jax.eval_shape(model.init, key, x)``).

    Raises:
        WeightsError: The file is no safetensors file, or differs from the model; every missing, extra and
            misshaped tensor is listed. No tensor is read before all agree.
    """
    tree = from_paths(load_part(file, paths({"params": params, "state": state})))
    return tree.get("params", {}), tree.get("state", {})


def load_part(
    file: str | Path, leaves: Mapping[str, Any], left_out: Callable[[str], bool] = lambda name: False
) -> dict[str, np.ndarray]:
    """As `load_weights`, by name: without those tensors of the model and the file that are left out.

    Args:
        file: As of `load_weights`.
        leaves: What the model has, as arrays or shapes by name: ``params/<path>``, ``state/<path>``.
        left_out: Of a tensor's name.

    Raises:
        WeightsError: As `load_weights`, of the others.
    """
    wanted = {name: _form(leaf) for name, leaf in leaves.items() if not left_out(name)}
    with open_tensors(file) as tensors:
        _compare(file, tensors, wanted, left_out)
        return {name: tensors.get_tensor(name) for name in wanted}


def tensor_names(file: str | Path) -> list[str]:
    """The names ``params/<path>`` and ``state/<path>`` in a safetensors file.

    Raises:
        WeightsError: The file is no safetensors file.
    """
    with open_tensors(file) as tensors:
        return _names(tensors)


def read_metadata(file: str | Path) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        WeightsError: The file is no safetensors file.
    """
    with open_tensors(file) as tensors:
        return dict(tensors.metadata() or {})


@contextmanager
def open_tensors(file: str | Path) -> Iterator[Any]:
    """A safetensors file, open for reading.

    Raises:
        WeightsError: There is none, or it is of another format or damaged.
    """
    if not os.path.isfile(file):  # to open a pipe is to wait for whoever writes to it
        found = "something else" if os.path.exists(file) else "none"
        raise WeightsError(f"{file}: expected a safetensors file, found {found}")
    try:
        with safe_open(file, framework="numpy") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        found = _other_format(file) or f"cannot be read as safetensors: {error}"
        raise WeightsError(f"{file}: {found}") from None


def _names(tensors: Any) -> list[str]:
    """All but the parameters that an average is of."""
    return [name for name in tensors.keys() if not name.startswith("raw/")]  # noqa: SIM118


def _compare(file: str | Path, tensors: Any, wanted: dict[str, str], left_out: Callable[[str], bool]) -> None:
    """By the file's header alone."""
    names = [name for name in _names(tensors) if not left_out(name)]
    found = {name: _saved_form(tensors.get_slice(name)) for name in names}
    missing = [n for n in wanted if n not in found]
    others = {n: form for n, form in wanted.items() if found.get(n, form) != form}
    unknown = [n for n in found if n not in wanted]
    problems = [f"missing {n}" for n in missing]
    problems += [f"{n}: expected {form}, got {found[n]}" for n, form in others.items()]
    problems += [f"unknown {n}" for n in unknown[:MOST_UNKNOWN]]
    if len(unknown) > MOST_UNKNOWN:
        problems.append(f"and {len(unknown) - MOST_UNKNOWN} more unknown")
    if problems:
        text = f"{file} does not fit the model: {'; '.join(problems)}"
        raise WeightsError(text, (*missing, *others, *unknown))


def _form(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"


def _saved_form(tensor: Any) -> str:
    dtype = tensor.get_dtype()
    return f"{DTYPES.get(dtype, dtype)}{tensor.get_shape()}"


def _other_format(file: str | Path) -> str | None:
    """What a file is that people keep weights in, too."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(8)
    except OSError:  # which is told already
        return None
    for magic, name in OTHER_FORMATS.items():
        if start.startswith(magic):
            return f"expected a safetensors file, no other is read, and found {name}"
    return None
