"""A model from a config's list of layers."""

from __future__ import annotations

import types
import typing
from typing import Any

from fnn.choices import ConfigError, Path, call, find, plain, read_choice, shown
from fnn.combine import serial
from fnn.layer import Layer, LayerError, named
from fnn.layers import INITIALIZERS
from fnn.layers.initializers import Initializer
from fnn.registry import registry


def build_model(config: Any, path: Path = ("model",)) -> Layer:
    """A layer from a choice, or a serial of a list of choices.

    Raises:
        ConfigError: A layer or an argument is unknown or refused.

    Example:
        >>> model = build_model([{"conv": {"features": 8, "kernel": 3, "name": "stem"}}, "relu"])
        >>> [name for name, _ in model.children]
        ['stem', 'relu1']
    """
    if isinstance(config, list):
        layers = [build_model(layer, (*path, i)) for i, layer in enumerate(config)]
        try:
            return serial(*layers)
        except LayerError as error:
            raise ConfigError(path, str(error)) from None
    name, arguments, here = read_choice(config, path)
    return _layer(name, arguments, here)


def _layer(kind: str, arguments: Any, path: Path) -> Layer:
    entry = find(kind, registry["layer"], "layer", path)
    own = None
    if isinstance(arguments, dict) and "name" in arguments:
        arguments = dict(arguments)
        own = plain(str, arguments.pop("name"), (*path, "name"))
    if isinstance(entry, Layer):
        if arguments not in (None, {}):
            raise ConfigError(path, f"{kind} takes no arguments, got {shown(arguments)}")
        layer = entry
    else:
        layer = call(entry, kind, arguments, path, _convert)
    if own is None:
        return layer
    try:
        return named(own, layer)
    except LayerError as error:
        raise ConfigError((*path, "name"), str(error)) from None


def _convert(annotation: Any, value: Any, path: Path) -> Any:
    """What a YAML value means to a layer's constructor."""
    kinds = _members(annotation)
    if Layer in kinds:
        return None if value is None and types.NoneType in kinds else build_model(value, path)
    if _is_initializer(annotation) and isinstance(value, dict):
        name, arguments, here = read_choice(value, path)
        constructor = find(name, INITIALIZERS, "initializer", path)
        return call(constructor, name, arguments, here, _convert_number)
    if _is_initializer(annotation):
        find(plain(str, value, path), INITIALIZERS, "initializer", path)
    return plain(annotation, value, path)


def _convert_number(annotation: Any, value: Any, path: Path) -> Any:
    """What a YAML value means to one of JAX's initialisers: a number, axes, or one of a few words."""
    words = any(typing.get_origin(member) is typing.Literal for member in _members(annotation))
    return plain(annotation if words else int | float | list[int], value, path)


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return typing.get_args(annotation)
    return (annotation,)


def _is_initializer(annotation: Any) -> bool:
    return Initializer in _members(annotation)
