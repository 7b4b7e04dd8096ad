"""fnn.training.checkpoint: whole or not at all, and every damage is seen before anything is used."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.training import Checkpoint, CheckpointError, Checkpoints, CheckpointWarning
from fnn.training import checkpoint as module
from fnn.training.checkpoint import MANIFEST, examine

RNG = np.random.default_rng(0)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "train/params/dense1/kernel": rng.normal(size=(7, 5)).astype(np.float32),
        "train/optimizer/0/mu/dense1/kernel": rng.normal(size=(7, 5)).astype(np.float32),
        "meter/losses": rng.normal(size=3),
        "train/step": np.int32(seed),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints as they are on disk; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (10, 20):
        checkpoints.save(
            step, arrays(step), {"note": {"seconds": 0.1 + 0.2, "step": step, "nan": float("nan")}}
        )
    checkpoints.close()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of them."""
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def files(path):
    return sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())


# ---------------------------------------------------------------- saved and read


def test_what_is_read_is_what_was_saved_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "float32": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
        "bfloat16": np.asarray(jnp.arange(5, dtype=jnp.bfloat16) / 3),
        "float16": np.array([1 / 3], np.float16),
        "float64": np.array([1 / 3, 1e-320]),
        "int8": np.array([-128, 127], np.int8),
        "uint32/key": np.array([0, 2**32 - 1], np.uint32),
        "bool": np.array([True, False]),
        "complex64": np.array([1 + 2j], np.complex64),
        "scalar": np.array(7, np.int32),
        "a.b/é/~1 %": np.arange(3),
        "large": RNG.normal(size=(300, 200)).astype(np.float32),
    }
    checkpoints = Checkpoints(Path("checkpoints"))  # not absolute
    checkpoints.save(3, given, {"list": [1, 2.5, None], "é": "ü"})
    checkpoints.close()
    newest = checkpoints.newest()
    assert (newest.step, newest.info) == (3, {"list": [1, 2.5, None], "é": "ü"})
    found = newest.read()
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def test_the_manifest_lists_every_file_and_is_written_last(tmp_path, monkeypatch):
    seen, rename = [], os.rename

    def look(source, target):
        if Path(target).name == "5":
            body = json.loads((Path(source) / MANIFEST).read_text())
            there = [file.as_posix() for file in files(Path(source)) if file.name != MANIFEST]
            assert sorted(body["files"]) == there
            assert not Path(target).exists()
            seen.append(len(there))
        rename(source, target)

    monkeypatch.setattr(os, "rename", look)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(5, arrays(), {})
    checkpoints.close()
    assert len(seen) == 1
    assert seen[0] > 3
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]


def test_the_newest_stay_and_those_that_are_named(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step, best in ((1, []), (2, [2]), (3, [2]), (4, [2]), (5, [2])):
        checkpoints.save(step, {"a": np.ones(1)}, {}, best)
    checkpoints.close()
    assert checkpoints.steps() == [2, 4, 5]


def test_what_is_no_checkpoint_is_left_alone(folder):
    (folder / "10 by hand").mkdir()
    (folder / "0030").mkdir()
    (folder / "notes.txt").write_text("mine")
    for torn in (".25.saving", ".25.saving.orbax-checkpoint-tmp", ".5.removed"):
        (folder / torn).mkdir()
        (folder / torn / "half").write_text("half")
    assert Checkpoints(folder).newest().step == 20
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(30, arrays(), {})
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == ["0030", "10 by hand", "30", "notes.txt"]


def test_a_damaged_one_is_not_among_the_newest_that_stay(folder):
    (folder / "20" / MANIFEST).unlink()
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(25, arrays(), {})
    checkpoints.close()
    assert checkpoints.steps() == [10, 25]


@pytest.mark.parametrize("there", ["a folder", "a file"])
def test_a_damaged_one_is_written_again(folder, there):
    shutil.rmtree(folder / "20")
    (folder / "20").write_text("") if there == "a file" else (folder / "20").mkdir()
    assert isinstance(examine(folder / "20"), str)
    checkpoints = Checkpoints(folder)
    checkpoints.save(20, arrays(), {})
    checkpoints.close()
    assert checkpoints.newest().step == 20
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20"]


# ---------------------------------------------------------------- a save that fails


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["_save", "write_whole", "sync"])
def test_a_save_that_failed_is_raised_at_the_next_and_at_the_end(tmp_path, monkeypatch, broken):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, arrays(), {})
    checkpoints.wait()
    message = r"checkpoints: the checkpoint of step 2 could not be saved: .*No space left on device$"
    with monkeypatch.context() as patch:
        patch.setattr(module, broken, full)
        checkpoints.save(2, arrays(), {})  # returns at once
        with pytest.raises(CheckpointError, match=message):
            checkpoints.save(3, arrays(), {})
        checkpoints.save(2, arrays(), {})
        with pytest.raises(CheckpointError, match=message):
            checkpoints.close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    assert checkpoints.newest().step == 1


def test_a_failure_after_the_rename_is_raised_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "_prune", full)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, arrays(), {})
    with pytest.raises(CheckpointError, match=r"could not be saved: No space left on device$"):
        checkpoints.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, arrays(), {})
    with pytest.raises(
        CheckpointError, match=r"^\S+checkpoints: the checkpoint of step 1 could not be saved: "
    ):
        checkpoints.close()
    assert (tmp_path / "checkpoints").is_file()
    with pytest.raises(CheckpointError, match="cannot be read: Not a directory"):
        checkpoints.newest()


def test_a_save_waits_for_the_one_before_and_for_no_other(tmp_path, monkeypatch):
    gate, save = threading.Event(), module._save

    def slow(*arguments):
        gate.wait(30)
        save(*arguments)

    monkeypatch.setattr(module, "_save", slow)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, arrays(), {})
    assert checkpoints.newest() is None
    assert not gate.is_set()
    gate.set()
    checkpoints.close()
    assert checkpoints.newest().step == 1


def test_without_a_folder_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none").newest() is None
    assert Checkpoints(tmp_path / "none").steps() == []


# ---------------------------------------------------------------- damage


def truncated(file, other):
    file.write_bytes(file.read_bytes()[:-1])


def halved(file, other):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped_first(file, other):
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)


def flipped_middle(file, other):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 128
    file.write_bytes(data)


def flipped_last(file, other):
    data = bytearray(file.read_bytes())
    data[-1] ^= 4
    file.write_bytes(data)


def missing(file, other):
    file.unlink()


def empty(file, other):
    file.write_bytes(b"")


def appended(file, other):
    file.write_bytes(file.read_bytes() + b"\n")


def swapped(file, other):
    mine, others = file.read_bytes(), other.read_bytes()
    file.write_bytes(others)
    other.write_bytes(mine)


def a_folder(file, other):
    file.unlink()
    file.mkdir()


def unreadable(file, other):
    """A link to itself: not even root can read it."""
    file.unlink()
    file.symlink_to(file)


def a_pipe(file, other):
    """To open it is to wait for ever."""
    file.unlink()
    os.mkfifo(file)


DAMAGE = [
    truncated,
    halved,
    flipped_first,
    flipped_middle,
    flipped_last,
    missing,
    empty,
    appended,
    a_folder,
    unreadable,
    a_pipe,
]


def assert_detected(folder, name):
    """Checkpoint 20 is damaged in a file: this is said, and 10 taken."""
    said = examine(folder / "20")
    assert isinstance(said, str), name
    assert said.startswith((str(name), "it is of step")), f"{name}: {said}"
    assert "\n" not in said
    with pytest.warns(CheckpointWarning) as warned:
        assert Checkpoints(folder).newest().step == 10
    assert [str(w.message) for w in warned] == [f"{folder / '20'} is damaged: {said}"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_of_every_file_is_detected(saved, tmp_path, damage):
    names = files(saved / "20")
    assert len(names) >= 8
    for i, name in enumerate(names):
        folder = tmp_path / str(i)
        shutil.copytree(saved, folder)
        damage(folder / "20" / name, None)
        assert_detected(folder, name)


def test_files_of_one_checkpoint_that_changed_places_are_detected(saved, tmp_path):
    names = files(saved / "20")
    for i, name in enumerate(names):
        folder = tmp_path / str(i)
        shutil.copytree(saved, folder)
        swapped(folder / "20" / name, folder / "20" / names[i - 1])
        assert isinstance(examine(folder / "20"), str), name
        with pytest.warns(CheckpointWarning):
            assert Checkpoints(folder).newest().step == 10


def test_files_of_two_checkpoints_that_changed_places_are_detected(saved, tmp_path):
    """By their names; those that are named after nothing, by their order."""
    changed_places = 0
    for i, (one, two) in enumerate(zip(files(saved / "10"), files(saved / "20"), strict=False)):
        folder = tmp_path / str(i)
        shutil.copytree(saved, folder)
        if (folder / "10" / one).read_bytes() == (folder / "20" / two).read_bytes():
            continue  # names and shapes of the arrays, which are the same
        changed_places += 1
        swapped(folder / "10" / one, folder / "20" / two)
        with (
            pytest.warns(CheckpointWarning) as warned,
            pytest.raises(CheckpointError, match="no checkpoint is"),
        ):
            Checkpoints(folder).newest()
        assert len(warned) == 2
        assert files(folder) == sorted(
            [Path("10") / n for n in files(saved / "10")] + [Path("20") / n for n in files(saved / "20")]
        ), "nothing is deleted"
    assert changed_places >= 6


def leaves(tree, path=()):
    if not isinstance(tree, dict):
        yield path
    for key in tree if isinstance(tree, dict) else ():
        yield from leaves(tree[key], (*path, key))


def changed(value):
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return 1.5 if value != value else value + 1


def test_every_field_of_a_manifest_is_sealed(folder):
    file = folder / "20" / MANIFEST
    good = json.loads(file.read_text())
    fields = list(leaves(good))
    assert ("info", "note", "seconds") in fields
    for path in fields:
        for act in ("changed", "removed", "renamed", "null"):
            body = json.loads(json.dumps(good))
            *parents, last = path
            node = body
            for key in parents:
                node = node[key]
            value = node.pop(last)
            if act == "renamed":
                node[last + "x"] = value
            elif act != "removed":
                node[last] = changed(value) if act == "changed" else None
            file.write_text(json.dumps(body, indent=1))
            assert_detected(folder, MANIFEST)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "3", "null", '"x"', "{", "\x00", "[" * 100000, '{"sha256": 1}', "NaN", "\ufeff{}"],
)
def test_a_manifest_that_is_none_is_detected(folder, text):
    (folder / "20" / MANIFEST).write_text(text)
    assert_detected(folder, MANIFEST)


def test_a_manifest_of_the_same_meaning_and_other_bytes_is_detected(folder):
    file = folder / "20" / MANIFEST
    body = json.loads(file.read_text())
    for text in (
        json.dumps(body),
        json.dumps(body, indent=1) + "\n",
        json.dumps(body, indent=1, sort_keys=True),
    ):
        file.write_text(text)
        assert_detected(folder, MANIFEST)
    file.write_text(json.dumps(body, indent=1))
    assert isinstance(examine(folder / "20"), Checkpoint)


def test_a_manifest_of_another_format_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(module, "FORMAT", 2)
    assert examine(folder / "20") == "manifest.json is of format 1, and this version reads 2"


def test_folders_that_changed_places_or_names_are_detected(folder):
    (folder / "10").rename(folder / "x")
    (folder / "20").rename(folder / "10")
    (folder / "x").rename(folder / "20")
    with pytest.warns(CheckpointWarning), pytest.raises(CheckpointError) as caught:
        Checkpoints(folder).newest()
    assert str(caught.value) == (
        f"{folder}: no checkpoint is sound (20: it is of step 10; 10: it is of step 20); nothing was deleted"
    )
    (folder / "20").rename(folder / "30")
    (folder / "10").rename(folder / "20")
    with pytest.warns(CheckpointWarning, match=r"30 is damaged: it is of step 10"):
        assert Checkpoints(folder).newest().step == 20


def test_a_sound_one_is_taken_without_a_word(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(folder).newest().step == 20


def test_arrays_that_cannot_be_read_are_one_line(folder):
    """Damage after it was examined."""
    newest = Checkpoints(folder).newest()
    shutil.rmtree(folder / "20" / "ocdbt.process_0")
    (folder / "20" / "manifest.ocdbt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=rf"^{folder}/20: cannot be read: ") as caught:
        newest.read()
    assert "\n" not in str(caught.value)
