"""fnn.table: columns stand one below the other."""

from __future__ import annotations

from fnn.table import table


def test_columns_are_as_wide_as_their_longest_cell_and_the_last_row_is_below_a_rule():
    text = table(
        ("name", "kind", "n"), [("a", "conv", "1"), ("block/b", "", "1,000")], ("total", "", "1,001"), 2
    )
    assert text.splitlines() == [
        "name     kind      n",
        "─" * 20,
        "a        conv      1",
        "block/b        1,000",
        "─" * 20,
        "total          1,001",
    ]
