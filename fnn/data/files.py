"""Where data sets lie on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fnn.data.dataset import DataError
from fnn.machine import memory

FilePath = str | os.PathLike[str]
DEFLATE_RATIO = 1032
"""Nothing deflated (gzip, zip) unpacks to more than this many times its size: zlib's technical details."""


def expand(path: FilePath) -> Path:
    """A path as the user wrote it, with ``~`` in place of the home folder allowed."""
    return Path(os.path.expanduser(path))


def data_roots() -> list[Path]:
    """The folders that hold data sets, in the order in which they are searched.

    These are ``$FNN_DATA`` if it is set, ``./data``, and ``fnn`` in the user's cache folder.
    """
    named = os.environ.get("FNN_DATA")
    return [expand(root) for root in (named, "data") if root] + [cache_folder()]


def cache_folder() -> Path:
    """``fnn`` in the user's cache folder."""
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fnn"


def candidates(path: FilePath | None, names: Iterable[str]) -> list[Path]:
    """The folder the user named, or else every folder of these names in the data roots."""
    if path is not None:
        return [expand(path)]
    names = list(names)
    return [root / name for root in data_roots() for name in names]


def locate(
    source: str, files: Sequence[str], folders: Sequence[Path], get: str, endings: Sequence[str] = ("",)
) -> list[Path]:
    """The files of a data set, from the first folder that holds all of them.

    Args:
        source: Whose files they are, for the message.
        files: Their names.
        folders: Where to look, in order.
        get: Under which name the public knows the set, or what else helps to get it.
        endings: What may follow each name, such as ``.gz``; the first that is there is taken.

    Raises:
        DataError: No folder holds all; the line names the files, each folder and what it lacks.

    Example:
        >>> from pathlib import Path
        >>> locate("mine", ["a.bin"], [Path("/nowhere")], "ask me")
        Traceback (most recent call last):
        fnn.data.dataset.DataError: mine: expected the files a.bin; /nowhere is no folder; ask me
    """
    tried = []
    for folder in folders:
        found = {name: _first(folder, name, endings) for name in files}
        present = [file for file in found.values() if file is not None]
        if len(present) == len(files):
            return present
        missing = [name for name, file in found.items() if file is None]
        tried.append(_state(folder, missing if present else []))
    optional = [ending for ending in endings if ending]
    or_ending = f" (or with {', '.join(optional)})" if optional else ""
    raise DataError(f"{source}: expected the files {', '.join(files)}{or_ending}; {'; '.join(tried)}; {get}")


def how_to_get(public_name: str, folder: str, command: str | None = None) -> str:
    """What to do about a set that is not there: what the public calls it, and the command that gets it."""
    get = f"get {public_name}"
    first = f"{get}: {command}; or" if command else f"{get}, then"
    return f"{first} set FNN_DATA to the folder of {folder}/, or data.path to it"


def check_memory(file: Path, size: int) -> None:
    """Refuse what no machine of this memory can hold, before anything is allocated.

    Raises:
        DataError: The file holds more bytes than the machine has.
    """
    if size > (most := memory()):
        raise DataError(f"{file}: expected at most the {most} bytes of this machine's memory, found {size}")


def _first(folder: Path, name: str, endings: Sequence[str]) -> Path | None:
    files = [folder / (name + ending) for ending in endings]
    return next((file for file in files if os.path.isfile(file)), None)


def _state(folder: Path, missing: list[str]) -> str:
    where = folder.absolute()
    if not os.path.isdir(folder):
        return f"{where} is no folder"
    return f"{where} lacks {', '.join(missing)}" if missing else f"{where} has none of them"
