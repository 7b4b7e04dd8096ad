"""Take a step of a run apart: the one at which it diverged, or any other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import kernels
from fnn.commands.begin import resolved, with_weights
from fnn.commands.console import rows
from fnn.commands.execution import prepare
from fnn.commands.fitting import fit_parts, learning_rate_of, make_recipe, make_selection
from fnn.commands.resume import Start, differences
from fnn.commands.surroundings import surroundings
from fnn.data import Dataset, epoch_order
from fnn.experiment import Experiment, Parts, build, read
from fnn.layer import Layer, name_key
from fnn.training import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    DivergedError,
    Findings,
    Period,
    Progress,
    Recipe,
    Replay,
    Stopped,
    TrainState,
    inspect,
)
from fnn.training.folder import CHECKPOINTS, CONFIG, SUMMARY

_MANY = 16  # examples that are listed one by one in a text


class DebugError(ValueError):
    """A step of a run cannot be taken apart."""


@dataclass(frozen=True)
class Report:
    """A step of a run, done again and taken apart; its text says what failed first.

    Attributes:
        run: The run's folder.
        step, epoch, epochs: Which step, from 1, and where it lies.
        replayed_from: The step of the checkpoint that the replay began with; 0 is the beginning.
        failure: What is not finite in the step as the run itself does it; None: nothing.
        learning_rate: Of the step; None where the optimiser has no such number.
        batch: The step's examples, as indices into the training part.
        examples: Those of them that are not finite in the ``input``, in the first ``activation`` that is not,
            in the ``loss``.
        findings: The step, taken apart.
        notes: What else a user should know.
    """

    run: str
    step: int
    epoch: int
    epochs: int
    replayed_from: int
    failure: str | None
    learning_rate: float | None
    batch: tuple[int, ...]
    examples: Mapping[str, tuple[int, ...]]
    findings: Findings
    notes: tuple[str, ...]

    def __str__(self) -> str:
        start = f"the checkpoint of step {self.replayed_from}" if self.replayed_from else "the beginning"
        rate = [] if self.learning_rate is None else [("learning rate", f"{self.learning_rate:g}")]
        fault = self.findings.fault
        lines = [
            ("step", f"{self.step}, in epoch {self.epoch} of {self.epochs}, replayed from {start}"),
            ("as it ran", self.failure or "everything is finite"),
            *rate,
            ("batch", f"{len(self.batch)} examples: {_listed(self.batch)}"),
            *((f"not finite: {what}", _listed(found)) for what, found in self.examples.items() if found),
        ]
        if fault is None:
            lines.append(("taken apart", "everything is finite"))
        else:
            lines.append((f"first: {fault.stage}", fault.text))
            lines += [(f"  {name}", str(extent)) for name, extent in fault.evidence.items()]
        lines += [("note", note) for note in self.notes]
        return f"{rows(lines, width=100)}\n\n{self.findings.table()}"


def debug(
    run: str | os.PathLike[str],
    *,
    step: int | None = None,
    model: Layer | None = None,
    data: Dataset | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_message: Callable[[str], None] = lambda text: None,
) -> Report:
    """Go through a run again up to a step, to the bit, and take that step apart.

    The run is built from its ``config.yaml`` and goes on from its newest sound checkpoint before the step, in
    the same compiled form. Nothing in its folder is changed.

    Args:
        run: Its folder.
        step: Which step, from 1; None: that at which the run diverged.
        model, data: What `fnn.train` was given in place of the config's.
        on_progress: Gets the progress of the replay.
        on_message: Gets what a user should know of the replay, a line each.

    Raises:
        DebugError: There is no run, no such step, or the replay does not come to it.
        ConfigError: The config cannot be read, or does not fit this machine.
        CheckpointError: The checkpoint is of another model.

    Warns:
        CheckpointWarning: A checkpoint is damaged; an older one is taken.
    """
    folder = Path(run)
    if not (folder / CONFIG).is_file():
        raise DebugError(f"{folder}: holds no run: expected {CONFIG} in it")
    summary = _summary(folder)
    step = _diverged_at(folder, summary) if step is None else step
    experiment = read(folder / CONFIG)
    prepare(experiment.train.execution)
    parts = build(experiment, model, data)
    experiment = resolved(experiment, parts)
    last = parts.steps_per_epoch * experiment.train.epochs
    if not 1 <= step <= last:
        raise DebugError(f"{folder}: expected a step from 1 to {last}, got {step}")
    recipe = make_recipe(experiment, parts)
    start = Start(_checkpoint(folder, step, on_message))
    experiment, start = with_weights(experiment, parts, start, on_message)
    keeper = _replay(experiment, parts, step, on_message)
    execution = experiment.train.execution
    with kernels.use(execution.kernels, threads=execution.threads):
        before = _go_to(folder, experiment, parts, recipe, keeper, start, on_progress)
        batch = _batch(experiment, parts, step)
        train, key = parts.dataset.train, name_key(jax.random.key(experiment.seed), "steps")
        assert train.targets is not None  # or it would not have been built
        findings = inspect(recipe, before, train.inputs[batch], train.targets[batch], key)
    rate = learning_rate_of(experiment, parts)
    return Report(
        run=str(folder),
        step=step,
        epoch=-(-step // parts.steps_per_epoch),
        epochs=experiment.train.epochs,
        replayed_from=start.step,
        failure=keeper.failure,
        learning_rate=None if rate is None else float(rate(step - 1)),
        batch=tuple(batch.tolist()),
        examples={what: tuple(batch[list(at)].tolist()) for what, at in findings.examples.items()},
        findings=findings,
        notes=tuple(_notes(summary, parts, keeper, findings)),
    )


def _summary(folder: Path) -> dict[str, Any]:
    """What ``summary.json`` says; nothing where there is none."""
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise DebugError(f"{folder / SUMMARY}: cannot be read") from None
    return summary if isinstance(summary, dict) else {}


def _diverged_at(folder: Path, summary: Mapping[str, Any]) -> int:
    other = "--step N takes a step of it apart all the same"
    if not summary:
        raise DebugError(f"{folder}: there is no {SUMMARY}, so the run has not ended: {other}")
    status, step = summary.get("status"), summary.get("step")
    if status != "diverged" or not isinstance(step, int):
        raise DebugError(f"{folder}: the run has not diverged, its status is {status}: {other}")
    return step


def _checkpoint(folder: Path, step: int, on_message: Callable[[str], None]) -> Checkpoint | None:
    """The newest sound one from before a step; None: the replay begins where the run began."""
    try:
        return Checkpoints(folder / CHECKPOINTS).newest(before=step)
    except CheckpointError as error:
        on_message(f"{error}; replayed from the beginning")
        return None


def _replay(experiment: Experiment, parts: Parts, step: int, on_message: Callable[[str], None]) -> Replay:
    rollback = experiment.train.on_nonfinite == "rollback"
    period = parts.save_every if rollback else Period()  # where it goes back to is all that matters of it
    return Replay(step, period, rollback=rollback, on_message=on_message)


def _go_to(
    folder: Path,
    experiment: Experiment,
    parts: Parts,
    recipe: Recipe,
    keeper: Replay,
    start: Start,
    on_progress: Callable[[Progress], None],
) -> TrainState:
    """The state before the step, after which the step itself was done."""
    selection = make_selection(experiment)
    try:
        fit_parts(experiment, parts, recipe, lambda record: None, on_progress, keeper, selection, start)
    except Stopped:
        assert keeper.before is not None
        return keeper.before
    except DivergedError as error:
        what = str(error).partition(":")[0]
        more = f"--step {error.step} takes that one apart"
        raise DebugError(f"{folder}: {what}, before step {keeper.target}: {more}") from None
    raise DebugError(f"{folder}: the run ended before step {keeper.target}, by train.patience")


def _batch(experiment: Experiment, parts: Parts, step: int) -> np.ndarray:
    """The examples of a step."""
    epoch, place = divmod(step - 1, parts.steps_per_epoch)
    n = len(parts.dataset.train)
    order = epoch_order(jnp.uint32(experiment.seed), epoch, n, experiment.train.batch_size)
    return np.asarray(order[place])


def _notes(summary: Mapping[str, Any], parts: Parts, keeper: Replay, findings: Findings) -> Iterable[str]:
    if summary.get("status") == "diverged" and summary.get("step") == keeper.target and not keeper.failure:
        now = surroundings()
        other = [*differences({name: summary.get(name) for name in now}, now)]
        why = f"this is another machine, or there are other versions: {'; '.join(other)}" if other else ""
        yield f"the run diverged at this step, and the replay does not. {why}".rstrip(" .")
    if keeper.failure and findings.fault is None:
        yield (
            "the step fails as it was compiled for the run, and is finite taken apart, where operations are "
            "fused otherwise: something in it is at the edge of the range, see the largest values"
        )
    if findings.fault is not None and not keeper.failure:
        yield "the step is finite as it was compiled for the run: something in it is at the edge of the range"
    normal = parts.normalizer
    if normal is not None and not np.isfinite([normal.mean, normal.std]).all():
        values = np.asarray(parts.dataset.train.inputs)
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
        yield f"the normalisation is not finite, as these training examples are not: {_listed(bad)}"


def _listed(examples: Sequence[int] | np.ndarray) -> str:
    shown = ", ".join(str(i) for i in examples[:_MANY])
    return shown if len(examples) <= _MANY else f"{shown} and {len(examples) - _MANY} more"
