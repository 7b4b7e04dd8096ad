"""Checkpoints: arrays on disk by Orbax, beside a manifest without which they count for nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fnn.training.folder import sync, write_whole

MANIFEST = "manifest.json"
FORMAT = 1
_SAVING, _REMOVED = ".saving", ".removed"
_LATE = 0.2
"""Seconds in which what was written beside an array that failed fails, too."""


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or none can be used."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and an older one is taken."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every byte is that which was written.

    Attributes:
        path: Its folder.
        step: Steps done.
        info: What was noted beside the arrays.
    """

    path: Path
    step: int
    info: dict[str, Any]

    def read(self) -> dict[str, np.ndarray]:
        """Its arrays, by name."""
        from orbax import checkpoint as orbax

        try:
            with _quiet():
                found = _orbax().restore(self.path.absolute(), args=orbax.args.PyTreeRestore())
        except Exception as error:  # whatever Orbax raises
            raise CheckpointError(f"{self.path}: cannot be read: {_line(error)}") from None
        return {name: np.asarray(value) for name, value in found.items()}


class Checkpoints:
    """The checkpoints of a run: ``<folder>/<step>/``, written beside the training.

    A folder appears at once, with its manifest: Orbax writes below another name, the manifest takes the size
    and the SHA-256 of every file, and then the folder is renamed.

    Args:
        folder: Where they lie; made when the first is saved.
        keep: How many of the newest stay.

    Example:
        >>> import tempfile, numpy as np
        >>> from fnn.training import Checkpoints
        >>> home = tempfile.TemporaryDirectory()
        >>> checkpoints = Checkpoints(Path(home.name))
        >>> checkpoints.save(10, {"kernel": np.ones(3, np.float32)}, {"note": "first"})
        >>> checkpoints.close()
        >>> newest = checkpoints.newest()
        >>> newest.step, newest.info, newest.read()["kernel"].tolist()
        (10, {'note': 'first'}, [1.0, 1.0, 1.0])
        >>> home.cleanup()
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self._sound: dict[int, bool] = {}
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None

    def save(
        self, step: int, arrays: Mapping[str, np.ndarray], info: Mapping[str, Any], also: Collection[int] = ()
    ) -> None:
        """Begin to write a checkpoint, once the one before is on disk.

        Args:
            step: Steps done.
            arrays: By name; they must not change any more.
            info: Plain data, written into the manifest.
            also: Steps whose checkpoints stay beside the newest.

        Raises:
            CheckpointError: The one before could not be written.
        """
        self.wait()
        self._saving = self._writer.submit(self._write, step, dict(arrays), dict(info), set(also))

    def wait(self) -> None:
        """Until what was begun is on disk.

        Raises:
            CheckpointError: It could not be written.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """Wait, and end the thread that writes."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def newest(self, before: float = math.inf) -> Checkpoint | None:
        """The newest sound checkpoint, or None where there is no checkpoint.

        Args:
            before: Only those of earlier steps.

        Raises:
            CheckpointError: There are checkpoints, and every one is damaged. Nothing is deleted.

        Warns:
            CheckpointWarning: Of each damaged one that is newer.
        """
        damage = []
        for step in reversed([step for step in self.steps() if step < before]):
            path = self.folder / str(step)
            found = examine(path)
            if isinstance(found, Checkpoint):
                return found
            damage.append(f"{path.name}: {found}")
            warnings.warn(f"{path} is damaged: {found}", CheckpointWarning, stacklevel=2)
        if damage:
            raise CheckpointError(
                f"{self.folder}: no checkpoint is sound ({'; '.join(damage)}); nothing was deleted"
            )
        return None

    def steps(self) -> list[int]:
        """The steps of all checkpoints, damaged or not, in order."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be read: {error.strerror}") from None
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def _write(self, step: int, arrays: dict[str, np.ndarray], info: dict[str, Any], also: set[int]) -> None:
        place, final = self.folder / f".{step}{_SAVING}", self.folder / str(step)
        try:
            self.folder.mkdir(exist_ok=True)
            self._tidy()
            _save(place, arrays)
            write_whole(place / MANIFEST, _manifest(place, step, info))
            sync(place)
            self._remove(step)  # damaged: a sound one would not be written again
            os.rename(place, final)
            sync(self.folder)
            self._sound[step] = True
            self._prune(step, also)
        except Exception as error:  # whatever Orbax raises
            self._tidy()
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} could not be saved: {_line(error)}"
            ) from None

    def _tidy(self) -> None:
        """Remove what was not saved, or not removed, to the end: it may be what fills the disk."""
        for entry in [*self.folder.glob(f".*{_SAVING}*"), *self.folder.glob(f".*{_REMOVED}")]:
            shutil.rmtree(entry, ignore_errors=True)
            if entry.is_file():
                entry.unlink()

    def _prune(self, step: int, also: set[int]) -> None:
        """Remove the checkpoints that are neither among the newest sound ones up to this step nor to stay."""
        stay = {s for s in self.steps() if s <= step and self._is_sound(s)}
        stay = set(sorted(stay)[-self.keep :]) | also
        for other in self.steps():
            if other not in stay:
                self._remove(other)
        self._tidy()

    def _remove(self, step: int) -> None:
        """Take a checkpoint away, if it is there: at once, for whoever looks."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.folder / str(step), self.folder / f".{step}{_REMOVED}")

    def _is_sound(self, step: int) -> bool:
        """Whether a checkpoint is, by what this process wrote or has read of it."""
        if step not in self._sound:
            self._sound[step] = isinstance(examine(self.folder / str(step)), Checkpoint)
        return self._sound[step]


def examine(path: Path) -> Checkpoint | str:
    """A checkpoint all of whose files are as they were written; or what is wrong with it."""
    try:
        text = _plain_file(path / MANIFEST).read_bytes()
        body = {**json.loads(text)}
        body.pop("sha256", None)
        whole = text == _sealed(body)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, TypeError, RecursionError):
        return f"{MANIFEST} cannot be read"
    if not whole:
        return f"{MANIFEST} is not as it was written"
    if body["format"] != FORMAT:
        return f"{MANIFEST} is of format {body['format']}, and this version reads {FORMAT}"
    step, info, files = body["step"], body["info"], body["files"]
    if str(step) != path.name:
        return f"it is of step {step}"
    for name, wanted in files.items():
        try:
            found = _fingerprint(path / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if found["size"] != wanted["size"]:
            return f"{name} has {found['size']} bytes, written were {wanted['size']}"
        if found != wanted:
            return f"{name} is not as it was written"
    return Checkpoint(path, step, info)


def _orbax() -> Any:
    from orbax import checkpoint as orbax

    return orbax.Checkpointer(orbax.PyTreeCheckpointHandler())


def _save(place: Path, arrays: dict[str, np.ndarray]) -> None:
    from orbax import checkpoint as orbax

    with _quiet():
        _orbax().save(place.absolute(), args=orbax.args.PyTreeSave(arrays))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """An error is raised, and not printed as well: by Orbax in its log, by TensorStore from its threads."""
    log, hook = logging.getLogger("absl"), sys.unraisablehook

    def nothing(record: logging.LogRecord) -> bool:
        return False

    def other(event: sys.UnraisableHookArgs) -> None:
        if "Event loop is closed" not in str(event.exc_value):
            hook(event)

    log.addFilter(nothing)
    sys.unraisablehook = other
    try:
        yield
    except Exception:
        time.sleep(_LATE)
        raise
    finally:
        log.removeFilter(nothing)
        sys.unraisablehook = hook


def _manifest(place: Path, step: int, info: dict[str, Any]) -> bytes:
    """Every file of a folder, brought to the disk first."""
    files = {}
    for file in sorted(place.rglob("*")):
        sync(file)
        if file.is_file():
            files[file.relative_to(place).as_posix()] = _fingerprint(file)
    return _sealed({"format": FORMAT, "step": step, "info": info, "files": files})


def _sealed(body: dict[str, Any]) -> bytes:
    """The text of a manifest, with the SHA-256 of the rest of it in it."""
    sha = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "sha256": sha}, indent=1).encode()


def _plain_file(path: Path) -> Path:
    """The path, if to open it is not to wait for whoever writes to it."""
    if path.exists() and not path.is_file():
        raise IsADirectoryError(errno.EISDIR, "it is no file")
    return path


def _fingerprint(file: Path) -> dict[str, Any]:
    with _plain_file(file).open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"size": opened.tell(), "sha256": digest}


def _line(error: BaseException) -> str:
    """The first line of an error; of one that the operating system told us or TensorStore, what it told."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    number = re.search(r"os_error_code='(\d+)'", str(error))
    if number is not None:
        return os.strerror(int(number[1]))
    return (str(error).splitlines() or [type(error).__name__])[0]
