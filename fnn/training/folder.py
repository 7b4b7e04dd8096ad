"""A run's folder, written file by file, each at once or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG, METRICS, SUMMARY, WEIGHTS = "config.yaml", "metrics.jsonl", "summary.json", "model.safetensors"
CHECKPOINTS, LOGGERS, TENSORBOARD, PANELS = "checkpoints", "loggers.json", "tensorboard", "panels"


class FolderError(ValueError):
    """A run's folder cannot be used."""


class RunFolder:
    """Where a run writes: ``config.yaml``, ``metrics.jsonl``, ``summary.json``, ``model.safetensors``.

    Args:
        path: An existing folder; no other run may use it before `close`.

    Raises:
        FolderError: Another run uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unlock = weakref.finalize(self, os.close, _lock(path))

    @classmethod
    def create(
        cls, out: str | os.PathLike[str] | None, config_name: str, overwrite: bool = False
    ) -> RunFolder:
        """Make the folder ``out``, or ``runs/<config>-<n>`` with the lowest free n.

        Raises:
            FolderError: It exists with something in it and is not to be overwritten, or cannot be made, or
                another run is going on there.
        """
        if out is None:
            with _named(Path("runs"), "cannot be made"):
                return cls(_lowest_free(Path("runs"), config_name))
        path = Path(out)
        with _named(path, "cannot be made"):
            path.mkdir(parents=True, exist_ok=True)
            full = any(path.iterdir())
        if full and not overwrite:
            raise FolderError(
                f"{path} exists and is not empty: choose another --out, --resume or --overwrite"
            )
        folder = cls(path)
        with _named(path, "cannot be emptied"):
            for name in (CONFIG, METRICS, SUMMARY, WEIGHTS, LOGGERS):
                (path / name).unlink(missing_ok=True)
            for name in (CHECKPOINTS, TENSORBOARD, PANELS):
                if (path / name).exists():
                    shutil.rmtree(path / name)
        return folder

    @classmethod
    def resume(cls, out: str | os.PathLike[str]) -> RunFolder:
        """A run's folder, to go on with; one that is not there yet is made.

        Raises:
            FolderError: It holds something else, or cannot be made, or another run is going on there.
        """
        path = Path(out)
        with _named(path, "cannot be made"):
            path.mkdir(parents=True, exist_ok=True)
            foreign = [entry.name for entry in path.iterdir() if not entry.name.startswith(f".{CONFIG}.")]
        if foreign and CONFIG not in foreign:
            raise FolderError(
                f"{path} holds no run: expected {CONFIG}, found {', '.join(sorted(foreign)[:3])}"
            )
        folder = cls(path)
        for name in (CONFIG, METRICS, SUMMARY, WEIGHTS, LOGGERS):
            for torn in path.glob(f".{name}.{8 * '?'}"):  # of a process that was killed while it wrote
                with contextlib.suppress(OSError):
                    torn.unlink()
        return folder

    def close(self) -> None:
        """Let other runs use the folder."""
        self._unlock()

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file at once: whoever looks sees the old one or the new one, whole.

        Args:
            name: Of the file; a folder before it is made.
            content: Text is written as UTF-8.

        Raises:
            FolderError: The disk is full, or it may not be written.
        """
        with _named(self.path / name, "cannot be written"):
            (self.path / name).parent.mkdir(exist_ok=True)
            write_whole(self.path / name, content.encode() if isinstance(content, str) else content)

    def append(self, record: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``.

        Raises:
            FolderError: The disk is full, or it may not be written.
        """
        file = self.path / METRICS
        with _named(file, "cannot be written"), file.open("a", encoding="utf-8") as opened:
            opened.write(to_json(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """What ``metrics.jsonl`` says, less a last line that was cut off.

        Raises:
            FolderError: The file cannot be read, or another line is no record.
        """
        with _named(self.path / METRICS, "cannot be read"):
            try:
                lines = (self.path / METRICS).read_bytes().split(b"\n")
            except FileNotFoundError:
                return []
        found = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                record = json.loads(line)
                record["step"] + 0
            except (ValueError, TypeError, KeyError):
                raise FolderError(f"{self.path / METRICS}:{number}: is no record of a run") from None
            found.append(record)
        return found

    def cut(self, step: int) -> list[dict[str, Any]]:
        """Leave the records up to a step in ``metrics.jsonl``, and return them."""
        kept = [record for record in self.records() if record["step"] <= step]
        if (self.path / METRICS).exists():
            self.write(METRICS, "".join(to_json(record) + "\n" for record in kept))
        return kept

    def remove(self, name: str) -> None:
        """Take a file away, if it is there.

        Raises:
            FolderError: It cannot be removed.
        """
        with _named(self.path / name, "cannot be removed"):
            (self.path / name).unlink(missing_ok=True)

    def sync(self) -> None:
        """Bring ``metrics.jsonl`` to the disk.

        Raises:
            FolderError: It cannot be.
        """
        with _named(self.path / METRICS, "cannot be written"), contextlib.suppress(FileNotFoundError):
            sync(self.path / METRICS)


def write_whole(file: Path, data: bytes) -> None:
    """Write a file by way of another name, so that it is there whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _named(path: Path, trouble: str) -> Iterator[None]:
    """An error of the operating system in one line that names the file."""
    try:
        yield
    except OSError as error:
        raise FolderError(f"{path}: {trouble}: {error.strerror or error}") from None


def _lock(path: Path) -> int:
    """Keep other runs out of a folder for as long as the file that is returned is open."""
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    with _named(path, "cannot be read"):
        handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FolderError(f"{path}: another run is going on there") from None
    except OSError:  # a file system without locks
        pass
    return handle


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text; numbers that JSON has not (NaN, infinity) become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def _lowest_free(parent: Path, name: str) -> Path:
    n = 1
    while True:
        path = parent / f"{name}-{n}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            n += 1
