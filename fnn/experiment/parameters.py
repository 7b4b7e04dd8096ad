"""Which parameters are trained, how fast, and what they are penalised for: patterns over their paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.choices import ConfigError, Path
from fnn.losses import l2_penalty
from fnn.trees import KERNELS, first_match, mask, matches, near, paths, split


def trained_part(freeze: list[str], params: Any, state: Any) -> Any:
    """The parameters that no pattern freezes, of arrays or shapes; a pattern may be for statistics alone.

    Raises:
        ConfigError: A pattern fits nothing, or all together fit every parameter.
    """
    known = [path.partition("/")[2] for path in paths({"params": params, "state": state})]
    for pattern in freeze:
        if not any(matches(pattern, path) for path in known):
            text = f"pattern {pattern!r} matches no parameter; nearest: {near(pattern, known)}"
            raise ConfigError(("train", "freeze"), text)
    trained, frozen = split(freeze, params)
    if frozen and not trained:
        raise ConfigError(("train", "freeze"), "covers every parameter: nothing is left to train")
    return trained


def rate_factors(rates: dict[str, float], trained: Any) -> Any:
    """What the updates of each parameter are multiplied by: of the first pattern that fits, else 1.

    Args:
        rates: By pattern; without one the result is None.
        trained: The parameters that are trained.

    Raises:
        ConfigError: A pattern fits none of them.
    """
    if not rates:
        return None
    for pattern in rates:
        try:
            mask(pattern, trained)
        except ValueError as error:
            raise ConfigError(("train", "rates", pattern), str(error)) from None
    return jax.tree.map(lambda pattern: rates.get(pattern, 1.0), first_match(rates, trained, default=""))


def make_penalty(l2: float | dict[str, float], params: Any, trained: Any) -> Callable[[Any], Array]:
    """The regulariser of the parameters that are trained, ``params -> scalar``.

    Raises:
        ConfigError: A pattern fits no parameter.
    """
    path: Path = ("train", "l2")
    strengths = l2 if isinstance(l2, dict) else {KERNELS: l2} if l2 else {}
    for pattern in strengths:
        try:
            mask(pattern, params)
        except ValueError as error:
            raise ConfigError((*path, pattern) if isinstance(l2, dict) else path, str(error)) from None
    labels = paths(first_match(strengths, params, default=""))
    labels = {path: labels[path] for path in paths(trained)}

    def penalty(params: Any) -> Array:
        total = jnp.zeros((), jnp.float32)
        for pattern, strength in strengths.items():
            covered = {path: leaf for path, leaf in paths(params).items() if labels.get(path) == pattern}
            if covered and strength:
                total += l2_penalty(covered, strength, "*")
        return total

    return penalty
