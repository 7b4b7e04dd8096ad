"""From a config's ``optimizer:`` section to one gradient transformation."""

from __future__ import annotations

import inspect
import operator
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from fnn.choices import ConfigError, Path, find, read_choice, shown
from fnn.layer import spec
from fnn.optim.arguments import Meaning, construct, meaning
from fnn.optim.catalog import REFUSED, is_transformation, schedules, transformations
from fnn.optim.clock import Clock
from fnn.optim.scope import Scope, axes, decay_masks, labels, mask
from fnn.optim.wrappers import (
    Transformation,
    accumulated,
    finished,
    forwarding,
    holds_params,
    multiplied,
)

Rate = Callable[[int], float]

_BY_PATTERN = ("multi_transform", "partition")


@dataclass(frozen=True)
class Optimizer:
    """A config's optimiser.

    Attributes:
        transformation: ``init(params)`` and ``update(grads, state, params, value=, grad=, value_fn=)``:
            the loss, its gradient and the function ``params -> loss`` are passed to those that ask.
            The state is made of plain arrays, none of which is one of the parameters.
        learning_rate: The schedule of the update count that the config gives as learning rate, if it
            gives one. What an optimiser then learns to multiply it with is not in it.
    """

    transformation: optax.GradientTransformationExtraArgs
    learning_rate: Rate | None


def build(
    config: Any,
    params_spec: Any,
    *,
    total_steps: int,
    steps_per_epoch: int,
    path: Path = ("optimizer",),
    clip: float | None = None,
    accumulate: int = 1,
    factors: Any = None,
) -> Optimizer:
    """The optimiser that a config describes, for the parameters of one model.

    A choice names any optimiser, gradient transformation or schedule of ``optax`` or ``optax.contrib``,
    with its own arguments; a list is a chain. Besides:

    - An argument that is a transformation is a choice too, one that may be a schedule takes a number
      or a schedule's choice.
    - Masks are globs over the paths of the parameters, or a bool. A weight decay covers ``*/kernel``
      unless its mask says otherwise; where an optimiser has no mask for it, it must be 0, unless all
      that the optimiser sees are kernels. (``mechanize`` keeps its own: that one shrinks no parameter.)
    - ``multi_transform`` takes ``{pattern: optimizer, ...}``; the first pattern that fits is taken.
    - What counts steps counts updates: a number, ``"5 epochs"`` or ``"10%"`` of the run.

    Args:
        config: The section as YAML has it.
        params_spec: The model's parameters, or their shapes and dtypes.
        total_steps: Training steps of the run: batches.
        steps_per_epoch: Training steps of an epoch.
        path: Where the section stands, for errors.
        clip: The largest global norm of the gradient, applied before all else.
        accumulate: Batches whose mean gradient makes one update.
        factors: What each parameter's updates are multiplied by, in a tree like that of the parameters.

    Raises:
        ConfigError: With the path of what cannot be used: before anything is compiled.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import build
        >>> decay = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": "100%"}}
        >>> params = {"dense1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
        >>> optimizer = build({"sgd": {"learning_rate": decay}}, params, total_steps=4, steps_per_epoch=2)
        >>> [float(optimizer.learning_rate(count)) for count in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    shapes = spec(params_spec)
    clock = Clock(run=max(1, total_steps), epoch=steps_per_epoch).every(accumulate)
    built = transformation(config, path, Scope(shapes, shapes, clock))
    inner = built.transformation
    if clip is not None:
        inner = optax.chain(optax.clip_by_global_norm(clip), inner)
    if factors is not None:
        _need_no_params(inner, path, shapes)
        inner = optax.chain(inner, multiplied(factors))
    if accumulate > 1:
        inner = accumulated(inner, accumulate)
    whole = finished(inner)
    name = "chain" if isinstance(config, list) else read_choice(config, path)[0]
    check(name, whole, path, Scope(shapes, shapes, clock))
    return Optimizer(whole, built.learning_rate)


def _need_no_params(made: Transformation, path: Path, shapes: Any) -> None:
    """Parameters in the state would be updated without the factors."""
    state = jax.eval_shape(made.init, shapes)
    if any(map(holds_params, jax.tree.leaves(state, is_leaf=holds_params))):
        raise ConfigError(
            path, "keeps parameters of its own, which train.rates do not reach: expected a multi_transform"
        )


def transformation(config: Any, path: Path, scope: Scope) -> Optimizer:
    """A choice, or a list for a chain, as a transformation of the parameters in scope.

    Raises:
        ConfigError: See `build`.
    """
    if isinstance(config, list):
        return _constructed("chain", config, path, scope)
    name, given, here = read_choice(config, path)
    if name in REFUSED:
        raise ConfigError(here, f"{name} cannot be used from a config: {REFUSED[name]}")
    if name in schedules():
        raise ConfigError(here, f"{name} is a schedule: it is for an argument such as learning_rate")
    find(name, transformations(), "optimizer", here)
    if name in _BY_PATTERN:
        return _by_pattern(given, here, scope)
    return _constructed(name, given, here, scope)


def _constructed(name: str, given: Any, path: Path, scope: Scope) -> Optimizer:
    constructor = transformations()[name]
    parameters = inspect.signature(constructor).parameters
    inside = _inside(name, given, path, scope)

    def make(*parts: Any, **named: Any) -> Optimizer:
        named |= decay_masks(name, parameters, named, path, scope)
        made = forwarding(constructor, *map(_bare, parts), **{key: _bare(v) for key, v in named.items()})
        check(name, made, path, scope)
        once_in = round(scope.clock.run / inside.clock.run)
        return Optimizer(made, _rate(parameters, parts, named, once_in))

    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) and not (
        given and isinstance(given, list)
    ):
        raise ConfigError(path, f"expected a list of transformations, got {shown(given)}")
    choice = (name, given, path)
    built: Optimizer = construct(constructor, make, choice, lambda p: _meaning(p, scope, inside))
    return built


def _meaning(parameter: inspect.Parameter, scope: Scope, inside: Scope) -> Meaning:
    """What a value means to one argument of a transformation."""
    name, annotation = parameter.name, parameter.annotation
    if is_transformation(annotation):
        return lambda value, path: transformation(value, path, inside)
    if typing.get_origin(annotation) is tuple and is_transformation(typing.get_args(annotation)[-1]):
        return lambda value, path: _pair(value, path, inside)
    if name == "mask" or name.endswith("_mask"):
        return lambda value, path: mask(value, path, scope)
    if name.endswith("dimension_numbers"):
        return lambda value, path: axes(value, path, scope, parameter)
    return meaning(parameter, inside.clock if name in ("patience", "cooldown") else scope.clock)


def _pair(value: Any, path: Path, scope: Scope) -> tuple[str, Optimizer]:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        raise ConfigError(path, f"expected [name, transformation], got {shown(value)}")
    return value[0], transformation(value[1], (*path, 1), scope)


def _inside(name: str, given: Any, path: Path, scope: Scope) -> Scope:
    """The scope of what a transformation wraps: fewer parameters, or fewer updates."""
    named = given if isinstance(given, Mapping) else {}

    def covered(key: str) -> Any:
        return mask(named[key], (*path, key), scope)

    def once_in(key: str, default: int) -> Scope:
        steps = scope.clock.count(named.get(key, default), (*path, key))
        return replace(scope, clock=scope.clock.every(max(1, steps)))

    if name == "flatten":
        return scope.flattened()
    if name == "masked" and "mask" in named:
        return scope.only(covered("mask"))
    if name == "selective_transform" and "freeze_mask" in named:
        return scope.only(jax.tree.map(operator.not_, covered("freeze_mask")))
    if name == "sam" and named.get("opaque_mode") is not True:
        return once_in("sync_period", 2)
    if name == "reduce_on_plateau":
        return once_in("accumulation_size", 1)
    return scope


def _bare(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Optimizer):
        return value[0], value[1].transformation
    return value.transformation if isinstance(value, Optimizer) else value


def _rate(parameters: Any, parts: tuple[Any, ...], named: Mapping[str, Any], once_in: int) -> Rate | None:
    """The learning rate that a constructor is given, or the only one among what it wraps."""
    if "learning_rate" in parameters:
        rate = named.get("learning_rate", parameters["learning_rate"].default)
        if rate is None or callable(rate):
            return rate  # type: ignore[no-any-return]
        if warmup := named.get("warmup_steps"):
            return optax.warmup_constant_schedule(0.0, rate, warmup)  # type: ignore[no-any-return]
        return optax.constant_schedule(rate)  # type: ignore[no-any-return]
    inner = [v[1] if isinstance(v, tuple) else v for v in parts]
    inner += [v for key, v in named.items() if key != "adv_optimizer"]
    rates = [v.learning_rate for v in inner if isinstance(v, Optimizer) and v.learning_rate]
    if len(rates) != 1 or once_in == 1:
        return rates[0] if len(rates) == 1 else None
    return lambda count: rates[0](count // once_in)


def _by_pattern(given: Any, path: Path, scope: Scope) -> Optimizer:
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(path, f"expected {{pattern: optimizer, ...}}, got {shown(given)}")
    groups = {str(pattern): choice for pattern, choice in given.items()}
    found = labels(list(groups), path, scope)
    built: dict[str, Optimizer] = {}
    for pattern, choice in groups.items():
        inside = scope.only(jax.tree.map(lambda label, p=pattern: label == p, found))
        if not jax.tree.leaves(inside.spec):
            raise ConfigError((*path, pattern), "every parameter that it fits is taken by an earlier pattern")
        built[pattern] = transformation(choice, (*path, pattern), inside)
    rates = [b.learning_rate for b in built.values() if b.learning_rate]
    # Numbers stand for the patterns in the state, whose paths then hold no "/" but their own.
    numbers = {pattern: str(i) for i, pattern in enumerate(built)}
    made = optax.multi_transform(
        {numbers[pattern]: b.transformation for pattern, b in built.items()},
        jax.tree.map(numbers.__getitem__, found),
    )
    return Optimizer(made, rates[0] if len(rates) == 1 else None)


def check(name: str, made: Transformation, path: Path, scope: Scope) -> None:
    """Trace one update on shapes alone, so that what optax refuses is known before anything is compiled.

    Raises:
        ConfigError: It cannot update the parameters in scope, or its state changes shape.
    """
    whole: Any = jax.tree.structure(scope.model)

    def loss(params: Any) -> Any:
        if jax.tree.structure(params) != whole:
            raise ValueError(f"{name} evaluates the loss, and must see all parameters as they are to do so")
        return sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(params))

    def update(grads: Any, state: Any, params: Any, value: Any) -> Any:
        updates, after = made.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return updates, after

    value = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        state = jax.eval_shape(made.init, scope.spec)
        new = jax.eval_shape(update, scope.spec, state, scope.spec, value)
        chex.assert_trees_all_equal_shapes(new, (scope.spec, state))
    except OverflowError:  # JAX's message is on its innards
        raise ConfigError(path, f"{name}: expected whole numbers below 2**31") from None
    except Exception as error:  # whatever optax raises while it is traced
        text = " ".join(str(error).split())[:200] or type(error).__name__
        if "pytree" in text:  # JAX's, on the innards of optax
            text = "what it is made of does not fit together: one part works on another tree than the other"
        if "'function'" in text:  # Python's, on a schedule; optax's annotation promises more than it keeps
            text = "expected numbers: one of its arguments is a schedule, which it cannot take"
        raise ConfigError(path, text if name in text else f"{name}: {text}") from error
    if scope.flat and any(map(holds_params, jax.tree.leaves(state, is_leaf=holds_params))):
        raise ConfigError(path, f"{name} keeps parameters to evaluate at, for which flatten has no names")
