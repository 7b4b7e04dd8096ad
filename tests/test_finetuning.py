"""docs/finetuning.md: what it shows is what a config takes."""

from __future__ import annotations

import re
from pathlib import Path

import fnn
from fnn import document
from fnn.experiment import check, read

ROOT = Path(fnn.__file__).parents[1]
PAGE = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")


def test_each_line_of_yaml_is_a_section():
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    shown = [line for block in blocks for line in block.splitlines()]
    assert len(shown) == 3
    for line in shown:
        assert check({"model": ["relu"], **document.parse(line, "page").tree})


def test_what_is_shown_is_in_the_config():
    shown = document.parse(re.search(r"^init_from: .*$", PAGE, re.M)[0], "page").tree
    experiment = read(ROOT / "configs" / "finetune_squeezenet.yaml")
    assert experiment.init_from.replace == [shown["init_from"]["replace"]]
    assert experiment.init_from.path == str(ROOT / "data" / "squeezenet1_0.safetensors")
    assert experiment.data.path == str(ROOT / "data" / "shapes")
