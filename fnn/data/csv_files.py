"""A table of numbers as comma-separated values."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fnn.data.dataset import DataError, Dataset, Split, brief
from fnn.trees import near

if TYPE_CHECKING:
    from _csv import Reader

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Row:
    line: int
    features: np.ndarray
    target: str


def read_csv(file: Path, target: str | None, classify: bool) -> Dataset:
    """A data set from a table with a header row.

    Args:
        file: The table.
        target: The name of the target's column; by default the last.
        classify: Whether the targets' distinct values are classes, or numbers to regress to.

    Raises:
        DataError: The table is damaged; the message starts with ``file:line``.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            name, rows = _parse(file, csv.reader(stream, strict=True), target)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected a table in UTF-8, cannot read it: {error}") from error
    known = [row for row in rows if row.target]
    unknown = [row for row in rows if not row.target]
    if not known:
        raise DataError(f"{file}: expected a row with a value in column {brief(repr(name))}, found none")
    classes = None
    if classify:
        classes, targets = _classes([row.target for row in known])
    else:
        targets = np.array([[_number(file, row.line, name, row.target)] for row in known], np.float32)
    predict = Split(_features(unknown)) if unknown else None
    return Dataset(Split(_features(known), targets), predict=predict, classes=classes)


def _parse(file: Path, lines: Reader, target: str | None) -> tuple[str, list[_Row]]:
    """The name of the target column, and the rows."""
    found = records(file, lines)
    _, header = next(found, (1, []))
    column = _target_column(file, header, target)
    rows = []
    for line, values in found:
        if len(values) != len(header):
            raise DataError(f"{file}:{line}: expected {len(header)} values, found {len(values)}")
        features = [_number(file, line, header[i], text) for i, text in enumerate(values) if i != column]
        rows.append(_Row(line, np.array(features, np.float32), values[column]))
    return header[column], rows


def records(file: Path, lines: Reader) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line on which it ends."""
    try:
        for values in lines:
            if any("\0" in value for value in values):
                raise DataError(f"{file}:{lines.line_num}: expected a table in UTF-8, found a zero byte")
            if values:
                yield lines.line_num, [value.strip() for value in values]
    except csv.Error as error:
        raise DataError(f"{file}:{lines.line_num}: expected comma-separated values: {error}") from error


def _target_column(file: Path, header: list[str], target: str | None) -> int:
    if len(header) < 2:
        found = brief(repr(header[0])) if header else "nothing"
        raise DataError(f"{file}:1: expected two or more names separated by commas, found {found}")
    before: set[str] = set()
    for i, name in enumerate(header):
        if not name or name in before:
            found = f"{brief(repr(name))} again" if name else "none"
            raise DataError(f"{file}:1: column {i + 1}: expected a name of its own, found {found}")
        before.add(name)
    if target is None:
        return len(header) - 1
    if target not in header:
        raise DataError(f"{file}:1: expected a column {target!r}; nearest: {brief(near(target, header))}")
    return header.index(target)


def _number(file: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST:
        where, found = f"{file}:{line}: column {brief(repr(column))}", brief(repr(text))
        raise DataError(f"{where}: expected a finite number, found {found}")
    return value


def _features(rows: list[_Row]) -> np.ndarray:
    return np.stack([row.features for row in rows])


def _classes(labels: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct labels in order, and the index of each label among them."""
    distinct = set(labels)
    try:
        names = sorted(distinct, key=int)
    except ValueError:  # not all are whole numbers
        names = sorted(distinct)
    index = {name: i for i, name in enumerate(names)}
    return tuple(names), np.array([index[label] for label in labels], np.int32)
