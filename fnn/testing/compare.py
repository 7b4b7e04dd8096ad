"""How laws compare what they got: the first difference is an ``AssertionError`` of one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.layer import Params, State, spec
from fnn.trees import paths


def close(what: str, got: Any, wanted: Any, *, tolerance: float = 1e-5, least: float = 1.0) -> None:
    """Every array is the wanted one, up to the tolerance times its largest value, ``least`` at the least."""
    alike(what, spec(got), spec(wanted))
    for path, (a, b) in _pairs(got, wanted):
        a, b = a.astype(np.float64), b.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        off = np.abs(np.subtract(a, b, where=~same, out=np.zeros_like(a))).max(initial=0.0)
        allowed = tolerance * np.abs(b).max(initial=least)
        if not off <= allowed:
            raise AssertionError(f"{what}: {path} differs by {off:.4g}, more than {allowed:.4g}")


def equal(what: str, got: Any, wanted: Any) -> None:
    """Every array is the wanted one, to the bit."""
    alike(what, spec(got), spec(wanted))
    if different := differences(got, wanted):
        raise AssertionError(f"{what}: not the same: {', '.join(different)}")


def differences(got: Any, wanted: Any) -> list[str]:
    """The paths of arrays that are not the same to the bit, in two trees of one structure."""
    return [path for path, (a, b) in _pairs(got, wanted) if a.tobytes() != b.tobytes()]


def alike(what: str, got: Any, wanted: Any, *, weak: bool = False) -> None:
    """The same paths, and at each the same shape and dtype; if asked, also weakly typed or not."""

    def form(leaf: Any) -> str:
        weakly = " (weakly typed)" if weak and leaf.weak_type else ""
        return f"{leaf.dtype.name}{list(leaf.shape)}{weakly}"

    there, expected = ({path: form(leaf) for path, leaf in paths(tree).items()} for tree in (got, wanted))
    for path in {**expected, **there}:
        is_there, should = there.get(path, "missing"), expected.get(path, "nothing")
        if is_there != should:
            raise AssertionError(f"{what}: {path} is {is_there}, expected {should}")


def of_dtype(what: str, tree: Any, dtype: Any) -> None:
    """Every floating-point array is of this dtype."""
    for path, leaf in paths(tree).items():
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != dtype:
            raise AssertionError(f"{what}: {path} is {leaf.dtype.name}, expected {jnp.dtype(dtype).name}")


def stack(trees: list[Any]) -> Any:
    """Many trees as one, with a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def outcome(passed: tuple[Any, State]) -> dict[str, Any]:
    """What ``apply`` gives, by name."""
    return {"y": passed[0], "state": passed[1]}


def made(new: tuple[Params, State]) -> dict[str, Any]:
    """What ``init`` gives, by name."""
    return {"params": new[0], "state": new[1]}


def _pairs(got: Any, wanted: Any) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    others = paths(wanted)
    return ((path, (np.asarray(leaf), np.asarray(others[path]))) for path, leaf in paths(got).items())
