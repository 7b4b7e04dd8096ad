"""An experiment from a config file and overrides."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Any

from fnn import document
from fnn.experiment.schema import Experiment, check
from fnn.layer import Layer
from fnn.optim.catalog import schedules, transformations
from fnn.registry import registry


def read(file: str | FilePath, overrides: Iterable[str] = ()) -> Experiment:
    """An experiment from a config file and overrides, checked against the schema.

    Args:
        file: YAML. A relative path of data or weights in it is relative to the file; in an override, to the
            working folder.
        overrides: Texts ``dotted.key=value``, the value in YAML.

    Raises:
        ConfigError: Something in it is wrong; the message says where, what was expected and the nearest name.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("tiny.yaml").write_text("model: [flatten, {dense: 10}]")
        >>> read("tiny.yaml", ["train.epochs=3"]).train.epochs
        3
        >>> Path("tiny.yaml").unlink()
    """
    config = document.read(file)
    _make_absolute(config.tree, FilePath(file).parent)
    document.override(config, overrides, _first_argument)
    _make_absolute(config.tree, FilePath.cwd())
    with config.located():
        experiment = check(config.tree)
    experiment.read_from(config)
    return experiment


def _make_absolute(tree: dict[str, Any], folder: FilePath) -> None:
    data = tree.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if isinstance(tree.get("init_from"), str):
        tree["init_from"] = {"path": tree["init_from"]}
    for place in (data, tree.get("init_from"), *(source.values() if isinstance(source, dict) else ())):
        if isinstance(place, dict) and isinstance(place.get("path"), str):
            place["path"] = os.path.abspath(folder / os.path.expanduser(place["path"]))


def _first_argument(name: str) -> str | None:
    """The name of the first argument of whatever a config can name so."""
    for table in (*registry.values(), transformations(), schedules()):
        if name in table and not isinstance(table[name], Layer):
            return next(iter(inspect.signature(table[name]).parameters), None)
    return None
