"""Trees by path: counts, patterns and hashes, against values worked out by hand."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnn.trees import count, digest, first_match, from_paths, mask, matches, merge, near, paths, split

TREE = {
    "head": {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)},
    "features": {"conv2": {"kernel": np.ones((3, 3, 1, 4))}, "conv10": {"kernel": np.ones((3, 3, 4, 4))}},
}

names = st.text("abcz_-09", min_size=1, max_size=3)
trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=8
)


def test_paths_are_sorted_and_lead_to_the_leaves() -> None:
    found = paths(TREE)
    assert list(found) == ["features/conv10/kernel", "features/conv2/kernel", "head/bias", "head/kernel"]
    assert found["head/kernel"] is TREE["head"]["kernel"]
    assert list(paths({"a": {"b": 1}, "a-c": 2})) == ["a-c", "a/b"]  # by the whole path, as text
    assert paths({}) == {}
    assert paths({"a": {}}) == {}


@given(st.dictionaries(names, trees, max_size=3))
def test_from_paths_is_the_inverse_of_paths(tree: dict[str, Any]) -> None:
    assert from_paths(paths(tree)) == tree


def test_a_tree_is_split_by_patterns_and_merged_again() -> None:
    tree = {"a": {"kernel": 1, "bias": 2}, "b": {"kernel": 3}}
    assert split(["a/**"], tree) == ({"b": {"kernel": 3}}, {"a": {"kernel": 1, "bias": 2}})
    assert split(["*/bias", "b/*"], tree) == ({"a": {"kernel": 1}}, {"a": {"bias": 2}, "b": {"kernel": 3}})
    assert split(["*"], tree) == ({}, tree)
    assert split([], tree) == (tree, {})
    for patterns in (["a/**"], ["*/bias", "b/*"], ["*"], [], ["c"]):
        assert merge(*split(patterns, tree)) == tree


def test_count_is_the_number_of_values() -> None:
    assert count(TREE) == 6 + 2 + 36 + 144
    assert count({"scalar": np.float32(1), "empty": np.zeros((0, 4))}) == 1
    assert count({}) == 0
    assert count(jax.ShapeDtypeStruct((2**31, 2**31, 2**31), np.float32)) == 2**93  # beyond int64


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*/kernel", "a/b/kernel", True),
        ("*/kernel", "kernel", True),
        ("*/kernel", "a/kernels", False),
        ("*/kernel", "a/mykernel", False),
        ("features/**", "features/conv1/bias", True),
        ("features/*", "features/conv1/bias", True),
        ("features/*", "features", False),
        ("features/*", "block/features/conv1", False),
        ("conv[12]/*", "conv1/bias", True),
        ("conv[12]/*", "conv3/bias", False),
        ("conv?/bias", "conv1/bias", True),
        ("Conv1/bias", "conv1/bias", False),
        ("head", "head/bias", False),
        ("*", "anything/at/all", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_matches(pattern: str, path: str, fits: bool) -> None:
    assert matches(pattern, path) == fits


def test_the_first_pattern_that_fits_wins() -> None:
    patterns = ["features/conv2/*", "*/kernel"]
    assert first_match(patterns, TREE, default="rest") == {
        "head": {"kernel": "*/kernel", "bias": "rest"},
        "features": {"conv2": {"kernel": "features/conv2/*"}, "conv10": {"kernel": "*/kernel"}},
    }
    assert first_match(reversed([*patterns, "*"]), TREE)["features"]["conv2"]["kernel"] == "*"


def test_a_pattern_that_fits_nothing_shows_the_nearest_paths() -> None:
    with pytest.raises(
        ValueError, match=r"^pattern 'head/kernal' matches no parameter; nearest: head/kernel, "
    ):
        first_match(["*", "head/kernal"], TREE)
    with pytest.raises(ValueError, match=r"^pattern 'block/\*' matches no parameter; nearest: "):
        mask("block/*", TREE)
    with pytest.raises(ValueError, match=r"nearest: none$"):
        mask("*", {})


def test_mask_says_which_leaves_a_pattern_covers() -> None:
    assert mask("*/kernel", TREE) == {
        "head": {"kernel": True, "bias": False},
        "features": {"conv2": {"kernel": True}, "conv10": {"kernel": True}},
    }
    assert mask("head/bias", TREE)["head"] == {"kernel": False, "bias": True}


def test_near_puts_the_nearest_first() -> None:
    assert near("convv", ["dense", "conv", "conv_transpose"]) == "conv, conv_transpose, dense"
    assert near("conv", ["a", "b", "c", "d"]).count(",") == 2
    assert near("conv", ["conv", "cnn"], most=1) == "conv"
    assert near("x", []) == "none"


def test_digest_is_sha256_over_names_shapes_dtypes_and_bytes() -> None:
    kernel, mean = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32)
    sha = hashlib.sha256()
    sha.update(b"params/dense1/kernel (2, 3) float32\n" + kernel.tobytes())
    sha.update(b"state/norm/mean (3,) float32\n" + mean.tobytes())
    assert digest({"dense1": {"kernel": kernel}}, {"norm": {"mean": mean}}) == sha.hexdigest()


def test_digest_changes_with_name_place_shape_dtype_and_byte() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    nudged = value.copy()
    nudged.view(np.uint32)[1, 2] ^= 1
    variants = [
        ({"kernel": value}, {}),
        ({"bias": value}, {}),
        ({"layer": {"kernel": value}}, {}),
        ({}, {"kernel": value}),
        ({"kernel": value.reshape(3, 2)}, {}),
        ({"kernel": value.T.reshape(2, 3)}, {}),
        ({"kernel": value.view(np.int32)}, {}),
        ({"kernel": nudged}, {}),
        ({"kernel": value, "bias": value}, {}),
        ({"kernel": -0.0 * value}, {}),
        ({"kernel": 0.0 * value}, {}),
        ({}, {}),
    ]
    assert len({digest(*variant) for variant in variants}) == len(variants)


def test_digest_ignores_the_order_of_dicts_the_layout_of_memory_and_where_arrays_live() -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    one = digest({"a": a, "b": {"c": b, "d": a}}, {"e": b})
    assert digest({"b": {"d": a, "c": b}, "a": a}, {"e": b}) == one
    assert digest({"a": np.asfortranarray(a), "b": {"c": b, "d": a}}, {"e": b}) == one
    assert digest({"a": jnp.asarray(a), "b": {"c": jnp.asarray(b), "d": a}}, {"e": b}) == one


def test_digest_takes_bfloat16_and_scalars() -> None:
    half = jnp.asarray([1.0, 2.0], jnp.bfloat16)
    sha = hashlib.sha256(b"params/x (2,) bfloat16\n" + bytes([0x80, 0x3F, 0x00, 0x40]))
    assert digest({"x": half}, {}) == sha.hexdigest()
    sha = hashlib.sha256(b"state/n () int32\n" + (7).to_bytes(4, "little"))
    assert digest({}, {"n": jnp.asarray(7, jnp.int32)}) == sha.hexdigest()
