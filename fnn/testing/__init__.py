"""The laws that every layer keeps, to hold your own layers to.

`check_layer` runs them all, `LAWS` holds them by name. A law's docstring says what is promised; a layer that
breaks it gets an ``AssertionError`` that names the law and what differed.
"""

from __future__ import annotations

from typing import Any

from fnn.layer import Key, Layer
from fnn.testing import forms, gradients, transforms, values
from fnn.testing.law import LAWS, Law

__all__ = ["LAWS", "Law", "check_layer", "forms", "gradients", "transforms", "values"]


def check_layer(layer: Layer, x: Any, *, key: Key | None = None) -> None:
    """Hold a layer to every law.

    Args:
        layer: Any layer; a container or a whole model too.
        x: An input of two or more examples. A small one will do: the layer is compiled some twenty times.
        key: What parameters and noise are drawn from; by default ``jax.random.key(0)``.

    Raises:
        AssertionError: A line for each law that the layer breaks.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> from fnn.testing import check_layer
        >>> check_layer(fnn.flatten, jnp.ones((2, 3, 4)))
        >>> check_layer(fnn.fn(lambda x: x - x.mean(0, keepdims=True)), jnp.array([[1.0], [3.0]]))
        Traceback (most recent call last):
        AssertionError: rows_are_independent: row by row: y differs by 1, more than 1e-05
    """
    broken = []
    for law in LAWS.values():
        try:
            law(layer, x, key)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))
