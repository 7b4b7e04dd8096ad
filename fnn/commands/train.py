"""Train: from an experiment to a run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import kernels
from fnn.commands.execution import prepare, resolve, warn_of_slow_bfloat16
from fnn.commands.surroundings import surroundings
from fnn.data import Dataset
from fnn.document import write
from fnn.experiment import Experiment, Parts, build, build_loggers
from fnn.layer import Layer, Params, State, name_key
from fnn.training import (
    DivergedError,
    Fit,
    Loggers,
    Progress,
    Recipe,
    RunFolder,
    RunInfo,
    evaluate,
    fit,
    initial_state,
    predict,
    save_weights,
)
from fnn.training.folder import to_json
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
    folder: Callable[[], RunFolder] | None = None,
) -> Run:
    """Run an experiment; the one function behind ``train.py``.

    Args:
        experiment: What the config says.
        model: Trained in place of the config's model.
        data: Learned from in place of the config's data.
        on_log: Gets every record of the log, as in ``metrics.jsonl``.
        on_progress: Gets the progress, about twice a second.
        folder: Makes the run's folder, once everything has been checked; None: nothing is written.

    Raises:
        ConfigError: Something does not fit, before anything is compiled or written.
        DivergedError: The loss is not finite any more.

    Warns:
        ExecutionWarning: JAX had started already, otherwise than ``train.execution`` asks for.
        LoggerWarning: A logger of ``log`` failed; the run goes on without it.

    Example:
        >>> import fnn
        >>> experiment = fnn.Experiment(model=["flatten", {"dense": 10}], optimizer={"adam": 1e-2})
        >>> run = fnn.train(experiment)
        >>> run.summary["test"]["accuracy"] > 0.9
        True
    """
    begin = time.perf_counter()
    prepare(experiment.train.execution)
    parts, loggers = build(experiment, model, data), build_loggers(experiment)
    experiment = _resolved(experiment, parts.model)
    out = folder() if folder is not None else None
    execution = experiment.train.execution
    using = kernels.use(execution.kernels, threads=execution.threads)
    with using, Loggers(loggers, _about(experiment, out)) as told:
        warn_of_slow_bfloat16(experiment.precision)
        run = _run(experiment, parts, out, told.before(on_log), on_progress, begin)
        told.end(run.summary)
        return run


def _about(experiment: Experiment, out: RunFolder | None) -> RunInfo:
    """What loggers are told of the run."""
    folder = None if out is None else out.path
    name = Path(experiment.document.source).stem if folder is None else folder.resolve().name
    return RunInfo(name or "run", folder, experiment.model_dump())


def _resolved(experiment: Experiment, model: Layer) -> Experiment:
    """The experiment with every choice made that the machine has a part in."""
    with experiment.document.located():
        execution = resolve(experiment.train.execution, model)
    train = experiment.train.model_copy(update={"execution": execution})
    return experiment.model_copy(update={"train": train})


def _run(
    experiment: Experiment,
    parts: Parts,
    out: RunFolder | None,
    on_log: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[Progress], None] | None,
    begin: float,
) -> Run:
    recipe = make_recipe(experiment, parts)
    config = write(experiment.model_dump(), head=experiment.document.origin())
    _write(out, "config.yaml", config)
    log: list[dict[str, Any]] = []
    try:
        result = _fit(experiment, parts, recipe, _recorder(log, out, on_log), on_progress)
        params, state = recipe.evaluated(result.train_state), result.train_state.state
        findings = _findings(recipe, parts.dataset, params, state)
    except (DivergedError, KeyboardInterrupt) as error:
        status = "diverged" if isinstance(error, DivergedError) else "interrupted"
        _write(out, "summary.json", _json({"status": status, **_position(log), **surroundings()}))
        raise
    raw = None if experiment.train.ema is None else result.train_state.params
    _write(out, "model.safetensors", save_weights(params, state, _metadata(config, parts), raw))
    seconds = {
        "total": time.perf_counter() - begin,
        "compile": result.compile_seconds,
        "train": result.train_seconds,
    }
    summary = {
        "status": "completed",
        **_position(log),
        **findings,
        "params": count(params),
        "params_sha256": digest(params, state),
        "seconds": seconds,
        **surroundings(),
    }
    _write(out, "summary.json", _json(summary))
    return Run(parts.model, params, state, log, summary, None if out is None else out.path)


def _fit(
    experiment: Experiment,
    parts: Parts,
    recipe: Recipe,
    on_log: Callable[[dict[str, Any]], None],
    on_progress: Callable[[Progress], None] | None,
) -> Fit:
    key = jax.random.key(experiment.seed)
    batch_size, mode = experiment.train.batch_size, experiment.train.execution.mode
    assert mode != "auto"  # it is resolved
    return fit(
        recipe,
        initial_state(recipe, name_key(key, "init"), parts.dataset.train.inputs[:batch_size]),
        parts.dataset,
        name_key(key, "steps"),
        seed=experiment.seed,
        epochs=experiment.train.epochs,
        batch_size=batch_size,
        log_every=parts.log_every,
        mode=mode,
        learning_rate=_learning_rate(experiment, parts),
        on_log=on_log,
        on_progress=on_progress or (lambda progress: None),
    )


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


def make_recipe(experiment: Experiment, parts: Parts) -> Recipe:
    """What a training step needs to know, of what an experiment names."""
    return Recipe(
        model=parts.model,
        optimizer=parts.optimizer.transformation,
        loss=parts.loss,
        penalty=parts.penalty,
        metrics=parts.metrics,
        normalize=parts.normalizer or (lambda x: x),
        augment=parts.augment,
        dtype=parts.dtype,
        reduction=experiment.train.reduction,
        ema=experiment.train.ema,
    )


def _learning_rate(experiment: Experiment, parts: Parts) -> Callable[[int], float] | None:
    """Of the step's number; the schedule counts updates."""
    schedule = parts.optimizer.learning_rate
    every = experiment.train.accumulate
    if schedule is None:
        return None
    if isinstance(schedule(0), jax.Array):
        schedule = jax.jit(schedule)  # operation by operation it costs milliseconds a record
    return lambda step: schedule(step // every)


def _findings(recipe: Recipe, dataset: Dataset, params: Params, state: State) -> dict[str, Any]:
    """The figures of the test part, read this once, and the predictions for rows without a target."""
    found: dict[str, Any] = {}
    if dataset.test is not None:
        found["test"] = evaluate(recipe, params, state, dataset.test)
    if dataset.predict is not None:
        outputs = predict(recipe, params, state, dataset.predict.inputs)
        found["predictions"] = _answers(outputs, dataset.classes)
    return found


def _answers(outputs: np.ndarray, classes: tuple[str, ...] | None) -> list[Any]:
    if classes is not None:
        return [classes[i] for i in outputs.argmax(-1)]
    answers: list[Any] = (outputs[:, 0] if outputs.shape[1:] == (1,) else outputs).tolist()
    return answers


def _position(log: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: log[-1][name] if log else 0 for name in ("step", "epoch")}


def _metadata(config: str, parts: Parts) -> dict[str, str]:
    """What the weights file says of itself: the config, the classes, the normalisation."""
    found = {"config": config}
    if parts.dataset.classes is not None:
        found["classes"] = to_json(parts.dataset.classes)
    if parts.normalizer is not None:
        mean, std = parts.normalizer.mean, parts.normalizer.std
        found["normalize"] = to_json({"mean": np.ravel(mean).tolist(), "std": np.ravel(std).tolist()})
    return found


def _write(out: RunFolder | None, name: str, content: str | bytes) -> None:
    if out is not None:
        out.write(name, content)


def _json(summary: dict[str, Any]) -> str:
    return to_json(summary, indent=2) + "\n"
