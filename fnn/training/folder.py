"""A run's folder, written file by file, each at once or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


class FolderError(ValueError):
    """A run's folder cannot be used."""


class RunFolder:
    """Where a run writes: ``config.yaml``, ``metrics.jsonl``, ``summary.json``, ``model.safetensors``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, out: str | os.PathLike[str] | None, config_name: str, overwrite: bool = False
    ) -> RunFolder:
        """Make the folder ``out``, or ``runs/<config>-<n>`` with the lowest free n.

        Raises:
            FolderError: It exists with something in it and is not to be overwritten, or cannot be made.
        """
        try:
            if out is None:
                return cls(_lowest_free(Path("runs"), config_name))
            path = Path(out)
            path.mkdir(parents=True, exist_ok=True)
            if not overwrite and any(path.iterdir()):
                raise FolderError(f"{path} exists and is not empty: choose another --out, or --overwrite")
        except OSError as error:
            raise FolderError(f"{out or 'runs'}: cannot be made: {error.strerror}") from None
        for name in ("config.yaml", "metrics.jsonl", "summary.json", "model.safetensors"):
            (path / name).unlink(missing_ok=True)
        return cls(path)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file at once: whoever looks sees the old one or the new one, whole."""
        data = content.encode() if isinstance(content, str) else content
        handle, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.path / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")


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
