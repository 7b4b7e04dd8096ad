"""README.md: its commands, its code, its configs and its links are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fnn
from fnn.experiment import build, read

ROOT = Path(fnn.__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def blocks(language):
    return [code for name, code in BLOCKS if name == language]


def test_the_first_code_block_is_the_two_commands():
    assert BLOCKS, "the README has no code block"
    language, code = BLOCKS[0]
    assert language == "bash"
    assert code.splitlines() == [
        "pip install -e . && python train.py configs/digits_cnn.yaml",
        "pip install -e '.[test]' && pytest",
    ]


def test_the_python_blocks_run_in_order(capsys):
    assert blocks("python"), "the README shows no Python"
    namespace = {"__name__": "readme"}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), namespace)
    shown = re.search(r"test accuracy (\d+\.\d) %", capsys.readouterr().out)
    assert shown, "the README's program says no test accuracy"
    assert 95.0 < float(shown[1]) <= 100.0


def test_the_yaml_blocks_are_configs_that_build(tmp_path):
    assert blocks("yaml"), "the README shows no config"
    for code in blocks("yaml"):
        (tmp_path / "shown.yaml").write_text(code)
        parts = build(read(tmp_path / "shown.yaml"))
        assert fnn.count(parts.params) > 0


def test_the_commands_shown_name_configs_and_overrides_that_are_read():
    commands = re.findall(r"^(?:python train\.py|fnn \w+) (configs/\S+)(.*)$", TEXT, flags=re.MULTILINE)
    assert commands
    for config, rest in commands:
        overrides = [word for word in rest.split() if "=" in word and not word.startswith("-")]
        assert build(read(ROOT / config, overrides)).steps_per_epoch > 0


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_is_listed_with_the_result_that_its_head_says(file):
    rows = [line for line in TEXT.splitlines() if line.startswith("|") and f"configs/{file.name}" in line]
    assert len(rows) == 1
    head = re.search(
        r"^# Expected: (.+?)(?: % \(.*\))?\. .*?(\d+ s|no time)\.$", file.read_text(), flags=re.MULTILINE
    )
    assert head, "its head says no result"
    *_, result, seconds, _ = rows[0].split("|")
    assert (result.strip(), seconds.strip()) == head.groups()


def test_the_first_figure_is_that_of_digits_cnn():
    head = re.search(
        r"^# Expected: ([\d.]+) ", (ROOT / "configs/digits_cnn.yaml").read_text(), flags=re.MULTILINE
    )
    first = re.search(r"\*\*([\d.]+) %", TEXT)
    assert head
    assert first
    assert first[1] == head[1]


def test_no_figure_is_missing():
    assert re.findall(r"@\w+@", TEXT) == []


def test_every_link_leads_to_a_file():
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
    assert targets
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []
