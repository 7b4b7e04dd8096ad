"""The parts of a training run, built and checked from an experiment."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import optim
from fnn.capture import capture, captured
from fnn.choices import ConfigError, Path, call, find, plain, read_choice, shown
from fnn.data import Augmentation, DataError, Dataset, Normalizer, steps_per_epoch
from fnn.experiment.augmentation import build_augmentation
from fnn.experiment.figures import Loss, build_loss, build_metrics, check_figures
from fnn.experiment.model import build_model
from fnn.experiment.normalization import make_normalizer
from fnn.experiment.pairs import larger, of_bytes, other_sizes
from fnn.experiment.parameters import make_penalty, rate_factors, trained_part
from fnn.experiment.schema import DataSection, Experiment, TrainSection
from fnn.layer import Layer, LayerError
from fnn.metrics import Metric
from fnn.optim.clock import Clock
from fnn.registry import registry
from fnn.training import Logger, Period

_SPAN = re.compile(r"(\d+(?:\.\d+)?) *(second|minute)s?")


@dataclass(frozen=True, eq=False)
class Parts:
    """What training works with: everything that a config names, made and checked against each other.

    Attributes:
        model: The layer.
        dataset: Its training, validation, test and prediction parts.
        normalizer: What is done to an example before the model sees it, or None.
        augment: ``(key, inputs) -> inputs``, which may mix them, or None.
        loss: ``(outputs, targets) -> losses``, one an example.
        penalty: ``params -> scalar``, the regulariser.
        metrics: By name.
        optimizer: The gradient transformation and its learning rate.
        dtype: The type of the activations.
        params, state: Shapes and dtypes of the model's.
        trained: Those of the parameters that are trained.
        outputs: Shapes and dtypes of what each layer gives for a batch, by path.
        statistics: Shapes and dtypes of what each metric measures of a batch, by name.
        steps_per_epoch: Whole batches.
        log_every: Steps between two logged points.
        save_every: When the run is saved.
    """

    model: Layer
    dataset: Dataset
    normalizer: Normalizer | None
    augment: Augmentation | None
    loss: Loss
    penalty: Callable[[Any], Array]
    metrics: dict[str, Metric]
    optimizer: optim.Optimizer
    dtype: Any
    params: Any
    state: Any
    trained: Any
    outputs: dict[str, Any]
    statistics: dict[str, Any]
    steps_per_epoch: int
    log_every: int
    save_every: Period


def build(experiment: Experiment, model: Layer | None = None, data: Dataset | None = None) -> Parts:
    """Make and check everything that an experiment names; nothing is compiled or written.

    Args:
        experiment: The checked config.
        model: Used in place of the config's.
        data: Used in place of the config's.

    Raises:
        ConfigError: A name, an argument or a shape does not fit, or the data set is missing or broken; of an
            experiment that was read, the message begins with file and line.
    """
    with experiment.document.located():
        return _build(experiment, model, data)


def _build(experiment: Experiment, model: Layer | None, data: Dataset | None) -> Parts:
    train = experiment.train
    dataset = data if data is not None else build_data(experiment.data)
    if experiment.data.validation:
        dataset = _hold_out(dataset, experiment)
    config = experiment.model if model is None else None
    model = build_model(experiment.model) if model is None else model
    dtype = jnp.dtype(experiment.precision)
    inputs = _inputs(dataset, min(train.batch_size, len(dataset.train)), dtype)
    params, state, outputs = _shapes(model, inputs, config)
    trained = trained_part(train.freeze, params, state)
    loss = build_loss(experiment.loss)
    metrics = build_metrics(experiment.metrics, dataset)
    if dataset.scale is not None:
        loss = of_bytes(loss)
        metrics = {n: metric._replace(measure=of_bytes(metric.measure)) for n, metric in metrics.items()}
    statistics = _check_targets(dataset, outputs[""], loss, metrics)
    augment = build_augmentation(experiment.data.augment, inputs.shape, larger(dataset, inputs))
    _check_sizes(dataset, inputs, augment, (model, params, state, config), loss, metrics)
    _check_best(train, dataset, metrics)
    steps = steps_per_epoch(len(dataset.train), train.batch_size)
    if (run := steps * train.epochs) >= 2**31:  # they are counted in int32
        raise ConfigError(("train", "epochs"), f"expected fewer than 2**31 steps in all, got {run}")
    clock = Clock(run=run, epoch=steps)
    return Parts(
        model=model,
        dataset=dataset,
        normalizer=make_normalizer(experiment, dataset),
        augment=augment,
        loss=loss,
        penalty=make_penalty(train.l2, params, trained),
        metrics=metrics,
        optimizer=optim.build(
            experiment.optimizer,
            trained,
            total_steps=run,
            steps_per_epoch=steps,
            clip=train.clip,
            accumulate=train.accumulate,
            factors=rate_factors(train.rates, trained),
        ),
        dtype=dtype,
        params=params,
        state=state,
        trained=trained,
        outputs=outputs,
        statistics=statistics,
        steps_per_epoch=steps,
        log_every=clock.count(train.log_every, ("train", "log_every")),
        save_every=_period(train, clock),
    )


def _period(train: TrainSection, clock: Clock) -> Period:
    """When a run is saved; one that goes back is saved at the same steps however long they took."""
    every, path = train.checkpoint.every, ("train", "checkpoint", "every")
    exact = train.on_nonfinite == "rollback"
    span = _SPAN.fullmatch(every.strip()) if isinstance(every, str) else None
    if exact and (span or every is None):
        raise ConfigError(path, f"expected a number of steps or epochs to roll back by, got {shown(every)}")
    if every is None:
        return Period()
    if span:
        return Period(None, float(span[1]) * (60 if span[2] == "minute" else 1))
    return Period(clock.count(every, path), 0.0 if exact else train.checkpoint.spacing)


def _check_best(train: TrainSection, dataset: Dataset, metrics: dict[str, Metric]) -> None:
    if train.best is None:
        if train.patience is not None:
            raise ConfigError(("train", "patience"), "needs train.best: what is to become better")
        return
    if dataset.validation is None:
        raise ConfigError(("train", "best"), "needs a validation part: set data.validation")
    if len(train.best) != 1:
        form = "expected {min: loss} or {max: accuracy}"
        raise ConfigError(("train", "best"), f"{form}, got {shown(train.best)}")
    ((direction, name),) = train.best.items()
    if name not in ("loss", *metrics):
        known = ", ".join(("loss", *metrics))
        raise ConfigError(("train", "best", direction), f"expected a metric ({known}), got {shown(name)}")


def _hold_out(dataset: Dataset, experiment: Experiment) -> Dataset:
    try:
        return dataset.hold_out(experiment.data.validation, experiment.seed)
    except DataError as error:
        raise ConfigError(("data", "validation"), str(error)) from None


def build_data(section: DataSection) -> Dataset:
    """The data set that a config names, whole.

    Raises:
        ConfigError: The source or an argument is unknown, or its files are missing or broken.
    """
    name, arguments, path = read_choice(section.source, ("data", "source"))
    source = find(name, registry["source"], "data source", path)
    if section.path is not None:
        if "path" not in inspect.signature(source).parameters:
            raise ConfigError(("data", "path"), f"{name} reads no files")
        given = arguments if isinstance(arguments, dict) else {}
        if "path" in given:
            raise ConfigError(("data", "path"), f"is given twice, here and as an argument of {name}")
        arguments = {**given, "path": section.path}
    dataset: Dataset = call(source, name, arguments, path, plain)
    return dataset


def build_loggers(experiment: Experiment) -> dict[str, Logger]:
    """The loggers that a config names, by name; they write nothing before they begin.

    They are no part of ``build``, so that what does not train needs none of their libraries.

    Raises:
        ConfigError: A name or an argument does not fit, is there twice, or its library is not installed.
    """
    loggers: dict[str, Logger] = {}
    with experiment.document.located():
        for i, choice in enumerate(experiment.log):
            name, arguments, path = read_choice(choice, ("log", i))
            if name in loggers:
                raise ConfigError(path, f"{name} is there already, and a run has one logger of a name")
            logger = call(find(name, registry["logger"], "logger", path), name, arguments, path, plain)
            if not isinstance(logger, Logger):
                raise ConfigError(path, f"{name} made no logger: expected one with begin, record and end")
            loggers[name] = logger
    return loggers


def _inputs(dataset: Dataset, batch: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *dataset.train.inputs.shape[1:]), dtype)


def _shapes(model: Layer, inputs: jax.ShapeDtypeStruct, config: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Shapes of params, state and all outputs; a layer that does not fit is a ConfigError at its place."""
    key = jax.random.key(0)
    try:
        params, state = jax.eval_shape(model.init, key, inputs)
        looking = capture(model)
        _, seen = jax.eval_shape(
            lambda p, s, x: looking.apply(p, s, x, key=key, train=True), params, state, inputs
        )
    except LayerError as error:
        raise ConfigError(_place(error, model, config), str(error)) from None
    except ValueError as error:  # an initialiser's, which sees shapes now
        raise ConfigError(("model",), str(error)) from error
    return params, state, captured(seen)


def _place(error: LayerError, model: Layer, config: Any) -> Path:
    """Where the layer of an error stands, if the model is a list of layers."""
    names = [name for name, _ in model.children]
    first = error.path.split("/")[0]
    return ("model", names.index(first)) if isinstance(config, list) and first in names else ("model",)


def _check_sizes(
    dataset: Dataset,
    inputs: jax.ShapeDtypeStruct,
    augment: Augmentation | None,
    made: tuple[Layer, Any, Any, Any],
    loss: Loss,
    metrics: dict[str, Metric],
) -> None:
    """What is well for the training part must be it for pictures of other sizes, too."""
    model, params, state, config = made
    for small, large, whose in other_sizes(dataset, inputs, augment):
        what = f"pictures of {' x '.join(map(str, small.shape[1:-1]))} {whose}"
        try:
            outputs, _ = jax.eval_shape(model.apply, params, state, small)
        except LayerError as error:
            raise ConfigError(_place(error, model, config), f"{error}; of {what}") from None
        check_figures(outputs, large, loss, metrics, what)


def _check_targets(dataset: Dataset, outputs: Any, loss: Loss, metrics: dict[str, Metric]) -> dict[str, Any]:
    """The model's output must be what the loss and the metrics take; shapes of what these measure."""
    classes = dataset.classes
    wide = outputs.ndim == 2 and outputs.shape[-1] > 1
    if classes is not None and wide and outputs.shape[-1] < len(classes):
        raise ConfigError(
            ("model",), f"expected an output for each of {len(classes)} classes, got {outputs.shape}"
        )
    if dataset.train.targets is None:
        raise ConfigError(("data", "source"), "expected targets to learn from, got none")
    given = dataset.train.targets
    targets = jax.ShapeDtypeStruct((outputs.shape[0], *given.shape[1:]), given.dtype)
    return check_figures(outputs, targets, loss, metrics, "the model's output and the targets")
