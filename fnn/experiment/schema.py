"""The schema of a config."""

from __future__ import annotations

import inspect
import os
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from fnn.choices import ConfigError, Path, shown
from fnn.document import Document
from fnn.trees import near

Choice = str | dict[str, Any]
Positive = Annotated[int, Field(gt=0, lt=2**31)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_OneOrMore = BeforeValidator(lambda given: given if isinstance(given, list) else [given])
"""One alone may stand without a list around it."""
Patterns = Annotated[list[str], _OneOrMore]
"""Globs over paths."""


class Section(BaseModel):
    """A mapping of the config whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NormalizeSection(Section):
    """The normalisation in numbers, of each channel of the data or one for all."""

    mean: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], _OneOrMore]
    std: Annotated[list[AboveZero], _OneOrMore]
    bgr: bool = False


class DataSection(Section):
    """What is learned from."""

    source: Choice = Field(
        "digits",
        description="data set: digits, mnist, idx, cifar10, cifar100, image_folder, super_resolution, "
        "arrays, synthetic",
    )
    path: str | None = Field(None, description="folder or file of the source, where it reads one")
    validation: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the training part that is kept for validation"
    )
    augment: list[Choice] = Field(
        [],
        description="random changes of training pictures: shift, flip, crop, random_resized_crop, rotate, "
        "color_jitter, randaugment, cutout, random_erasing, mixup, cutmix, one_of; of pairs: patch, rescale, "
        "rot90, flip",
    )
    normalize: bool | Literal["fit", "weights"] | NormalizeSection = Field(
        True,
        description="fit: to mean 0 and variance 1 of the training part, by channel; weights: as init_from's "
        "expect it; true: weights with init_from, else fit, or 0 to 1 where targets are pictures; or "
        "{mean: [..], std: [..], bgr: false}",
    )


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _hexadecimal(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("64 hexadecimal digits")
    return text


class InitSection(Section):
    """Weights to begin with."""

    path: Annotated[str, AfterValidator(_absolute)] | None = Field(
        None, description="weights to begin with: a run's folder, or a .safetensors file of fnn"
    )
    replace: Patterns = Field(
        [], description='what is made anew all the same, by pattern: "classifier/**", or a list'
    )
    sha256: Annotated[str, AfterValidator(_hexadecimal)] | None = Field(
        None, description="which file it must be; a run notes it in its config"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_path(cls, given: Any) -> Any:
        return {"path": given} if given is None or isinstance(given, str) else given

    @model_validator(mode="after")
    def _of_something(self) -> InitSection:
        if self.path is None and (self.replace or self.sha256):
            raise ValueError("a path with the rest")
        return self


class ExecutionSection(Section):
    """How the steps are run. What is left open is chosen at a run's start and written into its config."""

    mode: Literal["auto", "scan", "step"] = Field(
        "auto", description="steps in a compiled loop (scan) or dispatched one by one (step)"
    )
    kernels: Literal["auto", "onednn", "jax", "xla"] = Field("auto", description="what runs convolutions")
    threads: Positive | None = Field(None, description="CPUs to use; default: all that there are")
    deterministic: bool = Field(
        False, description="the same bits on a GPU too, at some cost; on a CPU they always are"
    )


class CheckpointSection(Section):
    """When a run is saved, so that it can go on from there."""

    every: Positive | str | None = Field(
        "1 epoch", description='100 (steps), "1 epoch", "10%" or "5 minutes"; null: only when it is stopped'
    )
    spacing: NotNegative = Field(5.0, description="seconds between two, at least")
    keep: Positive = Field(2, description="how many of the newest stay; that of the best epoch stays, too")


class TrainSection(Section):
    """How long, and in what steps."""

    epochs: Positive = Field(10, description="passes over the training part")
    batch_size: Positive = Field(128, description="examples a step")
    reduction: Literal["mean", "sum"] = Field("mean", description="how a batch's losses become one")
    l2: NotNegative | dict[str, NotNegative] = Field(
        0.0, description="strength of 0.5 l2 |w|^2 in the loss, on */kernel; or {pattern: strength}"
    )
    freeze: Patterns = Field(
        [], description='parameters that are not trained, by pattern: "features/**", or a list'
    )
    rates: dict[str, AboveZero] = Field(
        {},
        description='what updates are multiplied by: {"features/**": 0.1}; by the first that fits, else 1',
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="largest global norm of the gradient"
    )
    accumulate: Positive = Field(1, description="steps whose gradients make one update")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of an average of the parameters, used in evaluation"
    )
    log_every: Positive | str = Field(
        "1 epoch", description='steps between logged points: 100, "1 epoch" or "10%"'
    )
    best: dict[Literal["min", "max"], str] | None = Field(
        None,
        description="{max: accuracy} or {min: loss} of the validation part: the epoch to end with",
    )
    patience: Positive | None = Field(
        None, description="epochs without a better figure after which training stops"
    )
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        "stop", description="after a loss or gradient that is not finite: end; leave out the step; go back"
    )
    checkpoint: CheckpointSection = Field(CheckpointSection(), description="when a run is saved")
    execution: ExecutionSection = Field(ExecutionSection(), description="how the steps are run")


class Experiment(Section):
    """What a config says. Every field has a default but the model.

    Example:
        >>> from fnn import Experiment
        >>> experiment = Experiment(model=["flatten", {"dense": 10}])
        >>> experiment.train.batch_size
        128
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="fixes initial weights, order and noise"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="type of the activations")
    data: DataSection = Field(DataSection(), description="what is learned from")
    model: str | dict[str, Any] | list[Any] = Field(description="a list of layers, or a model by name")
    init_from: InitSection = Field(InitSection(), description="weights to begin with")
    loss: Choice = Field(
        "cross_entropy",
        description="cross_entropy, sigmoid_cross_entropy, hinge, squared_hinge, squared_error, "
        "absolute_error, charbonnier, huber",
    )
    metrics: list[Choice] | None = Field(
        None,
        description="accuracy, top_k, mae, rmse, r2, confusion, psnr, ssim; default: accuracy, or "
        "mae, rmse and r2, or psnr",
    )
    optimizer: Choice | list[Choice] = Field(
        {"adam": 1e-3}, description="any optimiser of optax, with its own arguments; a list is a chain"
    )
    train: TrainSection = Field(TrainSection(), description="how long, and in what steps")
    log: list[Choice] = Field([], description="where the log goes, too: tensorboard, wandb, mlflow")
    _document: Document = PrivateAttr(default_factory=lambda: Document({}))

    @property
    def document(self) -> Document:
        """The file and the overrides that it was read from, if it was."""
        return self._document

    def read_from(self, document: Document) -> None:
        """Note where it was read from: errors in it then say the file and line."""
        self._document = document


def check(tree: Mapping[str, Any]) -> Experiment:
    """An experiment from plain data.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of the wrong kind.

    Example:
        >>> check({"model": ["relu"], "train": {"epoch": 3}})
        Traceback (most recent call last):
        fnn.choices.ConfigError: train.epoch: unknown key; nearest: epochs, patience, reduction
    """
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise _schema_error(error, tree) from None


def fields(section: type[BaseModel] = Experiment, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Every field of the schema: dotted name, type, default, meaning.

    Example:
        >>> fields()[0]
        ('seed', 'int', '0', 'fixes initial weights, order and noise')
    """
    rows = []
    for name, info in section.model_fields.items():
        if inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel):
            rows += fields(info.annotation, f"{prefix}{name}.")
            continue
        default = "required" if info.is_required() else shown(info.default)
        rows.append((prefix + name, _type_name(info.annotation), default, info.description or ""))
    return rows


def _type_name(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == Choice or {str, dict[str, Any]} <= set(inner):
        return "choice, list" if len(inner) > 2 else "choice"
    if origin is Annotated:
        return _type_name(inner[0])
    if origin is Literal:
        return " | ".join(inner)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_type_name(part) for part in inner)
    if origin is dict or (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
        return "mapping"
    if origin is list:
        return "list"
    return "null" if annotation is types.NoneType else str(annotation.__name__)


def _schema_error(error: ValidationError, tree: Mapping[str, Any]) -> ConfigError:
    errors = error.errors()
    unknown = next((e for e in errors if e["type"] == "extra_forbidden"), None)
    details = unknown or max(errors, key=lambda e: len(_inside(e["loc"], tree)))
    path = _inside(details["loc"], tree)
    if details["type"] == "extra_forbidden":
        section: Any = Experiment
        for name in path[:-1]:
            section = _section(section.model_fields[str(name)].annotation)
        return ConfigError(path, f"unknown key; nearest: {near(str(path[-1]), section.model_fields)}")
    if details["type"] == "missing":
        name = str(details["loc"][-1])
        return ConfigError((name,), f"is required: {Experiment.model_fields[name].description}")
    same = [_wanted(d) for d in errors if _inside(d["loc"], tree) == path]
    texts = (text.partition(" or instance of ")[0] for text in same)
    wanted = " or ".join(dict.fromkeys(texts))
    return ConfigError(path, f"expected {wanted}, got {shown(details['input'])}")


def _wanted(error: Any) -> str:
    if error["type"] == "missing":
        return f"a mapping with {error['loc'][-1]}"
    text: str = error["msg"]
    return text.removeprefix("Input should be ").removeprefix("Value error, ")


def _section(annotation: Any) -> Any:
    """The section that a value can be, of an annotation with one."""
    members = (annotation, *typing.get_args(annotation))
    return next(m for m in members if inspect.isclass(m) and issubclass(m, BaseModel))


def _inside(loc: tuple[str | int, ...], tree: Any) -> Path:
    """The part of pydantic's location that leads into the data; the rest names members of unions."""
    path: Path = ()
    for part in loc:
        here = part in tree if isinstance(tree, Mapping) else isinstance(tree, list) and isinstance(part, int)
        if here:
            tree, path = tree[part], (*path, part)
    return path
