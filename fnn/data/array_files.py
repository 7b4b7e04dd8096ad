"""The user's own arrays, from an ``.npz`` archive or a ``.csv`` table."""

from __future__ import annotations

import os
from typing import Literal

from fnn.data.csv_files import read_csv
from fnn.data.dataset import DataError, Dataset
from fnn.data.files import FilePath, expand
from fnn.data.npz_files import read_npz
from fnn.registry import register


@register(group="source")
def arrays(
    path: FilePath, target: str | None = None, task: Literal["classification", "regression"] | None = None
) -> Dataset:
    """Arrays from an ``.npz`` archive, or a table from a ``.csv`` file with a header row.

    In an archive, ``x`` holds the inputs and ``y`` the targets; ``x_test`` and ``y_test``, if
    there, are the test part. Inputs are features ``(n, d)`` or images ``(n, h, w)`` or
    ``(n, h, w, c)``; images of bytes stay bytes, all else becomes float32. Targets are class
    indices ``(n,)`` or values ``(n,)`` or ``(n, outputs)``. A pickled array is refused.

    In a table, one column is the target and the others are features, all finite numbers. Rows
    with an empty target become the part ``predict``.

    Args:
        path: The file.
        target: In an archive the key of the targets, by default ``y``; in a table the column's
            name, by default the last column's.
        task: By default an archive's whole numbers mean classification, and its other numbers,
            like every table, regression. A table's classes are the distinct values of its
            target column in order, by value where all are whole numbers.

    Raises:
        ValueError: ``task`` is neither.
        DataError: The file is missing, damaged, or holds something else; the line names the
            key, or the line and the column.
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"arrays: expected the task classification or regression, got {task!r}")
    file = expand(path)
    if not os.path.isfile(file):
        raise DataError(f"{file}: expected an .npz or .csv file, found none; set data.path to it")
    if file.suffix.lower() == ".csv":
        return read_csv(file, target, classify=task == "classification")
    if file.suffix.lower() == ".npz":
        return read_npz(file, target or "y", None if task is None else task == "classification")
    raise DataError(f"{file}: expected a file ending in .npz or .csv, found {file.suffix or 'no ending'}")
