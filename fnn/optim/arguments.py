"""A constructor's arguments: what a YAML value means to each; schedules."""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fnn.choices import ConfigError, Path, call, find, plain, read_choice, shown
from fnn.optim.catalog import Constructor, is_function, is_schedule, members, plain_type, schedules
from fnn.optim.clock import STEPS, Clock

Meaning = Callable[[Any, Path], Any]
"""What a YAML value means to one argument: ``(value, path) -> argument``."""

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def construct(
    constructor: Constructor,
    make: Callable[..., Any],
    choice: tuple[str, Any, Path],
    meaning: Callable[[inspect.Parameter], Meaning],
) -> Any:
    """Call ``make`` with the arguments of a choice, read as ``constructor`` would take them.

    Args:
        constructor: Its signature says which arguments there are.
        make: Called with the arguments when each has been turned by its meaning.
        choice: Name, arguments and path, see `read_choice`.
        meaning: From a parameter of the signature to what a value means to it.

    Raises:
        ConfigError: See `call`.
    """
    signature = inspect.signature(constructor)
    parameters = signature.parameters.values()

    def typed(*positional: Any, **named: Any) -> Any:
        return make(*positional, **named)

    # `call` hands every value to its converter with the annotation: here the annotation is the meaning.
    # What is shown of the signature in an error goes without optax's long types.
    typed.__annotations__ = {p.name: _nullable(p, meaning(p)) for p in parameters}
    bare = [p.replace(annotation=p.empty, default=_short(p.default)) for p in parameters]
    typed.__signature__ = inspect.Signature(bare)  # type: ignore[attr-defined]
    name, arguments, path = choice
    return call(typed, name, arguments, path, lambda mean, value, here: mean(value, here))


def _short(default: Any) -> Any:
    long = isinstance(default, optax.GradientTransformation) or inspect.isfunction(default)
    return ... if long else default


def _nullable(parameter: inspect.Parameter, meaning: Meaning) -> Meaning:
    if parameter.default is not None and type(None) not in members(parameter.annotation):
        return meaning
    return lambda value, path: None if value is None else meaning(value, path)


def meaning(parameter: inspect.Parameter, clock: Clock) -> Meaning:
    """What a value means to an argument that knows nothing of the model: most are numbers."""
    name, annotation = parameter.name, parameter.annotation
    if "dtype" in name:
        return _dtype
    if name in ("key", "seed", "random_seed"):
        return functools.partial(_seed, raw=name == "random_seed")
    if name in STEPS:
        return clock.count
    if name == "boundaries":
        return functools.partial(_each, clock.count)
    if name == "boundaries_and_scales":
        return functools.partial(_scales, clock)
    if name == "cosine_kwargs":
        return functools.partial(_each, functools.partial(_cosine, clock))
    if any(is_schedule(part) for part in typing.get_args(annotation)[:1]) and not members(annotation)[1:]:
        return functools.partial(_each, lambda value, path: schedule(value, path, clock, constant=True))
    if is_schedule(annotation):
        return lambda value, path: schedule(value, path, clock, constant=float not in members(annotation))
    if is_function(annotation):
        return _no_function
    if annotation is parameter.empty:
        annotation = type(parameter.default)
    counts = isinstance(parameter.default, int) or name.endswith("_steps")
    return functools.partial(_plain, plain_type(annotation, int if counts else float))


def schedule(value: Any, path: Path, clock: Clock, *, constant: bool = False) -> Any:
    """A number as it is, or a schedule from its choice.

    Args:
        value: As the config has it.
        path: Where it stands.
        clock: What shares of the run and of an epoch come to.
        constant: Make a number a constant schedule.

    Raises:
        ConfigError: It is neither, or the schedule's arguments are wrong.

    Example:
        >>> from fnn.optim.clock import Clock
        >>> decay = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": "100%"}}
        >>> print(schedule(decay, ("learning_rate",), Clock(run=8, epoch=2))(2))
        0.75
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = _plain(float, value, path)
        return optax.constant_schedule(number) if constant else number
    if not isinstance(value, str | Mapping):
        raise ConfigError(path, f"expected a number or a schedule, got {shown(value)}")
    name, arguments, here = read_choice(value, path)
    constructor = find(name, schedules(), "schedule", here)
    return construct(constructor, constructor, (name, arguments, here), lambda p: meaning(p, clock))


def _cosine(clock: Clock, value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"expected the arguments of a cosine cycle by name, got {shown(value)}")
    cycle = optax.warmup_cosine_decay_schedule
    choice = (cycle.__name__, value, path)
    return construct(cycle, dict, choice, lambda p: meaning(p, clock))  # type: ignore[no-any-return]


def _each(meaning: Meaning, value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ConfigError(path, f"expected a list, got {shown(value)}")
    return [meaning(item, (*path, i)) for i, item in enumerate(value)]


def _scales(clock: Clock, value: Any, path: Path) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise ConfigError(path, f"expected {{step: scale, ...}}, got {shown(value)}")
    scales: dict[int, float] = {}
    for step, scale in value.items():
        here = (*path, str(step))
        if (count := clock.count(step, here)) in scales:
            raise ConfigError(here, f"two scales at step {count}")
        scales[count] = _plain(float, scale, here)
    return scales


def _dtype(value: Any, path: Path) -> Any:
    if not isinstance(value, str) or value not in _DTYPES:
        raise ConfigError(path, f"expected {' or '.join(map(repr, _DTYPES))}, got {shown(value)}")
    return _DTYPES[value]


def _seed(value: Any, path: Path, raw: bool) -> Any:
    seed = _plain(int, value, path)
    if seed < 0:
        raise ConfigError(path, f"expected a seed of 0 or more, got {seed}")
    return jax.random.PRNGKey(seed) if raw else seed


def _no_function(value: Any, path: Path) -> Any:
    raise ConfigError(path, f"is a Python function, which a config cannot give; got {shown(value)}")


def _plain(annotation: Any, value: Any, path: Path) -> Any:
    read = plain(annotation, value, path)
    if isinstance(read, float) and math.isnan(read):
        raise ConfigError(path, "expected a number, got NaN")
    return read
