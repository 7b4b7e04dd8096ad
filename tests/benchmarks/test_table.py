"""Rows, ratios and tables."""

from __future__ import annotations

import pytest

from benchmarks.table import machine, make_row, markdown, table

TIMES = {
    "fnn": [1.0, 2.0, 4.0],
    "linen": [2.0, 8.0, 12.0],
    "haiku": [9.0, 9.0, 9.0],
    "torch": [0.5, 1.0, 2.0],
}
SETTING = ("lenet", "float32", "dispatched")


def rows():
    return [
        *(make_row(SETTING, peer, TIMES) for peer in TIMES),
        make_row(("lenet", "float32", "scanned"), "fnn", TIMES),
        make_row(("lenet", "float32", "scanned"), "nnx", {**TIMES, "nnx": [3.0]}, "> 60 s"),
    ]


def test_the_ratio_is_taken_round_by_round():
    row = make_row(SETTING, "linen", TIMES)
    assert row == {
        "job": "lenet",
        "dtype": "float32",
        "mode": "dispatched",
        "peer": "linen",
        "ms_per_step": 8.0,
        "spread": (2.0, 12.0),
        "ratio_to_fnn": 3.0,
        "note": "",
    }


@pytest.mark.parametrize("note", ["logits differ by 0.3 of the largest", "> 60 s"])
def test_a_note_stands_in_place_of_figures(note):
    row = make_row(SETTING, "linen", TIMES, note)
    assert (row["ms_per_step"], row["spread"], row["ratio_to_fnn"], row["note"]) == (None, None, None, note)


def test_without_fnn_there_is_no_ratio():
    row = make_row(SETTING, "linen", {"linen": [2.0], "fnn": []})
    assert (row["ms_per_step"], row["ratio_to_fnn"]) == (2.0, None)


def test_the_table_marks_the_best_of_each_kind():
    text = table(rows())
    assert text.splitlines() == [
        "lenet  float32  dispatched",
        "  peer              ms/step                spread  ratio to fnn",
        "  fnn                 2.000         1.000 – 4.000          1.00",
        "  linen               8.000         2.000 – 12.00          3.00  best JAX peer",
        "  haiku               9.000         9.000 – 9.000          4.50",
        "  torch               1.000        0.5000 – 2.000          0.50  best PyTorch peer",
        "",
        "lenet  float32  scanned",
        "  peer              ms/step                spread  ratio to fnn",
        "  fnn                 2.000         1.000 – 4.000          1.00",
        "  nnx             > 60 s",
    ]


def test_markdown_is_one_table():
    lines = markdown(rows()).splitlines()
    assert len(lines) == 2 + len(rows())
    assert {line.count("|") for line in lines} == {9}
    assert "| lenet | float32 | dispatched | linen | 8.000 | 2.000 – 12.00 | 3.00 | best JAX peer |" in lines


def test_the_machine_names_cores_and_versions():
    text = machine(["fnn"])
    assert "cores" in text and "jax " in text and "optax " in text
