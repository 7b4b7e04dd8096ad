"""Checkpoints: arrays on disk by Orbax, beside a manifest without which they count for nothing."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fnn.training.folder import sync, write_whole

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


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
        place, final = self.folder / f".{step}.saving", self.folder / str(step)
        try:
            self.folder.mkdir(exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            _save(place, arrays)
            write_whole(place / MANIFEST, _manifest(place, step, info))
            if final.exists():  # damaged: a sound one would not be written again
                shutil.rmtree(final)
            os.rename(place, final)
            sync(self.folder)
        except Exception as error:  # whatever Orbax raises
            shutil.rmtree(place, ignore_errors=True)
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} could not be saved: {_line(error)}"
            ) from None
        self._prune(step, also)

    def _prune(self, step: int, also: set[int]) -> None:
        """Remove what is neither among the newest up to this step nor to stay."""
        stay = set([s for s in self.steps() if s <= step][-self.keep :]) | also
        for entry in self.folder.iterdir():
            if entry.is_dir() and entry.name not in map(str, stay):
                shutil.rmtree(entry, ignore_errors=True)


def examine(path: Path) -> Checkpoint | str:
    """A checkpoint all of whose files are as they were written; or what is wrong with it."""
    try:
        body = json.loads((path / MANIFEST).read_bytes())
        own = body.pop("sha256")
        step, info, files = body["step"], body["info"], body["files"]
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    if own != _sealed(body):
        return f"{MANIFEST} is not as it was written"
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

    _orbax().save(place.absolute(), args=orbax.args.PyTreeSave(arrays))


def _manifest(place: Path, step: int, info: dict[str, Any]) -> bytes:
    """Every file of a folder, brought to the disk first."""
    files = {}
    for file in sorted(place.rglob("*")):
        sync(file)
        if file.is_file():
            files[file.relative_to(place).as_posix()] = _fingerprint(file)
    body = {"format": 1, "step": step, "info": info, "files": files}
    return json.dumps({**body, "sha256": _sealed(body)}, indent=1).encode()


def _sealed(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"size": opened.tell(), "sha256": digest}


def _line(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).splitlines() or [type(error).__name__])[0]
