"""Files that a command writes where the user says: whole or not at all, and over nothing unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fnn.training.folder import write_whole


class OutputError(ValueError):
    """A file cannot be written where it was asked for."""


def check_output(file: Path, overwrite: bool) -> None:
    """Refuse what could not be written in the end, before there is anything to write.

    Raises:
        OutputError: It is a folder, its folder is not there or may not be written, or it is there and not to
            be overwritten.
    """
    if file.is_dir():
        raise OutputError(f"{file}: expected a file to write, found a folder")
    if not file.absolute().parent.is_dir():
        raise OutputError(f"{file}: cannot be written: {file.parent} is no folder")
    if not os.access(file.absolute().parent, os.W_OK):
        raise OutputError(f"{file}: cannot be written: {file.parent} may not be written to")
    if file.exists() and not overwrite:
        raise OutputError(f"{file} exists: choose another name or --overwrite")


def write_output(files: Mapping[Path, bytes]) -> None:
    """Write files, each at once.

    Raises:
        OutputError: The disk is full, or one may not be written.
    """
    for file, data in files.items():
        try:
            write_whole(file, data)
        except OSError as error:
            raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from None
