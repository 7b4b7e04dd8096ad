"""What a run begins with: every choice made, and the weights read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fnn.commands.execution import resolve
from fnn.commands.resume import Start
from fnn.data import OnDisk
from fnn.experiment import Experiment, Parts
from fnn.experiment.initial import read_initial
from fnn.experiment.normalization import in_numbers, in_words


def resolved(experiment: Experiment, parts: Parts) -> Experiment:
    """The experiment with every choice made that the machine or the weights to begin with have a part in."""
    with experiment.document.located():
        on_disk = isinstance(parts.dataset.train.inputs, OnDisk)
        execution = resolve(experiment.train.execution, parts.model, on_disk)
    train = experiment.train.model_copy(update={"execution": execution})
    return in_numbers(experiment.model_copy(update={"train": train}), parts.normalizer)


def with_weights(
    experiment: Experiment, parts: Parts, start: Start, on_message: Callable[[str], None]
) -> tuple[Experiment, Start]:
    """The weights that a run begins with, and the experiment with their digest.

    A run that goes on from a checkpoint needs them no more.

    Raises:
        ConfigError: The weights cannot be read or do not fit.
    """
    section = experiment.init_from
    if section.path is None or start.checkpoint is not None:
        return experiment, start
    with experiment.document.located():
        initial = read_initial(section, parts.params, parts.state)
    on_message(initial.message)
    on_message(f"inputs: {in_words(parts.normalizer)}")
    section = section.model_copy(update={"sha256": initial.sha256})
    return experiment.model_copy(update={"init_from": section}), replace(start, weights=initial.arrays)
