"""benchmarks.predicting: the same photographs every time, and a report of all parts."""

from __future__ import annotations

import pytest
from PIL import Image

from benchmarks.predicting import SIZE, make, measure
from fnn.training.weights import save_weights


def test_the_photographs_are_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make(tmp_path / name, 3)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]
    assert len({file.read_bytes() for file in one}) == 3
    with Image.open(one[0]) as picture:
        assert picture.size == SIZE


@pytest.mark.slow
def test_every_part_is_measured(tmp_path):
    metadata = {
        "config": "model: [global_avg_pool]",
        "input": "[8, 8, 3]",
        "classes": '["red", "green", "blue"]',
        "preprocess": '{"size": [8, 8]}',
    }
    (tmp_path / "model.safetensors").write_bytes(save_weights({}, {}, metadata))
    (tmp_path / "pictures").mkdir()
    make(tmp_path / "pictures", 40)
    rows = measure(tmp_path / "model.safetensors", tmp_path / "pictures")
    names = ["decoding", "scaling", "the model", "all", "in a process", "the command"]
    assert [row[:12].strip() for row in rows] == names
    assert all(float(row[12:].split()[0]) > 0 for row in rows if not row.startswith("the model"))
