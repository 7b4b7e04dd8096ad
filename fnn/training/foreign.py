"""Tensors from the files of other libraries, never unpickled."""

from __future__ import annotations

import json
import shlex
import zipfile
from pathlib import Path

import numpy as np

from fnn.data.npz_files import read_arrays
from fnn.training.weights import WeightsError, open_tensors

_PICKLE = b"\x80"


def read_tensors(file: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file, or of an ``.npz`` archive of plain arrays, by name.

    Types are kept, bfloat16 too.

    Raises:
        WeightsError: There is no such file, or it is of another format or damaged. Of PyTorch's pickles the
            message says how they become safetensors.
        DataError: An ``.npz`` archive is damaged, or one of its entries is no array of numbers.
    """
    path = Path(file)
    if not path.exists():
        raise WeightsError(f"{file}: expected weights as safetensors or .npz, found none")
    if path.is_file() and zipfile.is_zipfile(path) and not _of_pytorch(path):
        return read_arrays(path)
    if path.is_file() and (zipfile.is_zipfile(path) or _starts(path, _PICKLE)):
        raise WeightsError(
            f"{file}: is a pickle, which runs what its maker wrote into it, and is not read; "
            f"where PyTorch is, this makes it safe: {_conversion(path)}"
        )
    with open_tensors(path) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118


def _of_pytorch(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except Exception:  # damaged, which is told when it is read
        return False


def _starts(file: Path, start: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(start)) == start
    except OSError:  # which is told when it is read
        return False


def _conversion(file: Path) -> str:
    """A command that makes a safetensors file of a pickled dict of tensors, unpickling nothing else."""
    there, then = (json.dumps(str(path)) for path in (file, file.with_suffix(".safetensors")))
    load = f'torch.load({there}, weights_only=True, map_location="cpu")'
    return shlex.join(["python", "-c", f"import torch, safetensors.torch as s; s.save_file({load}, {then})"])
