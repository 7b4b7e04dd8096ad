"""Going on with a run: with the config that it began with, from the newest sound checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fnn.choices import ConfigError, Path, dotted, shown
from fnn.experiment import Experiment, read
from fnn.training import Checkpoint, Checkpoints, RunFolder
from fnn.training.folder import CHECKPOINTS, CONFIG, SUMMARY

MAY_CHANGE = {("log",), ("train", "epochs"), ("train", "log_every"), ("train", "checkpoint")}
"""What decides no bit of a step that was done already."""

_OPEN = ("auto", None)
_MISSING = object()


@dataclass(frozen=True)
class Start:
    """Where a run begins, or goes on.

    Attributes:
        checkpoint: What it goes on from; None: it begins.
        log: The records up to there.
        weights: Arrays by path that it begins with in the place of its own.
    """

    checkpoint: Checkpoint | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Steps that are done."""
        return 0 if self.checkpoint is None else self.checkpoint.step

    @property
    def message(self) -> str:
        """What a user should know."""
        if self.checkpoint is None:
            return "there is no checkpoint yet: beginning at step 0"
        return f"going on from step {self.step}"


def find_start(folder: RunFolder, epochs: int, steps_per_epoch: int) -> Start:
    """The newest sound checkpoint of a run's folder, whose log is cut to it.

    Raises:
        ConfigError: It is beyond the epochs that are asked for.
        CheckpointError: There are checkpoints, and none is sound.
        FolderError: The log cannot be read or written.

    Warns:
        CheckpointWarning: A newer one is damaged.
    """
    checkpoint = Checkpoints(folder.path / CHECKPOINTS).newest()
    step = 0 if checkpoint is None else checkpoint.step
    if step > epochs * steps_per_epoch:
        least = -(-step // steps_per_epoch)
        text = f"expected at least {least}: step {step} of {folder.path} is done"
        raise ConfigError(("train", "epochs"), text)
    return Start(checkpoint, folder.cut(step))


def ended(folder: RunFolder, experiment: Experiment) -> dict[str, Any] | None:
    """The summary of a run that has as many epochs behind it as an experiment asks for; else None."""
    try:
        summary: dict[str, Any] = {**json.loads((folder.path / SUMMARY).read_bytes())}
        epochs = read(folder.path / CONFIG).train.epochs
    except (OSError, ValueError, TypeError):
        return None
    return summary if summary.get("status") == "completed" and epochs >= experiment.train.epochs else None


def adopt(experiment: Experiment, folder: RunFolder, fork: bool = False) -> Experiment:
    """The experiment as a run's folder goes on with it: what was chosen at its start stays chosen.

    Args:
        experiment: What is asked for now.
        folder: Of the run; without a config in it the experiment is returned as it is.
        fork: Whether the run goes on although its config was changed.

    Raises:
        ConfigError: The config was changed in more than may change; every difference is listed.
    """
    if not (folder.path / CONFIG).exists():
        return experiment
    before = read(folder.path / CONFIG)
    train = experiment.train
    chosen = {
        name: getattr(before.train.execution, name)
        for name in ("mode", "kernels", "threads")
        if getattr(train.execution, name) in _OPEN
    }
    execution = train.execution.model_copy(update=chosen)
    adopted = experiment.model_copy(update={"train": train.model_copy(update={"execution": execution})})
    adopted = _of_the_same_weights(adopted, before)
    changes = list(differences(before.model_dump(), adopted.model_dump()))
    if changes and not fork:
        raise ConfigError(
            (), f"{folder.path} began with another config: {'; '.join(changes)}; --fork goes on all the same"
        )
    return adopted


def _of_the_same_weights(experiment: Experiment, before: Experiment) -> Experiment:
    """With what the weights said, from which the run began."""
    now, then, data = experiment.init_from, before.init_from, experiment.data
    if then.path is None or now.path != then.path:
        return experiment
    changes: dict[str, Any] = {"init_from": now.model_copy(update={"sha256": now.sha256 or then.sha256})}
    if data.normalize is True or data.normalize == "weights":
        changes["data"] = data.model_copy(update={"normalize": before.data.normalize})
    return experiment.model_copy(update=changes)


def differences(before: Any, now: Any, path: Path = ()) -> Iterator[str]:
    """Each value that is not the same, ``key: before -> now``, but for those that may change.

    Example:
        >>> before = {"seed": 0, "log": [], "train": {"epochs": 5}}
        >>> list(differences(before, {"seed": 1, "log": ["tensorboard"], "train": {"epochs": 6}}))
        ['seed: 0 -> 1']
    """
    if path in MAY_CHANGE:
        return
    before, now = (list(value) if isinstance(value, tuple) else value for value in (before, now))
    if isinstance(before, dict) and isinstance(now, dict):
        orders = [[str(key) for key in each if "*" in str(key)] for each in (before, now)]
        if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
            yield f"{dotted(path)}: " + " -> ".join(" before ".join(order) for order in orders)
        for key in {**before, **now}:
            yield from differences(before.get(key, _MISSING), now.get(key, _MISSING), (*path, key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from differences(old, new, (*path, i))
    elif before != now:
        yield f"{dotted(path)}: {_text(before)} -> {_text(now)}"


def _text(value: Any) -> str:
    return "nothing" if value is _MISSING else shown(value)
