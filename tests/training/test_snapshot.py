"""fnn.training.snapshot: any tree of arrays by name, and back to the bit."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn.training import CheckpointError
from fnn.training.snapshot import below, put, take


class Pair(NamedTuple):
    one: object
    other: object


def tree(seed=0):
    key = jax.random.key(seed)
    return {
        "params": {"dense1": {"kernel": jax.random.normal(key, (3, 2)), "bias": jnp.zeros(2, jnp.bfloat16)}},
        "optimizer": (Pair(jnp.int32(seed), optax.MaskedNode()), [jnp.array([True]), None]),
        "key": jax.random.fold_in(key, 1),
        "keys": jax.random.split(key, 3),
        "old": jax.random.PRNGKey(seed),
        "nothing": jnp.zeros((0, 4)),
        "empty": {},
    }


def plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def test_a_tree_is_put_back_to_the_bit():
    given = tree(7)
    back = put(take(given), tree(0))
    assert jax.tree.structure(back) == jax.tree.structure(given)
    for new, old in zip(jax.tree.leaves(back), jax.tree.leaves(given), strict=True):
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
        assert not getattr(new, "weak_type", False)
        assert plain(new).tobytes() == plain(old).tobytes()
    np.testing.assert_array_equal(jax.random.normal(back["key"], 3), jax.random.normal(given["key"], 3))


def test_names_read_like_the_tree_and_arrays_are_plain():
    taken = take(tree())
    assert set(taken) == {
        "params/dense1/kernel",
        "params/dense1/bias",
        "optimizer/0/one",
        "optimizer/1/0",
        "key",
        "keys",
        "old",
    }
    assert all(type(array) is np.ndarray for array in taken.values())


def test_what_becomes_of_the_tree_does_not_change_what_was_taken():
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.arange(1000.0)
    taken = take({"x": x})
    for _ in range(3):
        x = step(x)
    np.testing.assert_array_equal(taken["x"], np.arange(1000.0))
    taken = take({"x": (mine := np.zeros(3))})
    mine += 1
    assert taken["x"].tolist() == [0, 0, 0]


def test_two_leaves_of_one_name_are_no_tree_to_save():
    with pytest.raises(AssertionError):
        take({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}})


def test_every_difference_is_listed():
    arrays = take({"a": jnp.ones(2), "b": jnp.ones((2, 3)), "c": jnp.ones(1)})
    example = {"a": jnp.ones(2, jnp.int32), "b": jnp.ones((3, 2)), "d": jnp.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        put(arrays, example)
    assert str(caught.value) == (
        "is of another model or optimizer: missing d; unknown c; "
        "a: expected int32[2], got float32[2]; b: expected float32[3, 2], got float32[2, 3]"
    )


def test_below_is_what_begins_with_the_name():
    assert below("a", {"a/b": 1, "ab/c": 2, "a/c/d": 3, "a": 4}) == {"b": 1, "c/d": 3}
