"""A choice in a config: a bare name, or one ``{name: arguments}``.

The arguments are the constructor's own, read from its signature: there is no second list.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

from fnn.trees import near

Path = tuple[str | int, ...]
Convert = Callable[[Any, Any, Path], Any]
"""``(annotation, value, path) -> argument``: what a YAML value means to a constructor."""


class ConfigError(ValueError):
    """A value in a config cannot be used; ``path`` says which."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def dotted(path: Path) -> str:
    """A path as an override writes it: ``model.0.conv``."""
    return ".".join(str(part) for part in path)


def read_choice(value: Any, path: Path) -> tuple[str, Any, Path]:
    """A choice's name, its arguments, and where these stand.

    Raises:
        ConfigError: The value is neither a name nor a mapping of one name.

    Example:
        >>> read_choice({"sgd": 0.1}, ("optimizer",))
        ('sgd', 0.1, ('optimizer', 'sgd'))
        >>> read_choice("relu", ("model", 1))
        ('relu', None, ('model', 1))
    """
    if isinstance(value, str):
        return value, None, path
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, arguments),) = value.items()
        return str(name), arguments, (*path, str(name))
    if isinstance(value, Mapping) and value:
        raise ConfigError(
            path, f"expected one name with its arguments, got {len(value)}: {', '.join(map(str, value))}"
        )
    raise ConfigError(path, f"expected a name or one {{name: arguments}}, got {shown(value)}")


def find(name: str, table: Mapping[str, Any], what: str, path: Path) -> Any:
    """What the table holds under a name, or an error with the nearest names."""
    if name not in table:
        raise ConfigError(path, f"unknown {what} {name!r}; nearest: {near(name, table)}")
    return table[name]


def call(constructor: Callable[..., Any], name: str, arguments: Any, path: Path, convert: Convert) -> Any:
    """Call a constructor with the arguments of a choice.

    A mapping gives arguments by name, a list the variable positional ones, anything else the
    first. Each is checked against the signature and turned by ``convert`` into what the
    annotation asks for.

    Raises:
        ConfigError: An argument is unknown, missing or refused, by ``convert`` or by the
            constructor itself.

    Example:
        >>> def conv(features: int, kernel: int = 3): return features, kernel
        >>> call(conv, "conv", {"features": 8, "kernal": 5}, ("model", 0, "conv"), plain)
        Traceback (most recent call last):
        fnn.choices.ConfigError: model.0.conv.kernal: unknown argument of conv; nearest: kernel, features
    """
    given = _by_name(constructor, name, arguments, path)
    hints = _hints(constructor)
    parameters = inspect.signature(constructor).parameters
    variable = next((p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    rest = next((p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for key, value in given.items():
        here = (*path, key) if isinstance(arguments, Mapping) else path
        if key == variable:
            items = value if isinstance(value, list) else [value]
            positional = [convert(hints.get(key), v, (*here, i)) for i, v in enumerate(items)]
        elif key in parameters and key != rest:
            keywords[key] = convert(hints.get(key), value, here)
        elif rest is not None:
            keywords[key] = convert(hints.get(rest), value, here)
        else:
            known = [p for p in parameters if p != variable]
            raise ConfigError(here, f"unknown argument of {name}; nearest: {near(key, known)}")
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and key not in (variable, rest)
        if required and key not in keywords:
            raise ConfigError(path, f"{name} needs {key!r}: {name}{_form(constructor)}")
    try:
        return constructor(*positional, **keywords)
    except ConfigError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:  # some divide by what they are given
        raise ConfigError(path, str(error) if name in str(error) else f"{name}: {error}") from error


def _by_name(constructor: Callable[..., Any], name: str, arguments: Any, path: Path) -> dict[str, Any]:
    if arguments is None:
        return {}
    if isinstance(arguments, Mapping):
        return {str(key): value for key, value in arguments.items()}
    first = next(iter(inspect.signature(constructor).parameters.values()), None)
    if first is None:
        raise ConfigError(path, f"{name} takes no arguments, got {shown(arguments)}")
    return {first.name: arguments}


def _form(constructor: Callable[..., Any]) -> inspect.Signature:
    """The signature to be shown: without types, and of a default only what a config could say."""
    parameters = inspect.signature(constructor).parameters.values()
    return inspect.Signature([p.replace(annotation=p.empty, default=_sayable(p.default)) for p in parameters])


def _sayable(default: Any) -> Any:
    yaml = default is None or isinstance(default, bool | int | float | str | list | tuple)
    return default if yaml or default is inspect.Parameter.empty else _Unsayable()


class _Unsayable:
    def __repr__(self) -> str:
        return "..."


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    target = constructor.__init__ if inspect.isclass(constructor) else constructor
    try:
        return typing.get_type_hints(inspect.unwrap(target))
    except NameError:  # annotations that only a type checker can resolve
        return {}


def plain(annotation: Any, value: Any, path: Path) -> Any:
    """A YAML value checked against an annotation by pydantic, strictly: ``"3"`` is no number.

    Raises:
        ConfigError: It is not what the annotation says.
    """
    if annotation is None or annotation is Any:
        return value
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        wanted = " or ".join(dict.fromkeys(_wanted(e) for e in error.errors()))
        raise ConfigError(path, f"expected {wanted}, got {shown(value)}") from None
    except TypeError as error:
        raise ConfigError(path, f"{shown(value)} cannot be used here: {error}") from None


def _wanted(error: Any) -> str:
    message: str = "more values" if error["type"] == "missing" else error["msg"]
    for start in ("Input should be ", "Value error, "):
        message = message.removeprefix(start)
    return message


def shown(value: Any) -> str:
    """A YAML value for a message, short."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
