"""A tree of arrays as plain arrays by name, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.training.checkpoint import CheckpointError
from fnn.trees import path_text, paths


def take(tree: Any) -> dict[str, np.ndarray]:
    """Copies of all arrays of a tree on the host, by path: what becomes of the tree does not change them.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.training.snapshot import take
        >>> take({"dense1": {"bias": jnp.zeros(2)}})
        {'dense1/bias': array([0., 0.], dtype=float32)}
    """
    leaves = paths(jax.tree.map(_plain, tree))
    assert len(leaves) == len(jax.tree.leaves(tree))
    return {name: np.array(leaf) for name, leaf in leaves.items() if np.size(leaf)}


def put(arrays: dict[str, np.ndarray], example: Any) -> Any:
    """The tree that was taken.

    Args:
        arrays: From `take`.
        example: A tree of the same structure.

    Raises:
        CheckpointError: An array is missing, unknown, or of another shape or type; all are listed.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.training.snapshot import put, take
        >>> example = {"bias": jnp.zeros(2)}
        >>> put(take(example), example)
        {'bias': Array([0., 0.], dtype=float32)}
    """
    wanted = {name: _form(leaf) for name, leaf in take(example).items()}
    found = {name: _form(array) for name, array in arrays.items()}
    problems = [f"missing {name}" for name in wanted if name not in found]
    problems += [f"unknown {name}" for name in found if name not in wanted]
    problems += [
        f"{name}: expected {form}, got {found[name]}"
        for name, form in wanted.items()
        if name in found and form != found[name]
    ]
    if problems:
        raise CheckpointError("is of another model or optimizer: " + "; ".join(problems))

    def restored(path: tuple[Any, ...], leaf: Any) -> Any:
        array = arrays.get(path_text(path))
        if array is None:  # without a value
            return leaf
        return (
            jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else array
        )

    return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(restored, example))


def below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with ``prefix/``, less that.

    Example:
        >>> from fnn.training.snapshot import below
        >>> below("meter", {"meter/losses": 1, "train/step": 2})
        {'losses': 1}
    """
    begin = prefix + "/"
    return {name.removeprefix(begin): array for name, array in arrays.items() if name.startswith(begin)}


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"
