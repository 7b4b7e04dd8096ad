"""Which parameters a transformation sees, and the patterns that pick among them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import optax

from fnn.choices import ConfigError, Path, shown
from fnn.optim.arguments import construct, meaning
from fnn.optim.catalog import members
from fnn.optim.clock import Clock
from fnn.trees import KERNELS, count, first_match, matches, paths
from fnn.trees import mask as pattern_mask

_NOT_A_DECAY = {"mechanize"}
"""Here ``weight_decay`` regularises the learned scale of the updates and shrinks no parameter."""


@dataclass(frozen=True)
class Scope:
    """Where a transformation stands.

    Attributes:
        spec: The parameters that it sees, as shapes and dtypes; ``optax.MaskedNode`` in the place of
            those that it does not see, as optax has it; under ``flatten`` one vector.
        model: All parameters of the model.
        clock: How many updates it makes in a run and in an epoch.
    """

    spec: Any
    model: Any
    clock: Clock

    @property
    def flat(self) -> bool:
        """Whether all parameters are one vector without names."""
        return isinstance(self.spec, jax.ShapeDtypeStruct)

    def flattened(self) -> Scope:
        """The scope under ``flatten``."""
        dtype = jax.numpy.result_type(*(leaf.dtype for leaf in jax.tree.leaves(self.spec)))
        vector = jax.ShapeDtypeStruct((count(self.spec),), dtype)
        return replace(self, spec=vector)

    def only(self, keep: Any) -> Scope:
        """The scope of those parameters where ``keep``, a tree of bools, is true."""
        pruned = jax.tree.map(lambda k, leaf: leaf if k else optax.MaskedNode(), keep, self.spec)
        return replace(self, spec=pruned)


def mask(value: Any, path: Path, scope: Scope) -> Any:
    """The tree of bools that a glob over the tree's paths, or one bool for all, stands for.

    Raises:
        ConfigError: The pattern fits no parameter; the message shows the nearest paths.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> spec = fnn.spec({"dense1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}})
        >>> mask("*/kernel", ("mask",), Scope(spec, spec, Clock(run=10, epoch=5)))
        {'dense1': {'bias': False, 'kernel': True}}
    """
    if isinstance(value, bool):
        return jax.tree.map(lambda _: value, scope.spec)
    if not isinstance(value, str):
        raise ConfigError(path, f"expected a pattern such as '{KERNELS}', true or false, got {shown(value)}")
    if scope.flat:
        raise ConfigError(path, f"flatten makes one vector of all parameters: no pattern fits, got {value!r}")
    try:
        return pattern_mask(value, scope.spec)
    except ValueError as error:
        raise ConfigError(path, str(error)) from None


def labels(patterns: list[str], path: Path, scope: Scope) -> Any:
    """The tree of the first pattern that fits each parameter.

    Raises:
        ConfigError: A pattern fits no parameter, or a parameter is fitted by none.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> spec = fnn.spec({"dense1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}})
        >>> labels(["*/bias", "*"], (), Scope(spec, spec, Clock(run=10, epoch=5)))
        {'dense1': {'bias': '*/bias', 'kernel': '*'}}
    """
    for pattern in patterns:
        mask(pattern, (*path, pattern), scope)
    found = first_match(patterns, scope.spec, default="")
    if left := [name for name, label in paths(found).items() if not label]:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ConfigError(path, f"no pattern covers {left[0]}{more}; expected a last pattern '*'")
    return found


def axes(value: Any, path: Path, scope: Scope, parameter: inspect.Parameter) -> Any:
    """The tree of dimension numbers (muon, galore) from ``{pattern: {reduction_axis, output_axis}}``.

    Parameters that no pattern fits are left out, as optax has it, with None.
    """
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(path, f"expected {{pattern: {{reduction_axis, output_axis}}}}, got {shown(value)}")
    numbers = next(m for m in members(parameter.annotation) if issubclass(m, tuple))
    hints = typing.get_type_hints(numbers)

    def read(p: inspect.Parameter) -> Any:
        return meaning(p.replace(annotation=hints[p.name], default=None), scope.clock)

    found: dict[str, Any] = {"": None}
    for pattern, given in value.items():
        mask(pattern, (*path, str(pattern)), scope)
        found[pattern] = construct(numbers, numbers, (numbers.__name__, given, (*path, pattern)), read)
    return jax.tree.map(found.__getitem__, first_match(list(value), scope.spec, default=""))


def decay_masks(
    name: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any], path: Path, scope: Scope
) -> dict[str, Any]:
    """The masks that keep a weight decay to the kernels, where no other is given.

    Raises:
        ConfigError: The decay takes no mask, and would cover other parameters too.
    """
    masks: dict[str, Any] = {}
    for key, parameter in parameters.items():
        amount = given.get(key, parameter.default)
        unused = amount is None or (isinstance(amount, int | float) and amount == 0)
        if "weight_decay" not in key or key.endswith("_mask") or unused or name in _NOT_A_DECAY:
            continue
        names = ("weight_decay_mask", "mask") if key.startswith("weight_decay") else ()
        taken = next((m for m in names if m in parameters), None)
        if taken is not None and given.get(taken) is not None:
            continue
        here = (*path, key) if key in given else path
        covers = f"{key} covers '{KERNELS}' alone, and {name}"
        if scope.flat:
            raise ConfigError(here, f"{covers} sees no names under flatten; expected 0, {_OUTSIDE}")
        kernels = _kernels(scope.spec)
        if taken is not None:
            masks[taken] = kernels
        elif not all(jax.tree.leaves(kernels)):
            raise ConfigError(here, f"{covers} has no mask for it; expected 0, {_BEFORE}")
    return masks


_OUTSIDE = "with {add_decayed_weights: ...} outside of flatten"
_BEFORE = (
    "with {add_decayed_weights: ...} before it in a chain, "
    f"or a multi_transform in which it is for '{KERNELS}' and the same with 0 for '*'"
)


def _kernels(tree: Any) -> Any:
    found = any(matches(KERNELS, name) for name in paths(tree))
    return pattern_mask(KERNELS, tree) if found else jax.tree.map(lambda _: False, tree)
