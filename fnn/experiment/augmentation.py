"""An augmentation from a config's list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn.choices import ConfigError, Path, call, find, plain, read_choice
from fnn.data import Augmentation, Paired, compose
from fnn.registry import registry


def build_augmentation(
    choices: list[Any],
    shape: tuple[int, ...],
    targets: tuple[int, ...] | None = None,
    path: Path = ("data", "augment"),
) -> Augmentation | None:
    """One augmentation of a list of choices; None: the list is empty.

    Args:
        choices: What comes first, and what after it.
        shape: Of a batch of inputs.
        targets: Of a batch of targets, where they are pictures, too.
        path: Where the list stands.

    Raises:
        ConfigError: An augmentation or an argument is unknown or refused, or the inputs do not fit one.

    Example:
        >>> augment = build_augmentation(["flip", {"one_of": [{"mixup": 0.2}, "cutmix"]}], (8, 4, 4, 3))
        >>> build_augmentation(["flip"], (8, 5))
        Traceback (most recent call last):
        fnn.choices.ConfigError: data.augment: flip: expected images (batch, height, width, channels), got the
            shape (8, 5)
    """
    if not choices:
        return None
    augment = compose(_augmentations(choices, path))
    images: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
    if targets is not None:
        larger: Any = jax.ShapeDtypeStruct(targets, jnp.float32)
        images = Paired(images, larger)
    try:
        jax.eval_shape(augment, jax.random.key(0), images)
    except ValueError as error:
        raise ConfigError(path, str(error)) from None
    return augment


def _augmentations(choices: list[Any], above: Path) -> list[Augmentation]:
    found = []
    for i, choice in enumerate(choices):
        name, arguments, path = read_choice(choice, (*above, i))
        constructor = find(name, registry["augment"], "augmentation", path)
        found.append(call(constructor, name, arguments, path, _convert))
    return found


def _convert(annotation: Any, value: Any, path: Path) -> Any:
    """What a YAML value means to an augmentation's constructor: others, or what it says."""
    if annotation != Sequence[Augmentation]:
        return plain(annotation, value, path)
    return _augmentations(plain(list[str | dict[str, Any]], value, path), path)
