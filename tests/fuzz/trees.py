"""Configs as trees: shipped and hand-made ones, with fresh choices in them and mutated."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import fnn
from fnn import document
from fnn.optim.catalog import schedules, transformations
from fnn.registry import registry
from tests.fuzz.choices import JUNK, NUMBERS, TEXTS, choice, layers, names, optimizers

CONFIGS = Path(fnn.__file__).parents[1] / "configs"
STARTS = Path(__file__).parent / "starts"
TABLE, PICTURES = "goals_2013_2017.csv", "pictures"
"""They lie beside every config that is checked: a table, and a folder of two pictures of 48 x 48."""

Tree = Any
Place = tuple[Any, ...]


@functools.cache
def starts() -> list[Tree]:
    """Every shipped config on little data, and the hand-made ones."""
    found = [document.read(file).tree for file in sorted(CONFIGS.glob("*.yaml"))]
    found = [tree for tree in found if "init_from" not in tree]  # without that file it is nothing else
    for tree in found:
        source = tree["data"]["source"]
        if source == "mnist":
            tree["data"]["source"] = {"synthetic": {"shape": [28, 28, 1], "size": 16}}
        elif "super_resolution" in source:
            source["super_resolution"] |= {"path": PICTURES, "test": PICTURES, "tile": 48}
        tree["train"] |= {"epochs": 1, "batch_size": 8 if source != "digits" else 128}
    return [*found, *(document.read(file).tree for file in sorted(STARTS.glob("*.yaml")))]


@st.composite
def trees(draw: Any, right: bool) -> Tree:
    """A start, or one with fresh choices in it, changed in up to five places."""
    tree = copy.deepcopy(draw(st.sampled_from(starts())))
    for section, fresh in FRESH.items():
        if draw(st.integers(0, 2 if section in ("model", "optimizer") else 7)) == 0:
            _put(tree, tuple(section.split(".")), draw(fresh(not right)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1] if right else [0, 1, 1, 2, 3]))):
        tree = draw(mutated(tree))
    return tree


FRESH: dict[str, Callable[[bool], st.SearchStrategy[Any]]] = {
    "model": lambda junk: st.builds(operator.add, layers(2, junk), st.sampled_from(ENDS)),
    "optimizer": lambda junk: optimizers(2, junk),
    "loss": lambda junk: choice(registry["loss"], 0, junk),
    "metrics": lambda junk: st.lists(choice(registry["metric"], 0, junk), max_size=2),
    "data.source": lambda junk: choice(registry["source"], 0, junk) if junk else SYNTHETIC,
    "data.augment": lambda junk: st.lists(choice(registry["augment"], 1, junk), max_size=2),
}
ENDS: list[list[Any]] = [[], *[["flatten", {"dense": 10}]] * 4, ["flatten", {"dense": 1}]]
SYNTHETIC = st.builds(
    lambda shape, size: {"synthetic": {"shape": shape, "classes": 3, "size": size}},
    st.sampled_from([[8, 8, 1], [5, 7, 3], [4], [1, 1, 2], [6, 6, 4]]),
    st.integers(1, 30),
)


def _put(tree: Tree, place: Place, value: Any) -> None:
    for key in place[:-1]:
        tree = tree.setdefault(key, {})
    tree[place[-1]] = value


def places(tree: Tree, here: Place = ()) -> list[Place]:
    """Every key and index below the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = []
    for key, below in items:
        found += [(*here, key), *places(below, (*here, key))]
    return found


@st.composite
def mutated(draw: Any, tree: Tree) -> Tree:
    """The same tree with one thing wrong, or only otherwise."""
    everywhere = places(tree)
    if not everywhere:
        return draw(JUNK)
    tree = copy.deepcopy(tree)
    *above, key = draw(st.sampled_from(everywhere))
    parent = functools.reduce(lambda node, k: node[k], above, tree)
    draw(st.sampled_from(CHANGES))(draw, parent, key)
    return tree


def _delete(draw: Any, parent: Any, key: Any) -> None:
    del parent[key]


def _junk(draw: Any, parent: Any, key: Any) -> None:
    parent[key] = draw(JUNK)


def _rename(draw: Any, parent: Any, key: Any) -> None:
    """A key, or a name, with a typo, or another name that is known somewhere."""
    if isinstance(parent, dict):
        items = [(draw(other_name(k)) if k == key else k, value) for k, value in parent.items()]
        parent.clear()
        parent.update(items)
    elif isinstance(parent[key], str):
        parent[key] = draw(other_name(parent[key]))


def _wrap(draw: Any, parent: Any, key: Any) -> None:
    parent[key] = draw(
        st.sampled_from([[parent[key]], {"serial": [parent[key]]}, {"a": parent[key]}, str(parent[key])])
    )


def _number(draw: Any, parent: Any, key: Any) -> None:
    """A number of the same kind, but far off."""
    kind = type(parent[key])
    if kind in (int, float):
        parent[key] = draw(st.sampled_from([number for number in NUMBERS if type(number) is kind]))
    elif kind is bool:
        parent[key] = not parent[key]


def _deepen(draw: Any, parent: Any, key: Any) -> None:
    """The same value, deep down."""
    kind = draw(st.sampled_from(["serial", "chain", "remat", ""]))
    for _ in range(draw(st.sampled_from([2, 15, 40, 70, 150, 300]))):
        parent[key] = {kind: [parent[key]]} if kind else [parent[key]]


def _duplicate(draw: Any, parent: Any, key: Any) -> None:
    if isinstance(parent, list):
        parent.insert(draw(st.integers(0, len(parent))), copy.deepcopy(parent[key]))


def _reorder(draw: Any, parent: Any, key: Any) -> None:
    if isinstance(parent, list):
        parent.insert(draw(st.integers(0, len(parent))), parent.pop(key))


def _insert(draw: Any, parent: Any, key: Any) -> None:
    if isinstance(parent, list):
        parent.insert(key, draw(choice(registry["layer"], 1)))
    else:
        parent[draw(st.sampled_from(names()))] = draw(JUNK)


def _swap(draw: Any, parent: Any, key: Any) -> None:
    """Another choice of some kind in its place."""
    tables = [*registry.values(), transformations(), schedules()]
    parent[key] = draw(choice(draw(st.sampled_from(tables)), 1))


Change = Callable[[Any, Any, Any], None]
CHANGES: list[Change] = [
    _delete, _junk, _junk, _rename, _wrap, _deepen, _duplicate, _reorder, _insert, _swap,
    _number, _number, _number,
]  # fmt: skip


def other_name(name: Any) -> st.SearchStrategy[str]:
    """A name with a typo, or another one that is known somewhere, or none at all."""
    text = str(name)
    cut = st.integers(0, max(0, len(text) - 1))
    return st.one_of(
        cut.map(lambda i: text[:i] + text[i + 1 :]),
        cut.map(lambda i: text[:i] + "x" + text[i:]),
        st.sampled_from(names()),
        st.sampled_from(TEXTS),
    )
