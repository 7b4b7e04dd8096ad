"""fnn.commands.predictions: what other programs read, read by their libraries; what people read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from fnn.commands.predict import Guess, Prediction
from fnn.commands.predictions import as_json, as_table, write_csv

FOUND = [
    Prediction(Path("a.jpg"), (Guess(281, 'tabby, "tabby" cat', 0.75), Guess(7, "×", 0.125))),
    Prediction(Path("b.jpg"), error="b.jpg: expected a whole picture, found half"),
    Prediction(Path("c, d.jpg"), (Guess(7, "two\nlines", 1.0),)),
]


def test_json_is_a_list_of_what_was_found():
    cat = {"class": 281, "name": 'tabby, "tabby" cat', "probability": 0.75}
    assert json.loads(as_json(FOUND)) == [
        {"path": "a.jpg", "top": [cat, {"class": 7, "name": "×", "probability": 0.125}]},
        {"path": "b.jpg", "error": "b.jpg: expected a whole picture, found half"},
        {"path": "c, d.jpg", "top": [{"class": 7, "name": "two\nlines", "probability": 1.0}]},
    ]


def test_csv_has_a_row_for_each_class_and_for_each_error():
    stream = io.StringIO()
    write_csv(FOUND, stream)
    head, *rows = csv.reader(io.StringIO(stream.getvalue()))
    assert head == ["path", "rank", "class", "name", "probability", "error"]
    assert rows == [
        ["a.jpg", "1", "281", 'tabby, "tabby" cat', "0.75", ""],
        ["a.jpg", "2", "7", "×", "0.125", ""],
        ["b.jpg", "", "", "", "", "b.jpg: expected a whole picture, found half"],
        ["c, d.jpg", "1", "7", "two\nlines", "1.0", ""],
    ]


def test_csv_is_written_row_by_row():
    stream = io.StringIO()

    def predictions():
        yield FOUND[0]
        assert stream.getvalue().count("\n") == 3
        yield FOUND[1]

    write_csv(predictions(), stream)


def test_the_table_holds_no_line_breaks_but_its_own_and_nothing_that_drives_a_terminal():
    hostile = Prediction(Path("x\x1b[2J.jpg"), (Guess(0, "a\n\x1b]0;title\x07b", 0.5),))
    assert as_table([FOUND[0], FOUND[1], hostile]).splitlines() == [
        "picture    name                class  probability",
        "─────────────────────────────────────────────────",
        'a.jpg      tabby, "tabby" cat    281      75.00 %',
        "           ×                       7      12.50 %",
        "x�[2J.jpg  a �]0;title�b           0      50.00 %",
    ]
