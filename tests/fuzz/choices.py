"""Choices with arguments, made from what is registered and from signatures: a new layer is fuzzed unasked."""

from __future__ import annotations

import inspect
import typing
from collections import abc
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

import fnn
from fnn.data import Augmentation
from fnn.layer import Layer
from fnn.layers import INITIALIZERS
from fnn.layers.initializers import Initializer
from fnn.optim.catalog import is_schedule, is_transformation, members, schedules, transformations
from fnn.optim.clock import STEPS
from fnn.registry import registry

NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 7, 64, 1000, 10**6, 10**9, 2**31 - 1, 2**31, 2**32, 10**12, 2**63, 10**18, 10**30,
    -(10**18), 0.0, -0.0, 0.5, -0.5, 1.0, 1.5, 1e-3, 1e-320, 1e30, 1e308,
    float("nan"), float("inf"), float("-inf"),
]  # fmt: skip

TEXTS = [
    "", " ", "10%", "0%", "150%", "5 epochs", "0.5 epochs", "-1 epochs", "1e999%", "9" * 400 + " epochs",
    "SAME", "VALID", "zeros", "relu", "dense", "serial", "adam", "name", "*", "*/kernel", "nothing/*", "[",
    "a/b", "..", "null", "true", "nan", "1e3", "é", "層", "\u2028", "\x85", "\x00", "\x07", "\ud800",
    "\U0001f600", "a\nb", "a: b", "# no", "'", '"', "{", "%", "!", "&a", "*a", "x" * 300,
]  # fmt: skip

JUNK = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.sampled_from([None, True, False]),
    st.sampled_from(
        [[], {}, [[]], [None], [{}], {"": 1}, {"name": "x"}, {"a": {"b": []}}, {"a": 1, "b": 2}, {1: 2}]
    ),
    st.lists(st.sampled_from(NUMBERS), max_size=4),
    st.text(max_size=6),
)
"""What stands nowhere by right."""

SMALL = st.integers(1, 6)


def choice(table: Mapping[str, Any], depth: int = 2, junk: bool = True) -> st.SearchStrategy[Any]:
    """A name of a table, bare or with arguments that its constructor could take."""

    @st.composite
    def draw_choice(draw: Any) -> Any:
        name = draw(st.sampled_from(sorted(table)))
        item = table[name]
        if isinstance(item, Layer):
            return name
        arguments = draw(arguments_of(item, depth, junk))
        if not arguments and draw(st.booleans()):
            return name
        if len(arguments) == 1 and next(iter(arguments)) == _first(item) and draw(st.booleans()):
            return {name: next(iter(arguments.values()))}
        return {name: arguments}

    return draw_choice()


def layers(depth: int = 2, junk: bool = True, most: int = 4) -> st.SearchStrategy[Any]:
    """A list of layers, some with a name of their own."""

    @st.composite
    def named(draw: Any) -> Any:
        layer = draw(choice(registry["layer"], depth, junk))
        if not isinstance(layer, str) and draw(st.integers(0, 4)) == 0:
            ((kind, arguments),) = layer.items()
            if isinstance(arguments, dict):
                return {kind: {**arguments, "name": draw(st.sampled_from(["stem", "head", "a-b", "x1"]))}}
        return layer

    return st.lists(named(), min_size=1, max_size=most)


def optimizers(depth: int = 2, junk: bool = True) -> st.SearchStrategy[Any]:
    """Any transformation of optax, or a chain."""
    one = choice(transformations(), depth, junk)
    return st.one_of(one, one, one, st.lists(one, min_size=1, max_size=3))


@st.composite
def arguments_of(draw: Any, constructor: Callable[..., Any], depth: int, junk: bool) -> dict[str, Any]:
    """Arguments by name: those that are needed, others now and then, and, where wanted, wrong ones."""
    given: dict[str, Any] = {}
    for parameter in inspect.signature(constructor).parameters.values():
        if parameter.name in ("outputs", "targets", "axis_name", "named") and not junk:
            continue  # what a loss is of, and what no config has
        needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        left_out = (junk and draw(st.integers(0, 30)) == 0) if needed else draw(st.integers(0, 3)) > 0
        if not left_out:
            wrong = junk and draw(st.integers(0, 9)) == 0
            given[parameter.name] = draw(JUNK if wrong else value_of(constructor, parameter, depth, junk))
    return given


def value_of(
    constructor: Any, parameter: inspect.Parameter, depth: int, junk: bool
) -> st.SearchStrategy[Any]:
    """Values that an argument may have by its annotation, or by its name."""
    annotation = _annotation(constructor, parameter)
    kinds = members(annotation)
    if annotation == abc.Sequence[Augmentation]:
        one = (
            choice(registry["augment"], depth - 1, junk) if depth > 0 else st.sampled_from(["flip", "mixup"])
        )
        return st.lists(one, min_size=1, max_size=2)
    if parameter.name == "function":
        return JUNK  # which no config can give
    if Layer in kinds:
        return layers(depth - 1, junk, 3) if depth > 0 else st.sampled_from(["relu", {"dense": 3}, ["tanh"]])
    if Initializer in kinds:
        return st.one_of(st.sampled_from(sorted(INITIALIZERS)), choice(INITIALIZERS, 0, junk))
    if (
        is_transformation(annotation)
        or "transformation" in parameter.name
        or parameter.name in ("args", "opts")
    ):
        return (
            choice(transformations(), depth - 1, junk)
            if depth > 0
            else st.sampled_from(["sgd", {"sgd": 0.1}])
        )
    if is_schedule(annotation):
        rate = st.sampled_from([0.0, 1e-3, 0.1])
        return st.one_of(rate, choice(schedules(), 0, junk)) if depth > 0 else rate
    if parameter.name in STEPS:
        return st.sampled_from([0, 1, 5, "10%", "100%", "1 epoch", "2.5 epochs"])
    return _plain_value(parameter, kinds)


def _plain_value(parameter: inspect.Parameter, kinds: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if "mask" in parameter.name:
        return st.sampled_from(["*/kernel", "*", "*/bias", True, False, "none/*"])
    words = [
        word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)
    ]
    found: list[st.SearchStrategy[Any]] = [st.sampled_from(words)] if words else []
    if kinds == (bool,) or isinstance(parameter.default, bool):
        found.append(st.booleans())
    if int in kinds:
        found += [SMALL, SMALL, SMALL]
    if float in kinds or isinstance(parameter.default, float):
        found.append(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 2.0, 1e-8]))
    if str in kinds:
        found.append(st.sampled_from(["SAME", "VALID", "zeros", "x"]))
    if any(typing.get_origin(kind) in (abc.Sequence, tuple, list) for kind in kinds):
        found.append(st.lists(SMALL, min_size=1, max_size=3))
    if parameter.name == "padding":
        found.append(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=1, max_size=2))
    return st.one_of(found) if found else st.one_of(SMALL, st.sampled_from([0.1, 0.9]))


def _annotation(constructor: Any, parameter: inspect.Parameter) -> Any:
    """With the names that are written as text resolved."""
    try:
        return typing.get_type_hints(inspect.unwrap(constructor)).get(parameter.name, parameter.annotation)
    except (NameError, TypeError):
        return parameter.annotation


def _first(constructor: Any) -> str | None:
    return next(iter(inspect.signature(constructor).parameters), None)


def names() -> list[str]:
    """Every name that a config can say anywhere."""
    tables = (*registry.values(), transformations(), schedules(), INITIALIZERS)
    fields = [part for row in fnn.experiment.fields() for part in row[0].split(".")]
    return sorted({name for table in tables for name in table} | set(fields))
