"""The one registry of what a config can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from fnn.layer import Layer

Group = Literal["layer", "source", "augment", "loss", "metric", "logger"]
T = TypeVar("T")

registry: dict[str, dict[str, Any]] = {
    "layer": {},
    "source": {},
    "augment": {},
    "loss": {},
    "metric": {},
    "logger": {},
}
"""By group and name, what ``register`` was given: a constructor, or a value such as ``fnn.relu``."""


@overload
def register(item: T, /) -> T: ...
@overload
def register(*, group: Group) -> Callable[[T], T]: ...
def register(item: Any = None, /, *, group: Group = "layer") -> Any:
    """Make a layer, model, data source, augmentation, loss, metric or logger known to configs by its name.

    A function is known by its own name, a layer value by its kind. Bare, as
    ``@fnn.register``, it registers a layer or model; ``@fnn.register(group="source")``
    says what else it is.

    Raises:
        ValueError: The name is taken by something else, or the group is unknown.

    Example:
        >>> import fnn
        >>> @fnn.register
        ... def bottleneck(features: int) -> fnn.Layer:
        ...     return fnn.serial(fnn.conv(features // 4, 1), fnn.relu, fnn.conv(features, 3))
    """
    if item is None:
        return lambda decorated: _add(decorated, group)
    return _add(item, group)


def _add(item: Any, group: str) -> Any:
    if group not in registry:
        raise ValueError(f"register: group must be one of {', '.join(registry)}, got {group!r}")
    name = item.kind if isinstance(item, Layer) else item.__name__
    known = registry[group].setdefault(name, item)
    if known is not item and (isinstance(item, Layer) or _home(known) != _home(item)):
        raise ValueError(f"register: {group} {name!r} is taken by {_home(known)}")
    registry[group][name] = item
    return item


def _home(item: Any) -> str:
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', '')}"
