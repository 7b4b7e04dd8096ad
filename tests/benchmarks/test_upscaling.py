"""benchmarks.upscaling: the same photograph every time, and a report of all parts."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from benchmarks.upscaling import draw, measure
from fnn.pretrained import shipped


def test_the_photograph_is_the_same_every_time(tmp_path):
    one, two = (draw(tmp_path / name, 0.01).read_bytes() for name in ("one.png", "two.png"))
    assert one == two
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (116, 87)


@pytest.mark.slow
def test_every_part_is_measured(tmp_path):
    rows = measure(shipped(2), draw(tmp_path / "in.png", 0.01))
    assert rows[0] == "116 × 87 to 232 × 174, compiled before:"
    found = [re.match(r"  (.{12})  *([\d.]+) s by the clock, *([\d.]+) s of processors", row) for row in rows]
    names = ["reading", "enlarging", "writing", "all", "a tiny one", "the picture", "once more"]
    assert [match[1].strip() for match in found if match] == names
    peaks = [int(match[1]) for row in rows if (match := re.search(r"(\d+) MiB", row))]
    assert len(peaks) == 3
    assert all(100 < peak < 2000 for peak in peaks)
