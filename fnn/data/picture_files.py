"""Which picture files a data set has, and the class of each: from folders, or from a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from fnn.data.csv_files import records
from fnn.data.dataset import DataError, brief
from fnn.data.pictures import SUFFIXES
from fnn.trees import near

PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""The parts of a set under the names that they have on disk."""
COLUMNS = ("path", "label", "split")


@dataclass(frozen=True)
class PictureFiles:
    """The files of one part and their classes.

    Attributes:
        files: In an order that depends on their names alone, or that of the table.
        targets: The class index of each.
    """

    files: list[str]
    targets: np.ndarray


Found = tuple[tuple[str, ...], dict[str, PictureFiles]]
"""The classes, and the files of each part of a `Dataset` by its name."""


def in_folders(root: Path) -> Found:
    """Pictures in a folder for each class: ``root/train/<class>``, or ``root/<class>`` with no other part.

    Classes are the names of the folders of the training part in order, as text is ordered. Pictures may lie
    deeper in them. Hidden files and folders, and files of other endings, are left out.

    Args:
        root: Holds the folder ``train``, and it may hold ``validation`` or ``val`` and ``test``; or a folder
            for each class.

    Raises:
        DataError: There is no such folder, a class has no pictures, or another part has a class that the
            training part does not have.
    """
    names = _folders(root)
    if not any(name in PARTS for name in names):
        classes = _class_folders(root)
        return classes, {"train": _labelled(root, classes, classes)}
    folders: dict[str, Path] = {}
    for name in names:
        if name not in PARTS:
            wanted = "expected the folders train, validation (or val) and test alone"
            raise DataError(f"{root}: {wanted}, found {brief(repr(name))}")
        if PARTS[name] in folders:
            raise DataError(f"{root}: expected one folder of a validation part, found val and validation")
        folders[PARTS[name]] = root / name
    if "train" not in folders:
        raise DataError(f"{root}: expected the folder train beside {', '.join(names)}, found none")
    classes = _class_folders(folders["train"])
    return classes, {p: _labelled(f, _class_folders(f), classes) for p, f in folders.items()}


def _class_folders(folder: Path) -> tuple[str, ...]:
    names = _folders(folder)
    if not names:
        raise DataError(f"{folder}: expected a folder of pictures for each class, found none")
    for name in names:
        if not name.isprintable():  # nor are bytes that are no UTF-8
            raise DataError(f"{folder}: expected a class's name in UTF-8, found {brief(ascii(name))}")
    return names


def _labelled(folder: Path, present: tuple[str, ...], classes: tuple[str, ...]) -> PictureFiles:
    files: list[str] = []
    counts = []
    for name in present:
        if name not in classes:
            wanted = f"expected a class of the training part, nearest: {brief(near(name, classes))}"
            raise DataError(f"{folder / name}: {wanted}")
        found = pictures_in(folder / name)
        if not found:
            raise DataError(f"{folder / name}: expected pictures (.jpg, .png, ...), found none")
        files += found
        counts.append(len(found))
    index = {name: i for i, name in enumerate(classes)}
    return PictureFiles(files, np.repeat(np.array([index[name] for name in present], np.int32), counts))


def _folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, in order."""
    if not os.path.isdir(folder):
        found = "something else" if os.path.exists(folder) else "none"
        wanted = "expected a folder of pictures, or a table of them that ends in .csv"
        raise DataError(f"{folder}: {wanted}, found {found}; set data.path to it")
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".")))
    except OSError as error:
        _unreadable(error)


def pictures_in(folder: Path) -> list[str]:
    """The pictures in a folder and all folders in it, in order."""
    found = []
    for here, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                found.append(os.path.join(here, name))
    return sorted(found)


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: expected a folder of pictures, cannot read it: {error.strerror}")


@dataclass(frozen=True)
class _Row:
    line: int
    file: str
    label: str
    part: str


def in_table(table: Path) -> Found:
    """Pictures from a table with the columns ``path``, ``label`` and, if there are parts, ``split``.

    Classes are the labels of the training part in order, as text is ordered.

    Args:
        table: Comma-separated values in UTF-8 with a header row. A path is relative to the table's folder; a
            split is ``train``, ``validation`` (or ``val``) or ``test``.

    Raises:
        DataError: The table is damaged, a picture is not there, or a label is none of the training part's;
            the message starts with ``file:line``.
    """
    if not os.path.isfile(table):
        raise DataError(f"{table}: expected a table of pictures, found none; set data.path to it")
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(_rows(table, records(table, csv.reader(stream, strict=True))))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: expected a table in UTF-8, cannot read it: {error}") from error
    classes = tuple(sorted({row.label for row in rows if row.part == "train"}))
    if not classes:
        raise DataError(f"{table}: expected rows of the training part, found none")
    index = {name: i for i, name in enumerate(classes)}
    for row in rows:
        where = f"{table}:{row.line}"
        if row.label not in index:
            wanted = f"expected a label of the training part, found {brief(repr(row.label))}"
            raise DataError(f"{where}: {wanted}; nearest: {brief(near(row.label, classes))}")
        if not os.path.isfile(row.file):
            raise DataError(f"{where}: expected the picture {brief(row.file)}, found none")
    parts = {}
    for part in dict.fromkeys(row.part for row in rows):
        chosen = [row for row in rows if row.part == part]
        targets = np.array([index[row.label] for row in chosen], np.int32)
        parts[part] = PictureFiles([row.file for row in chosen], targets)
    return classes, parts


def _rows(table: Path, lines: Iterator[tuple[int, list[str]]]) -> Iterator[_Row]:
    _, header = next(lines, (1, []))
    form = f"{table}:1: expected the columns path, label and, if there are parts, split"
    if sorted(header) not in (sorted(COLUMNS[:2]), sorted(COLUMNS)):
        raise DataError(f"{form}, found {brief(', '.join(header) or 'none')}")
    for line, values in lines:
        if len(values) != len(header):
            raise DataError(f"{table}:{line}: expected {len(header)} values, found {len(values)}")
        row = {"split": "train", **dict(zip(header, values, strict=True))}
        for name in COLUMNS[:2]:
            if not row[name]:
                raise DataError(f"{table}:{line}: expected a {name}, found none")
        if row["split"] not in PARTS:
            wanted = f"expected the split {', '.join(PARTS)}"
            raise DataError(f"{table}:{line}: {wanted}, found {brief(repr(row['split']))}")
        yield _Row(line, str(table.parent / row["path"]), row["label"], PARTS[row["split"]])
