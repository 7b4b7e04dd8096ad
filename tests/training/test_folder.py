"""fnn.training.folder: the lowest free number, nothing overwritten by chance, every file whole."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from fnn.training import RunFolder
from fnn.training.folder import FolderError, to_json


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_name_it_is_the_lowest_free_number(here):
    assert [str(RunFolder.create(None, "digits").path) for _ in range(3)] == [
        "runs/digits-1",
        "runs/digits-2",
        "runs/digits-3",
    ]
    os.rmdir(here / "runs" / "digits-2")
    assert RunFolder.create(None, "digits").path.name == "digits-2"
    assert RunFolder.create(None, "digits").path.name == "digits-4"
    assert RunFolder.create(None, "mnist").path.name == "mnist-1"


def test_a_file_in_the_way_counts_as_taken(here):
    (here / "runs").mkdir()
    (here / "runs" / "digits-1").write_text("mine")
    assert RunFolder.create(None, "digits").path.name == "digits-2"
    assert (here / "runs" / "digits-1").read_text() == "mine"


def test_a_folder_is_made_with_those_above_it(here):
    assert RunFolder.create("a/b/c", "digits").path.is_dir()
    (here / "empty").mkdir()
    assert RunFolder.create(here / "empty", "digits").path == here / "empty"


def test_a_folder_with_something_in_it_is_refused(here):
    RunFolder.create("run", "digits").write("summary.json", "{}")
    with pytest.raises(FolderError, match=r"run exists and is not empty: choose another --out, --resume or"):
        RunFolder.create("run", "digits")
    assert (here / "run" / "summary.json").read_text() == "{}"


def test_to_overwrite_takes_the_old_run_away_and_nothing_else(here):
    old = RunFolder.create("run", "digits")
    for name in ("config.yaml", "metrics.jsonl", "summary.json", "model.safetensors"):
        old.write(name, "old")
    (here / "run" / "notes.txt").write_text("mine")
    (here / "run" / "checkpoints" / "10").mkdir(parents=True)
    old.close()
    new = RunFolder.create("run", "digits", overwrite=True)
    assert [file.name for file in new.path.iterdir()] == ["notes.txt"]
    new.append({"step": 1})
    assert (here / "run" / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_what_cannot_be_made_is_one_clear_line(here):
    (here / "file").write_text("")
    for out in ("file", "file/below"):
        with pytest.raises(FolderError, match=rf"^{out}: cannot be made: "):
            RunFolder.create(out, "digits")
    (here / "runs").write_text("")
    with pytest.raises(FolderError, match=r"^runs: cannot be made: "):
        RunFolder.create(None, "digits")


# ---------------------------------------------------------------- files


def test_text_and_bytes_are_written_and_replaced(here):
    folder = RunFolder.create("run", "digits")
    folder.write("config.yaml", "seed: 0 é\n")
    assert (here / "run" / "config.yaml").read_bytes() == "seed: 0 é\n".encode()
    folder.write("config.yaml", b"\x00\xff")
    assert (here / "run" / "config.yaml").read_bytes() == b"\x00\xff"
    assert [file.name for file in folder.path.iterdir()] == ["config.yaml"]
    assert (here / "run" / "config.yaml").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(here, monkeypatch, broken):
    folder = RunFolder.create("run", "digits")
    folder.write("summary.json", "old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(FolderError, match=r"^run/summary.json: cannot be written: No space left on device$"):
        folder.write("summary.json", "new" * 1000)
    assert (here / "run" / "summary.json").read_text() == "old"
    assert [file.name for file in folder.path.iterdir()] == ["summary.json"]


def test_the_old_file_is_whole_until_the_new_one_is(here, monkeypatch):
    folder = RunFolder.create("run", "digits")
    folder.write("summary.json", "old")
    seen, replace = [], os.replace

    def look(source, target):
        seen.append(((here / "run" / "summary.json").read_text(), Path(source).read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    folder.write("summary.json", "new")
    assert seen == [("old", "new")]
    assert (here / "run" / "summary.json").read_text() == "new"


def test_records_are_lines_of_json(here):
    folder = RunFolder.create("run", "digits")
    records = [{"step": 1, "loss": 0.5, "name": "é\nü"}, {"step": 2, "loss": float("nan")}]
    for record in records:
        folder.append(record)
    lines = (here / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [records[0], {"step": 2, "loss": None}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_has_not_become_null(value):
    text = to_json({"a": value, "b": [1.5, value, {"c": (value, "x")}]})
    assert json.loads(text) == {"a": None, "b": [1.5, None, {"c": [None, "x"]}]}


def test_other_values_keep_theirs():
    value = {"a": 1, "b": -0.25, "c": "NaN", "d": None, "e": True, "f": [], "g": 10**30}
    assert json.loads(to_json(value)) == value
    assert to_json({"a": {"b": 1}}, indent=2) == '{\n  "a": {\n    "b": 1\n  }\n}'


def test_what_is_no_json_is_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        to_json({"a": np.ones(2)})
