"""What optax offers: its transformations and schedules by name, found by introspection."""

from __future__ import annotations

import functools
import inspect
import itertools
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
import optax.contrib

from fnn.optim.wrappers import WRAPPED

Constructor = Callable[..., Any]

_FUNCTION = "it needs a Python function, which a config cannot give"
_PER_EXAMPLE = "it needs the gradient of every example, and a training step gives the mean of the batch"
_FACTORY = "it is for hyperparameters set from outside; give the argument itself a schedule"

REFUSED = {
    "MultiSteps": "gradients are accumulated by train.accumulate",
    "conditionally_mask": _FUNCTION,
    "conditionally_transform": _FUNCTION,
    "differentially_private_aggregate": _PER_EXAMPLE,
    "dpsgd": _PER_EXAMPLE,
    "inject_hyperparams": _FACTORY,
    "inject_stateful_hyperparams": _FACTORY,
    "measure_with_ema": _FUNCTION,
    "monitor": _FUNCTION,
    "snapshot": _FUNCTION,
    "stateless": _FUNCTION,
    "stateless_with_tree_map": _FUNCTION,
}
"""Names of optax that a config cannot drive, each with the reason."""


@functools.cache
def transformations() -> dict[str, Constructor]:
    """Every constructor of a gradient transformation in ``optax`` and ``optax.contrib``, by name.

    A constructor is known by the type that its signature says it returns. A few carry no such
    annotation; these are called with their defaults, to see.

    Example:
        >>> from fnn.optim.catalog import transformations
        >>> {"adamw", "chain", "lookahead", "sophia", "dog"} <= set(transformations())
        True
    """
    found = {name: f for name, f in _functions() if name not in REFUSED and _makes_transformation(f)}
    return found | WRAPPED


@functools.cache
def schedules() -> dict[str, Constructor]:
    """Every constructor of a schedule in optax, by name.

    Example:
        >>> from fnn.optim.catalog import schedules
        >>> {"cosine_decay_schedule", "exponential_decay"} <= set(schedules())
        True
    """
    found = {n: f for n, f in _functions() if inspect.signature(f).return_annotation == optax.Schedule}
    return found | {"join_schedules": join_schedules}


def _functions() -> Iterator[tuple[str, Constructor]]:
    for module in (optax.contrib, optax):
        for name, item in vars(module).items():
            if not name.startswith("_") and isinstance(item, types.FunctionType | functools.partial):
                yield name, item


def _makes_transformation(function: Constructor) -> bool:
    signature = inspect.signature(function)
    if signature.return_annotation is not signature.empty:
        return is_transformation(signature.return_annotation)
    if any(p.default is p.empty for p in signature.parameters.values()):
        return False
    return isinstance(function(), optax.GradientTransformation)


@functools.wraps(optax.join_schedules)
def join_schedules(schedules: Sequence[Any], boundaries: Sequence[int]) -> Any:
    """`optax.join_schedules`, which drops schedules without a word where boundaries are too few."""
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"{len(schedules)} schedules need {len(schedules) - 1} boundaries, got {len(boundaries)}"
        )
    if any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"boundaries must increase, got {', '.join(map(str, boundaries))}")
    return optax.join_schedules(schedules, boundaries)


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type that an annotation is.

    Example:
        >>> from fnn.optim.catalog import members
        >>> members(int | None), members(float)
        ((<class 'int'>, <class 'NoneType'>), (<class 'float'>,))
    """
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def is_transformation(annotation: Any) -> bool:
    """Whether an annotation is a gradient transformation, or a union with one.

    Example:
        >>> is_transformation(optax.GradientTransformationExtraArgs | None), is_transformation(float)
        (True, False)
    """
    return any(
        inspect.isclass(m) and issubclass(m, optax.GradientTransformation) for m in members(annotation)
    )


def is_schedule(annotation: Any) -> bool:
    """Whether an annotation is, or is a union with, a function of one number that gives a number.

    Example:
        >>> is_schedule(optax.ScalarOrSchedule), is_schedule(float)
        (True, False)
    """
    numbers = (jax.typing.ArrayLike, jax.Array)
    return any(
        typing.get_origin(m) is abc.Callable
        and typing.get_args(m)[0] in [[n] for n in numbers]
        and typing.get_args(m)[1] in numbers
        for m in members(annotation)
    )


def is_function(annotation: Any) -> bool:
    """Whether an annotation is, or is a union with, a function."""
    return any(typing.get_origin(m) is abc.Callable for m in members(annotation))


def plain_type(annotation: Any, number: type[float] | type[int]) -> Any:
    """An annotation with ``number`` in place of all that jax counts as a number, for pydantic to check.

    Example:
        >>> import jax
        >>> from fnn.optim.catalog import plain_type
        >>> plain_type(tuple[jax.typing.ArrayLike, jax.typing.ArrayLike], float)
        tuple[float, float]
    """
    if typing.get_origin(annotation) is tuple:
        return tuple[tuple(plain_type(part, number) for part in typing.get_args(annotation))]  # type: ignore[misc]
    parts = members(annotation)
    if float in parts or complex in parts:
        numeric = (jax.Array, np.ndarray, np.bool_, np.number, bool, int, float, complex)
        parts = (number, *(part for part in parts if part not in numeric))
    if len(parts) == 1:
        return parts[0]
    return typing.Union[tuple(plain_type(part, number) for part in parts)]  # noqa: UP007
