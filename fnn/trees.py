"""Trees of arrays by path: counts, patterns, hashes."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

KERNELS = "*/kernel"
"""The pattern that weight decay and the regulariser cover unless another is given."""


def paths(tree: Any) -> dict[str, Any]:
    """Every leaf of a nested dict by its path, in the order of the paths.

    Example:
        >>> import fnn
        >>> fnn.paths({"conv1": {"kernel": 1, "bias": 2}, "head": {"kernel": 3}})
        {'conv1/bias': 2, 'conv1/kernel': 1, 'head/kernel': 3}
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return dict(sorted((path_text(path), leaf) for path, leaf in flat))


def path_text(path: tuple[Any, ...]) -> str:
    """The path of a leaf, ``a/b``, from JAX's form of it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def from_paths(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict of leaves given by path: the inverse of `paths`.

    Example:
        >>> from fnn.trees import from_paths
        >>> from_paths({"conv1/kernel": 1, "conv1/bias": 2})
        {'conv1': {'kernel': 1, 'bias': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree


def split(patterns: Iterable[str], tree: Any) -> tuple[Any, Any]:
    """A nested dict in two: what no pattern fits, and what one does; `merge` puts them together.

    Example:
        >>> from fnn.trees import split
        >>> split(["features/**"], {"features": {"kernel": 0}, "head": {"kernel": 1}})
        ({'head': {'kernel': 1}}, {'features': {'kernel': 0}})
    """
    patterns = list(patterns)
    if not patterns:
        return tree, {}
    leaves = paths(tree)
    fitted = {path for path in leaves if any(matches(pattern, path) for pattern in patterns)}
    rest = from_paths({path: leaf for path, leaf in leaves.items() if path not in fitted})
    return rest, from_paths({path: leaf for path, leaf in leaves.items() if path in fitted})


def merge(one: Any, other: Any) -> Any:
    """The nested dict of the leaves of two: the inverse of `split`.

    Example:
        >>> from fnn.trees import merge
        >>> merge({"head": {"kernel": 1}}, {"features": {"kernel": 0}})
        {'features': {'kernel': 0}, 'head': {'kernel': 1}}
    """
    return from_paths(dict(sorted({**paths(one), **paths(other)}.items()))) if other else one


def count(tree: Any) -> int:
    """The number of values in all arrays of a tree.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.count({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)})
        16
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def matches(pattern: str, path: str) -> bool:
    """Whether a glob fits a path: ``*`` stands for any run of characters, ``/`` too.

    ``*/kernel`` fits a kernel at any depth, the root included.

    Example:
        >>> from fnn.trees import matches
        >>> [matches("*/kernel", path) for path in ("block1/conv2/kernel", "kernel", "conv1/bias")]
        [True, True, False]
        >>> matches("features/**", "features/conv1/bias")
        True
    """
    return fnmatchcase(path, pattern) or fnmatchcase("/" + path, pattern)


def first_match(patterns: Iterable[str], tree: Any, default: str | None = None) -> Any:
    """The same tree with each leaf replaced by the first pattern that fits its path.

    Args:
        patterns: Globs, see `matches`.
        tree: A nested dict.
        default: What stands where no pattern fits.

    Raises:
        ValueError: A pattern fits no path; the message shows the nearest paths.

    Example:
        >>> from fnn.trees import first_match
        >>> first_match(["head/*", "*"], {"conv1": {"kernel": 0}, "head": {"kernel": 0}})
        {'conv1': {'kernel': '*'}, 'head': {'kernel': 'head/*'}}
    """
    patterns = list(patterns)
    names = list(paths(tree))
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            raise ValueError(f"pattern {pattern!r} matches no parameter; nearest: {near(pattern, names)}")

    def label(path: tuple[Any, ...], _: Any) -> str | None:
        return next((p for p in patterns if matches(p, path_text(path))), default)

    return jax.tree_util.tree_map_with_path(label, tree)


def mask(pattern: str, tree: Any) -> Any:
    """The same tree of bools: which leaves the pattern covers.

    Raises:
        ValueError: The pattern fits no path.

    Example:
        >>> from fnn.trees import mask
        >>> mask("*/kernel", {"conv1": {"kernel": 0, "bias": 0}})
        {'conv1': {'bias': False, 'kernel': True}}
    """
    labels = first_match([pattern], tree, default="")
    return jax.tree.map(lambda label: label == pattern, labels)


def near(name: str, names: Iterable[str], most: int = 3) -> str:
    """The names most like ``name``, nearest first, as text."""
    known = [str(n) for n in names]
    close = difflib.get_close_matches(name, known, n=most, cutoff=0.0)
    return ", ".join(close) or "none"


def digest(params: Any, state: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of params and state, in path order.

    Two models with one digest are equal to the bit.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> fnn.digest({"kernel": jnp.ones(2)}, {}) == fnn.digest({"kernel": jnp.zeros(2)}, {})
        False
    """
    sha = hashlib.sha256()
    for path, value in paths({"params": params, "state": state}).items():
        array = np.asarray(value)
        sha.update(f"{path} {array.shape} {array.dtype}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
