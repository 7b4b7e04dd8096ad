"""What is typed for a tree: its YAML, overrides after it, and text that is damaged."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

import fnn
from fnn import document
from fnn.optim.catalog import schedules, transformations
from fnn.registry import registry
from tests.fuzz.choices import JUNK, NUMBERS, TEXTS, choice
from tests.fuzz.trees import Tree, other_name, places


def written(tree: Tree) -> bytes:
    """The YAML text of a tree: as fnn writes it where it can, else as JSON, which is YAML too."""
    try:
        return document.write(tree).encode("utf-8", "surrogatepass")
    except Exception:  # whatever ruamel.yaml makes of a tree like this
        pass
    try:
        return _flow(tree).encode("utf-8", "surrogatepass")
    except RecursionError:  # deepened twice: deeper than Python can write
        reject()


def _flow(tree: Tree) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    if isinstance(tree, float):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(repr(tree), repr(tree))
    return json.dumps(tree, ensure_ascii=False)


# ---------------------------------------------------------------- overrides


PIECES = [
    "", "~", "[", "{", "[1", "{a: 1", "!!int 3", "&a 1", "*a", "- 1", "a: b: c", "|", "'", '"\\u2028"', "1_0",
    "0x10", "%", "---", "2020-01-01", "<<: 1", "1e400",
]  # fmt: skip
BROKEN = [
    "",
    "=",
    "==",
    "=3",
    "seed",
    ".=1",
    "a.b=",
    "model",
    "..=..",
    "a" + ".a" * 2000 + "=1",
    "\x00=1",
    "a=b=c",
]
INDICES = ["0", "-1", "99", "-0", "00", "1" * 30, "", "x"]


@st.composite
def overrides(draw: Any, tree: Tree) -> str:
    """``dotted.key=value``: a key that is there, or a field's, or one gone wrong; the value any YAML."""
    if draw(st.integers(0, 14)) == 0:
        return draw(st.sampled_from(BROKEN))
    there = [place for place in places(tree) if len(place) < 9]
    fields = [tuple(row[0].split(".")) for row in fnn.experiment.fields()]
    key = [str(part) for part in draw(st.sampled_from(there + fields))]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        i = draw(st.integers(0, len(key) - 1))
        new = draw(st.one_of(other_name(key[i]), st.sampled_from(INDICES)))
        key = [*key[:i], new, *key[i + draw(st.integers(0, 1)) :]]
    return f"{'.'.join(key)}={draw(fragments())}"


@st.composite
def fragments(draw: Any) -> str:
    """A piece of YAML, or what is nearly one."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.sampled_from(PIECES))
    if kind == 1:
        return draw(st.sampled_from(TEXTS))
    if kind == 2:
        return _flow(draw(st.sampled_from(NUMBERS)))
    table = draw(st.sampled_from([*registry.values(), transformations(), schedules()]))
    return _flow(draw(choice(table, 1)) if kind == 3 else draw(JUNK))


# ---------------------------------------------------------------- text

SNIPPETS = [
    "\t", "\n", "\r", "\x00", "\ufeff", "\u2028", "\x85", ":", "?", "#", "|", ">", "'", '"', "[", "]", "{",
    "}", ",", "~", "@", "`", "\\", "é", "\U0001f600", "- ", "  ", ": ", "&a ", "*a", "!!int ", "!x ", "null",
    "!!python/object:os.system ", "%YAML 1.1\n---\n", "---\n", "...\n", "<<: {a: 1}\n", "seed: 0\n",
    "true: 1\n", "1: 1\n", "1.5: 2\n", "[1]: 2\n", "{a: 1}: 2\n", "\n\n  - relu\n", "9" * 5000, "1" * 60,
    "1e999", "0.1e-400", "0x" + "f" * 400, "0o8", "1_000", "2020-01-01", ".nan", "-.inf", "a: 1\n",
    "[" * 2000, "[" * 80 + "]" * 80, "{a: " * 400, "- " * 1500,
]  # fmt: skip


@st.composite
def damaged(draw: Any, text: bytes) -> bytes:
    """A text with bytes flipped, cut out, put in or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(text)))
        j = draw(st.integers(i, min(len(text), i + 40)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            text = text[:i] + bytes([draw(st.integers(0, 255))]) + text[i + 1 :]
        elif kind == 1:
            text = text[:i] + text[j:]
        elif kind == 2:
            text = text[:i]
        elif kind == 3:
            text = text[:j] + text[i:]
        elif kind == 4:
            text = text[:i] + draw(st.sampled_from(string.printable)).encode() + text[i:]
        else:
            start = text.rfind(b"\n", 0, i) + 1 if draw(st.booleans()) else i
            text = text[:start] + draw(st.sampled_from(SNIPPETS)).encode() + text[start:]
    return text
