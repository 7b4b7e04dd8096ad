"""A choice in a config: what is called with which arguments, and what a mistake says."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from fnn.choices import ConfigError, Path, call, dotted, find, plain, read_choice, shown

HERE: Path = ("model", 0, "it")


def build(
    features: int,
    kernel: int | Sequence[int] = 3,
    *,
    padding: Literal["SAME", "VALID"] = "SAME",
    bias: bool = True,
) -> Any:
    return features, kernel, padding, bias


def join(*parts: int, **named: int) -> Any:
    return parts, named


def activated(features: int, activation: Any = print, pool: int = 2) -> Any:
    return features, activation, pool


def nothing() -> str:
    return "nothing"


def widths(features: Sequence[int]) -> Any:
    return list(features)


def picky(rate: float) -> float:
    if not 0 <= rate <= 1:
        raise ValueError(f"picky: rate must lie in 0..1, got {rate}")
    if rate == 0.5:
        raise TypeError("no half measures")
    return rate


class Source:
    def __init__(self, path: str, rows: int = 5) -> None:
        self.path, self.rows = path, rows


def error_of(run: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as error:
        run()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("relu", ("relu", None, ("model",))),
        ({"conv": {"features": 8}}, ("conv", {"features": 8}, ("model", "conv"))),
        ({"dense": 10}, ("dense", 10, ("model", "dense"))),
        ({"resnet18": None}, ("resnet18", None, ("model", "resnet18"))),
        ({3: 4}, ("3", 4, ("model", "3"))),
    ],
)
def test_a_choice_is_a_name_or_one_name_with_arguments(value: Any, choice: Any) -> None:
    assert read_choice(value, ("model",)) == choice


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"conv": 1, "dense": 2}, "model.1: expected one name with its arguments, got 2: conv, dense"),
        ({}, "model.1: expected a name or one {name: arguments}, got {}"),
        (3, "model.1: expected a name or one {name: arguments}, got 3"),
        (None, "model.1: expected a name or one {name: arguments}, got null"),
        (["relu"], 'model.1: expected a name or one {name: arguments}, got ["relu"]'),
    ],
)
def test_what_is_no_choice(value: Any, message: str) -> None:
    assert error_of(lambda: read_choice(value, ("model", 1))) == message


def test_find_shows_the_nearest_names() -> None:
    table = {"adam": 1, "adamw": 2, "sgd": 3}
    assert find("adamw", table, "optimizer", ()) == 2
    message = error_of(lambda: find("adamm", table, "optimizer", ("optimizer",)))
    assert re.fullmatch(
        r"optimizer: unknown optimizer 'adamm'; nearest: adam, adamw, sgd|.*adamw, adam, sgd", message
    )


@pytest.mark.parametrize(
    ("constructor", "arguments", "result"),
    [
        (build, {"features": 8, "kernel": [3, 5], "bias": False}, (8, (3, 5), "SAME", False)),
        (build, {"features": 8, "padding": "VALID"}, (8, 3, "VALID", True)),
        (build, 8, (8, 3, "SAME", True)),
        (widths, [8, 4], [8, 4]),
        (widths, {"features": [8]}, [8]),
        (join, [1, 2], ((1, 2), {})),
        (join, 1, ((1,), {})),
        (join, {"parts": 1}, ((1,), {})),
        (join, {"parts": [1, 2], "head": 3}, ((1, 2), {"head": 3})),
        (join, None, ((), {})),
        (nothing, None, "nothing"),
        (nothing, {}, "nothing"),
        (picky, 1, 1.0),
    ],
)
def test_arguments_are_those_of_the_signature(constructor: Any, arguments: Any, result: Any) -> None:
    got = call(constructor, constructor.__name__, arguments, HERE, plain)
    if constructor is build:
        got = (got[0], tuple(got[1]) if isinstance(got[1], Sequence) else got[1], *got[2:])
    assert got == result


def test_a_class_is_called_with_the_arguments_of_its_init() -> None:
    source = call(Source, "Source", {"path": "x.csv", "rows": 7}, HERE, plain)
    assert (source.path, source.rows) == ("x.csv", 7)
    assert error_of(lambda: call(Source, "Source", {"path": 3}, HERE, plain)).startswith(
        "model.0.it.path: expected "
    )


def test_convert_gets_annotation_value_and_place_of_each_argument() -> None:
    seen = []

    def convert(annotation: Any, value: Any, path: Path) -> Any:
        seen.append((annotation, value, dotted(path)))
        return value

    call(join, "join", {"parts": [1, 2], "head": 3}, HERE, convert)
    call(picky, "picky", 1, HERE, convert)
    assert seen == [
        (int, 1, "model.0.it.parts.0"),
        (int, 2, "model.0.it.parts.1"),
        (int, 3, "model.0.it.head"),
        (float, 1, "model.0.it"),
    ]


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        (
            build,
            {"features": 8, "kernal": 5},
            "model.0.it.kernal: unknown argument of build; nearest: kernel, ",
        ),
        (build, {"kernel": 5}, "model.0.it: build needs 'features': build(features, "),
        (build, None, "model.0.it: build needs 'features': "),
        (
            activated,
            None,
            "model.0.it: activated needs 'features': activated(features, activation=..., pool=2)",
        ),
        (build, {"features": "8"}, "model.0.it.features: expected a valid integer, got '8'"),
        (build, "8", "model.0.it: expected a valid integer, got '8'"),
        (
            build,
            {"features": 8, "padding": "same"},
            "model.0.it.padding: expected 'SAME' or 'VALID', got 'same'",
        ),
        (build, {"features": 8, "bias": 1}, "model.0.it.bias: expected a valid boolean, got 1"),
        (nothing, 3, "model.0.it: nothing takes no arguments, got 3"),
        (nothing, {"x": 3}, "model.0.it.x: unknown argument of nothing; nearest: none"),
        (picky, 2.0, "model.0.it: picky: rate must lie in 0..1, got 2.0"),
        (picky, 0.5, "model.0.it: picky: no half measures"),
        (join, [1, "x"], "model.0.it.1: expected a valid integer, got 'x'"),
        (join, {"head": "x"}, "model.0.it.head: expected a valid integer, got 'x'"),
        (join, {"parts": [1, "x"]}, "model.0.it.parts.1: expected a valid integer, got 'x'"),
        (join, {"parts": "12"}, "model.0.it.parts.0: expected a valid integer, got '12'"),
    ],
)
def test_a_mistake_says_where_what_and_the_nearest(constructor: Any, arguments: Any, message: str) -> None:
    found = error_of(lambda: call(constructor, constructor.__name__, arguments, HERE, plain))
    assert found.startswith(message)


def test_an_error_deeper_in_a_choice_keeps_its_own_place() -> None:
    def refuse(annotation: Any, value: Any, path: Path) -> Any:
        raise ConfigError((*path, "deeper"), "no")

    assert error_of(lambda: call(picky, "picky", {"rate": 1}, HERE, refuse)) == "model.0.it.rate.deeper: no"


@pytest.mark.parametrize(
    ("annotation", "value", "result"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float | None, None, None),
        (bool, True, True),
        (str, "3", "3"),
        (Sequence[int], [1, 2], [1, 2]),
        (tuple[int, int], [1, 2], (1, 2)),
        (int | Sequence[int], 3, 3),
        (Literal["a", "b"], "b", "b"),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (None, "anything", "anything"),
        (Any, {"x": [1]}, {"x": [1]}),
    ],
)
def test_plain_takes_what_the_annotation_says(annotation: Any, value: Any, result: Any) -> None:
    got = plain(annotation, value, HERE)
    assert got == result
    assert type(got) is type(result)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "3"),
        (int, 3.5),
        (int, True),
        (float, "1e-3"),
        (bool, "true"),
        (bool, 0),
        (str, 3),
        (Sequence[int], 3),
        (tuple[int, int], [1, 2, 3]),
        (tuple[int, int], [1]),
        (Literal["a", "b"], "c"),
        (float | None, "none"),
        (str, datetime.date(2020, 1, 1)),
    ],
)
def test_plain_converts_nothing_silently(annotation: Any, value: Any) -> None:
    message = error_of(lambda: plain(annotation, value, HERE))
    assert message.startswith("model.0.it: ")
    assert shown(value) in message


def test_errors_show_their_place_if_they_have_one() -> None:
    assert str(ConfigError(("a", 1, "b"), "no")) == "a.1.b: no"
    assert str(ConfigError((), "no")) == "no"


def test_shown_is_short() -> None:
    assert shown("a'b") == '"a\'b"'
    assert shown({"a": None}) == '{"a": null}'
    assert len(shown(list(range(100)))) == 60
    assert shown(list(range(100))).endswith("...")


def test_a_constructor_that_divides_by_zero_is_a_mistake_in_the_config() -> None:
    def share(parts: int) -> float:
        return 1 / parts

    with pytest.raises(ConfigError, match=r"^loss\.share: share: division by zero$"):
        call(share, "share", {"parts": 0}, ("loss", "share"), plain)
