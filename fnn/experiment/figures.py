"""Loss and metrics from a config's choices, and whether they fit what a model gives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.choices import ConfigError, Path, call, find, plain, read_choice
from fnn.data import Dataset
from fnn.metrics import Metric, default_metrics
from fnn.registry import registry

Loss = Callable[[Array, Array], Array]


def build_loss(choice: Any) -> Loss:
    """``(outputs, targets) -> losses`` of a choice.

    Raises:
        ConfigError: The loss or an argument is unknown or refused.
    """
    name, arguments, path = read_choice(choice, ("loss",))
    function = find(name, registry["loss"], "loss", path)

    @functools.wraps(function)
    def bind(**keywords: Any) -> Any:
        return functools.partial(function, **keywords)

    signature = inspect.signature(function)
    own = list(signature.parameters.values())[2:]  # after outputs and targets
    bind.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return call(bind, name, arguments, path, plain)  # type: ignore[no-any-return]


def build_metrics(choices: list[Any] | None, dataset: Dataset) -> dict[str, Metric]:
    """Metrics by name, of choices, or those that are usual for such data.

    Where the data have a scale, a metric leaves out a border as wide unless its choice names one.

    Raises:
        ConfigError: A metric or an argument is unknown or refused, or one is there twice.
    """
    if choices is None:
        choices = ["psnr"] if dataset.scale else list(default_metrics(dataset.classes is not None))
    metrics: dict[str, Metric] = {}
    for i, choice in enumerate(choices):
        name, arguments, path = read_choice(choice, ("metrics", i))
        if name in metrics:
            raise ConfigError(path, f"{name} is there already, and a log has one figure of a name")
        metric = find(name, registry["metric"], "metric", path)
        if dataset.scale and "border" in inspect.signature(metric).parameters:
            metric = functools.wraps(metric)(functools.partial(metric, border=dataset.scale))
        metrics[name] = call(metric, name, arguments, path, plain)
    return metrics


def check_figures(
    outputs: Any, targets: Any, loss: Loss, metrics: dict[str, Metric], what: str
) -> dict[str, Any]:
    """Shapes and dtypes of what metrics measure, by name.

    Args:
        outputs, targets: Shapes and dtypes of a batch's.
        loss, metrics: What they are for.
        what: They are, for the message.

    Raises:
        ConfigError: They do not fit the loss or a metric.
    """
    valid = jax.ShapeDtypeStruct(targets.shape[:1], jnp.bool_)
    path: Path = ("loss",)
    statistics = {}
    try:
        jax.eval_shape(loss, outputs, targets)
        for i, (name, metric) in enumerate(metrics.items()):
            path = ("metrics", i)
            statistics[name] = jax.eval_shape(metric.measure, outputs, targets, valid)
    except (ValueError, TypeError) as error:
        raise ConfigError(path, f"does not fit {what}: {error}") from None
    return statistics
