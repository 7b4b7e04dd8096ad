"""Examples: configs and overrides as no careful user would write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.choices import layers
from tests.fuzz.texts import damaged, overrides, written
from tests.fuzz.trees import trees


@dataclass(frozen=True)
class Example:
    """What is typed: a config's text, and the overrides after it."""

    text: bytes
    overrides: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = self.text.decode("utf-8", "backslashreplace")
        return f"--- config\n{shown}\n--- overrides\n" + "\n".join(map(repr, self.overrides))


@st.composite
def examples(draw: Any) -> Example:
    """A config of any of these kinds, with overrides or without."""
    right = draw(st.integers(0, 9)) < 6  # as far as a signature says what is right
    tree = draw(trees(right))
    text = written(tree)
    if not right and draw(st.integers(0, 4)) == 0:
        text = draw(damaged(text))
    many = draw(st.sampled_from([0, 0, 0, 1] if right else [0, 0, 1, 2, 3]))
    return Example(text, tuple(draw(overrides(tree)) for _ in range(many)))


@st.composite
def misfits(draw: Any) -> Example:
    """Layers with right arguments in any order, so that the shapes between them need not fit."""
    shape = draw(st.sampled_from([[8, 8, 1], [5, 7, 3], [4], [1, 1, 2], [6, 6, 4]]))
    source = {"synthetic": {"shape": shape, "classes": 3, "size": 20}}
    model = draw(layers(2, junk=False, most=6))
    return Example(written({"data": {"source": source}, "model": model, "train": {"batch_size": 8}}))
