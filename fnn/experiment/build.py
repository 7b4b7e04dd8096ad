"""The parts of a training run, built and checked from an experiment."""

from __future__ import annotations

import functools
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
from fnn.experiment.model import build_model
from fnn.experiment.normalization import make_normalizer
from fnn.experiment.parameters import make_penalty, rate_factors, trained_part
from fnn.experiment.schema import DataSection, Experiment, TrainSection
from fnn.layer import Layer, LayerError
from fnn.metrics import Metric, default_metrics
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
    loss: Callable[[Array, Array], Array]
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
    loss = _loss(experiment.loss)
    metrics = _metrics(experiment.metrics, dataset)
    if dataset.scale is not None:
        loss = _of_bytes(loss)
        metrics = {n: metric._replace(measure=_of_bytes(metric.measure)) for n, metric in metrics.items()}
    statistics = _check_targets(dataset, outputs[""], loss, metrics, experiment.loss)
    _check_best(train, dataset, metrics)
    steps = steps_per_epoch(len(dataset.train), train.batch_size)
    if (run := steps * train.epochs) >= 2**31:  # they are counted in int32
        raise ConfigError(("train", "epochs"), f"expected fewer than 2**31 steps in all, got {run}")
    clock = Clock(run=run, epoch=steps)
    return Parts(
        model=model,
        dataset=dataset,
        normalizer=make_normalizer(experiment, dataset),
        augment=build_augmentation(experiment.data.augment, inputs.shape, _pictures(dataset, inputs)),
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


def _pictures(dataset: Dataset, inputs: jax.ShapeDtypeStruct) -> tuple[int, ...] | None:
    """The shape of a batch of targets, where they are pictures as the inputs are."""
    targets = dataset.train.targets
    pictures = targets is not None and targets.ndim == inputs.ndim == 4
    return (inputs.shape[0], *targets.shape[1:]) if targets is not None and pictures else None


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


def _loss(choice: Any) -> Callable[[Array, Array], Array]:
    name, arguments, path = read_choice(choice, ("loss",))
    function = find(name, registry["loss"], "loss", path)

    @functools.wraps(function)
    def bind(**keywords: Any) -> Any:
        return functools.partial(function, **keywords)

    signature = inspect.signature(function)
    own = list(signature.parameters.values())[2:]  # after outputs and targets
    bind.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return call(bind, name, arguments, path, plain)  # type: ignore[no-any-return]


def _of_bytes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A loss or a measure of targets that are pictures: from 0 to 1, as the model sees its inputs."""
    return lambda outputs, targets, *rest: function(outputs, targets.astype(jnp.float32) / 255, *rest)


def _metrics(choices: list[Any] | None, dataset: Dataset) -> dict[str, Metric]:
    if choices is None and dataset.scale is not None:
        choices = [{"psnr": {"border": dataset.scale}}]
    elif choices is None:
        choices = list(default_metrics(dataset.classes is not None))
    metrics: dict[str, Metric] = {}
    for i, choice in enumerate(choices):
        name, arguments, path = read_choice(choice, ("metrics", i))
        if name in metrics:
            raise ConfigError(path, f"{name} is there already, and a log has one figure of a name")
        metrics[name] = call(find(name, registry["metric"], "metric", path), name, arguments, path, plain)
    return metrics


def _check_targets(
    dataset: Dataset,
    outputs: Any,
    loss: Callable[[Array, Array], Array],
    metrics: dict[str, Metric],
    choice: Any,
) -> dict[str, Any]:
    """The model's output must be what the loss and the metrics take; shapes of what these measure."""
    n = outputs.shape[0]
    classes = dataset.classes
    wide = outputs.ndim == 2 and outputs.shape[-1] > 1
    if classes is not None and wide and outputs.shape[-1] < len(classes):
        raise ConfigError(
            ("model",), f"expected an output for each of {len(classes)} classes, got {outputs.shape}"
        )
    if dataset.train.targets is None:
        raise ConfigError(("data", "source"), "expected targets to learn from, got none")
    targets = jax.ShapeDtypeStruct((n, *dataset.train.targets.shape[1:]), dataset.train.targets.dtype)
    valid = jax.ShapeDtypeStruct((n,), jnp.bool_)
    path: Path = ("loss",)
    statistics = {}
    try:
        jax.eval_shape(loss, outputs, targets)
        for i, (name, metric) in enumerate(metrics.items()):
            path = ("metrics", i)
            statistics[name] = jax.eval_shape(metric.measure, outputs, targets, valid)
    except (ValueError, TypeError) as error:
        raise ConfigError(path, f"does not fit the model's output and the targets: {error}") from None
    return statistics
