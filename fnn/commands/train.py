"""Train: from an experiment to a run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fnn import kernels
from fnn.choices import ConfigError
from fnn.commands.begin import resolved, with_weights
from fnn.commands.execution import prepare, warn_of_slow_bfloat16
from fnn.commands.fitting import fit_parts, make_recipe, make_selection
from fnn.commands.panels import compare, draw, panel_name
from fnn.commands.resume import Start, adopt, ended, find_start
from fnn.commands.surroundings import surroundings
from fnn.data import DataError, Dataset
from fnn.document import write
from fnn.experiment import Experiment, Parts, build, build_loggers
from fnn.experiment.saved import metadata_of
from fnn.experiment.size import check_size
from fnn.layer import Layer, Params, State
from fnn.training import (
    Checkpoints,
    DivergedError,
    Keeper,
    Loggers,
    Progress,
    Recipe,
    RunFolder,
    RunInfo,
    Selection,
    Stopped,
    evaluate,
    load_weights,
    predict,
    save_weights,
)
from fnn.training.folder import CHECKPOINTS, CONFIG, PANELS, SUMMARY, WEIGHTS, to_json
from fnn.training.weights import WeightsError
from fnn.trees import count, digest


@dataclass
class Run:
    """A finished run.

    Attributes:
        model: The layer that was trained.
        params, state: What evaluation uses; with ``train.ema`` the average.
        log: The records of ``metrics.jsonl``.
        summary: What ``summary.json`` says.
        folder: Where it was written, or None.
    """

    model: Layer
    params: Params
    state: State
    log: list[dict[str, Any]] = field(repr=False)
    summary: dict[str, Any]
    folder: Path | None = None


def train(
    experiment: Experiment,
    *,
    model: Layer | None = None,
    data: Dataset | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] = lambda text: None,
    folder: Callable[[], RunFolder] | None = None,
    resume: bool = False,
    fork: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Run:
    """Run an experiment; the one function behind ``train.py``.

    Args:
        experiment: What the config says.
        model: Trained in place of the config's model.
        data: Learned from in place of the config's data.
        on_log: Gets every record of the log, as in ``metrics.jsonl``.
        on_progress: Gets the progress, about twice a second.
        on_message: Gets what a user should know of a run that is resumed or goes back, a line each.
        folder: Makes the run's folder, once everything has been checked; None: nothing is written.
        resume: Whether to go on with the run in the folder, from its newest sound checkpoint, as if it had
            never been interrupted; a run that has ended is returned as it ended.
        fork: Whether to do so although its config was changed.
        stopped: Whether the run is to stop; asked between two calls, after which the run is saved.

    Raises:
        ConfigError: Something does not fit, before anything is compiled or written.
        DivergedError: The loss, the gradient or an update is not finite any more.
        Stopped: It was asked to stop, and can be resumed.
        DataError: A picture that stayed on disk cannot be read; the run can be resumed once it can.
        CheckpointError: A checkpoint cannot be written, or all are damaged.
        FolderError: Something cannot be written; what was written before is intact.

    Warns:
        ExecutionWarning: JAX had started already, otherwise than ``train.execution`` asks for.
        CheckpointWarning: A checkpoint is damaged; an older one is taken.
        LoggerWarning: A logger of ``log`` failed; the run goes on without it.

    Example:
        >>> import fnn
        >>> experiment = fnn.Experiment(model=["flatten", {"dense": 10}], optimizer={"adam": 1e-2})
        >>> run = fnn.train(experiment)
        >>> run.summary["test"]["accuracy"] > 0.9
        True
    """
    begin = time.perf_counter()
    if resume and folder is None:
        raise ConfigError((), "expected a folder to resume the run from, got none")
    out = folder() if resume and folder is not None else None
    try:
        if out is not None:
            experiment = adopt(experiment, out, fork)
        prepare(experiment.train.execution)
        parts, loggers = build(experiment, model, data), build_loggers(experiment)
        check_size(experiment, parts)
        experiment = resolved(experiment, parts)
        if out is not None and (summary := ended(out, experiment)) is not None:
            return _loaded(parts, out, summary)
        start = Start()
        if out is not None:
            start = find_start(out, experiment.train.epochs, parts.steps_per_epoch)
            on_message(f"{out.path}: {start.message}")
        experiment, start = with_weights(experiment, parts, start, on_message)
        if folder is not None and out is None:
            out = folder()
        config = _begun(experiment, out)
        execution = experiment.train.execution
        using = kernels.use(execution.kernels, threads=execution.threads)
        with using, Loggers(loggers, _about(experiment, out, start)) as told:
            warn_of_slow_bfloat16(experiment.precision)
            tell = on_progress or (lambda progress: None)
            listeners = _Listeners(told.before(on_log), tell, on_message, stopped)
            run = _run(experiment, parts, out, config, listeners, start, begin)
            told.end(run.summary)
            return run
    finally:
        if out is not None:
            out.close()


@dataclass(frozen=True)
class _Listeners:
    """Who is told of a run, and asked whether it is to stop; see `train`."""

    on_log: Callable[[dict[str, Any]], None]
    on_progress: Callable[[Progress], None]
    on_message: Callable[[str], None]
    stopped: Callable[[], bool]


def _about(experiment: Experiment, out: RunFolder | None, start: Start) -> RunInfo:
    """What loggers are told of the run."""
    folder = None if out is None else out.path
    name = Path(experiment.document.source).stem if folder is None else folder.resolve().name
    return RunInfo(name or "run", folder, experiment.model_dump(), start.step)


def _begun(experiment: Experiment, out: RunFolder | None) -> str:
    """The resolved config, which makes a folder that of a run: written before all else.

    A summary that is there speaks of fewer epochs, or of another config.
    """
    config = write(experiment.model_dump(), head=experiment.document.origin())
    if out is not None:
        out.remove(SUMMARY)
        out.write(CONFIG, config)
    return config


def _run(
    experiment: Experiment,
    parts: Parts,
    out: RunFolder | None,
    config: str,
    listeners: _Listeners,
    start: Start,
    begin: float,
) -> Run:
    recipe = make_recipe(experiment, parts)
    keep = experiment.train.checkpoint.keep
    checkpoints = None if out is None else Checkpoints(out.path / CHECKPOINTS, keep)
    log = start.log
    keeper = _keeper(experiment, parts, out, checkpoints, listeners)
    selection = make_selection(experiment)
    try:
        record = _recorder(log, out, listeners.on_log)
        result = fit_parts(experiment, parts, recipe, record, listeners.on_progress, keeper, selection, start)
        params, state = recipe.evaluated(result.train_state), result.train_state.state
        if selection is not None and selection.step:
            params, state = selection.model()
        findings = _findings(recipe, parts.dataset, params, state)
        if parts.dataset.scale is not None:
            findings["pictures"] = _compared(out, recipe, parts.dataset, params, state)
    except (DataError, DivergedError, Stopped, KeyboardInterrupt) as error:
        status = "diverged" if isinstance(error, DivergedError) else "interrupted"
        step = getattr(error, "step", log[-1]["step"] if log else 0)
        epoch = -(-step // parts.steps_per_epoch)
        _write(out, SUMMARY, _json({"status": status, "step": step, "epoch": epoch, **surroundings()}))
        raise
    finally:
        if checkpoints is not None:
            checkpoints.close()
    raw = None if experiment.train.ema is None else result.train_state.params
    _write(
        out, WEIGHTS, save_weights(params, state, metadata_of(config, parts.dataset, parts.normalizer), raw)
    )
    seconds = {
        "total": time.perf_counter() - begin,
        "compile": result.compile_seconds,
        "train": result.train_seconds,
    }
    summary = {
        "status": "completed",
        **_position(log),
        **_chosen(selection, parts),
        **findings,
        "params": count(params),
        "params_sha256": digest(params, state),
        "seconds": seconds,
        **({"skipped": result.skipped} if recipe.skip else {}),
        **surroundings(),
    }
    _write(out, SUMMARY, _json(summary))
    return Run(parts.model, params, state, log, summary, None if out is None else out.path)


def _loaded(parts: Parts, out: RunFolder, summary: dict[str, Any]) -> Run:
    """A run that has ended."""
    params, state = load_weights(out.path / WEIGHTS, parts.params, parts.state)
    if digest(params, state) != summary.get("params_sha256"):
        raise WeightsError(f"{out.path / WEIGHTS} is not the model that {SUMMARY} speaks of")
    return Run(parts.model, params, state, out.records(), summary, out.path)


def _keeper(
    experiment: Experiment,
    parts: Parts,
    out: RunFolder | None,
    checkpoints: Checkpoints | None,
    listeners: _Listeners,
) -> Keeper:
    return Keeper(
        parts.save_every,
        checkpoints,
        rollback=experiment.train.on_nonfinite == "rollback",
        stopped=listeners.stopped,
        before_save=(lambda: None) if out is None else out.sync,
        on_message=listeners.on_message,
    )


def _chosen(selection: Selection | None, parts: Parts) -> dict[str, Any]:
    """Which epoch a run ended with, where the validation part decides."""
    if selection is None or not selection.step:
        return {}
    epoch = selection.step // parts.steps_per_epoch
    return {"best": {"step": selection.step, "epoch": epoch, selection.metric: selection.value}}


def _recorder(
    log: list[dict[str, Any]], out: RunFolder | None, on_log: Callable[[dict[str, Any]], None] | None
) -> Callable[[dict[str, Any]], None]:
    """Takes each record to wherever records go."""

    def record(entry: dict[str, Any]) -> None:
        log.append(entry)
        if out is not None:
            out.append(entry)
        if on_log is not None:
            on_log(entry)

    return record


def _findings(recipe: Recipe, dataset: Dataset, params: Params, state: State) -> dict[str, Any]:
    """The figures of the test part, read this once, and the predictions for rows without a target."""
    found: dict[str, Any] = {}
    if dataset.test is not None:
        found["test"] = evaluate(recipe, params, state, dataset.test)
    if dataset.predict is not None:
        outputs = predict(recipe, params, state, dataset.predict.inputs)
        found["predictions"] = _answers(outputs, dataset.classes)
    return found


def _compared(
    out: RunFolder | None, recipe: Recipe, dataset: Dataset, params: Params, state: State
) -> dict[str, dict[str, float]]:
    """The figures of each test picture by its name, and a panel of it in the run's folder."""
    found = {}
    for comparison in compare(recipe, params, state, dataset):
        found[comparison.name] = comparison.figures
        if out is not None:
            out.write(f"{PANELS}/{panel_name(comparison.name)}", draw(comparison))
    return found


def _answers(outputs: np.ndarray, classes: tuple[str, ...] | None) -> list[Any]:
    if classes is not None:
        return [classes[i] for i in outputs.argmax(-1)]
    answers: list[Any] = (outputs[:, 0] if outputs.shape[1:] == (1,) else outputs).tolist()
    return answers


def _position(log: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: log[-1][name] if log else 0 for name in ("step", "epoch")}


def _write(out: RunFolder | None, name: str, content: str | bytes) -> None:
    if out is not None:
        out.write(name, content)


def _json(summary: dict[str, Any]) -> str:
    return to_json(summary, indent=2) + "\n"
