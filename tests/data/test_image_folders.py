"""Pictures in class folders and in tables: what is found, in which order, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fnn.data import DataError, OnDisk, Preprocessing, image_folder

RNG = np.random.default_rng(0)


def save(file: Path, shape: tuple[int, ...] = (6, 6, 3)) -> np.ndarray:
    """A picture of noise, written without loss."""
    pixels = RNG.integers(0, 256, shape, np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes in three parts, with much beside them that is no picture."""
    folder = tmp_path / "pets"
    for name in ("train/dog/2.png", "train/dog/10.PNG", "train/cat/deeper/b.bmp", "train/cat/a.png"):
        save(folder / name)
    for name in ("val/cat/1.png", "test/dog/1.png", "test/cat/1.tiff"):
        save(folder / name)
    (folder / "readme.txt").write_text("pets")
    (folder / ".hidden").mkdir()
    (folder / "train/dog/Thumbs.db").write_bytes(b"")
    (folder / "train/cat/.a.png").write_bytes(b"not a picture")
    save(folder / "train/.ipynb_checkpoints/1.png")
    save(folder / "train/cat/.trash/1.png")
    return folder


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("stream", [False, True])
def test_class_folders_are_read_to_the_byte_in_the_order_of_their_names(root, stream):
    data = image_folder(root, size=6, stream=stream)
    assert data.classes == ("cat", "dog")
    files = ("cat/a.png", "cat/deeper/b.bmp", "dog/10.PNG", "dog/2.png")
    np.testing.assert_array_equal(data.train.inputs[:], [pixels(root / "train" / name) for name in files])
    assert data.train.targets.tolist() == [0, 0, 1, 1]
    assert data.validation.targets.tolist() == [0]
    np.testing.assert_array_equal(data.test.inputs[:][1], pixels(root / "test/dog/1.png"))
    assert data.test.targets.tolist() == [0, 1]
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.uint8, np.int32)
    assert isinstance(data.train.inputs, OnDisk) == stream


def test_without_parts_all_pictures_are_the_training_part(root):
    data = image_folder(root / "train", size=6)
    assert (len(data.train), data.validation, data.test) == (4, None, None)
    assert data.hold_out(0.5, seed=0).validation.targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"size": 8}, Preprocessing((8, 8), short_side=8)),
        ({"size": (4, 8), "channels": 1}, Preprocessing((4, 8), 1, short_side=8)),
        ({"size": (4, 8), "resize": "stretch"}, Preprocessing((4, 8))),
    ],
)
def test_pictures_are_prepared_as_the_data_set_says(tmp_path, arguments, wanted):
    picture = save(tmp_path / "a/1.png", (20, 30, 3))
    data = image_folder(tmp_path, **arguments)
    assert data.preprocessing == wanted
    if wanted.channels == 1:
        picture = np.asarray(Image.fromarray(picture).convert("L"))[..., None]
    np.testing.assert_array_equal(data.train.inputs[0], wanted.prepare(picture))


def test_a_set_stays_on_disk_where_it_takes_more_than_a_quarter_of_the_memory(root, monkeypatch):
    size = 7 * 6 * 6 * 3
    monkeypatch.setattr("fnn.data.image_folders.device_memory", lambda: 4 * size)
    assert isinstance(image_folder(root, size=6).train.inputs, np.ndarray)
    monkeypatch.setattr("fnn.data.image_folders.device_memory", lambda: 4 * size - 1)
    assert isinstance(image_folder(root, size=6).test.inputs, OnDisk)
    monkeypatch.setattr("fnn.data.files.memory", lambda: size - 1)
    with pytest.raises(DataError, match=f"pets: expected at most the {size - 1} bytes of .* found {size}"):
        image_folder(root, size=6, stream=False)


TABLE = "label,path,split\ndog,train/dog/2.png,train\ncat,train/cat/a.png,train\ndog,test/dog/1.png,val\n"


def test_a_table_says_the_class_and_the_part_of_each(root):
    table = root / "pets.CSV"
    table.write_text(TABLE + f"cat,{root / 'test/cat/1.tiff'},test\n", encoding="utf-8")
    data = image_folder(table, size=6)
    assert data.classes == ("cat", "dog")
    names = ("train/dog/2.png", "train/cat/a.png")
    np.testing.assert_array_equal(data.train.inputs, [pixels(root / name) for name in names])
    assert data.train.targets.tolist() == [1, 0]
    assert data.validation.targets.tolist() == [1]
    np.testing.assert_array_equal(data.test.inputs[0], pixels(root / "test/cat/1.tiff"))
    table.write_text("path,label\ntrain/dog/2.png,7\ntrain/cat/a.png,10\n")
    data = image_folder(table, size=6)
    assert (data.classes, data.train.targets.tolist(), data.test) == (("10", "7"), [1, 0], None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: expected the columns path, label and, .* found none"),
        ("path,lable\na,b\n", ":1: expected the columns path, label and, .* found path, lable"),
        (TABLE + "dgo,test/dog/1.png,test\n", ":5: expected a label of the training .* 'dgo'; nearest: dog"),
        (TABLE + "dog,test/dog/3.png,test\n", r":5: expected the picture .*test/dog/3\.png, found none"),
        (TABLE + "dog,test/dog/1.png,tset\n", ":5: expected the split .*test, found 'tset'"),
        (TABLE + "dog,,test\n", ":5: expected a path, found none"),
        (TABLE + ",test/dog/1.png,test\n", ":5: expected a label, found none"),
        (TABLE + "dog,test/dog/1.png\n", ":5: expected 3 values, found 2"),
        (TABLE + 'dog,"test', ":5: expected comma-separated values"),
        ("path,label,split\ntest/dog/1.png,dog,test\n", ": expected rows of the training part, found none"),
        (TABLE + "d\xe9,x,test\n", ": expected a table in UTF-8, cannot read it"),
    ],
)
def test_a_table_that_is_wrong_is_named_with_the_line(root, content, message):
    table = root / "pets.csv"
    table.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=f"^{table}{message}"):
        image_folder(table, size=6)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: expected a table of pictures, found none; set data"):
        image_folder(tmp_path / "none.csv")


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / "train").rename(root / "trian"),
            "pets: expected the folders train, val.*'trian'",
        ),
        (
            lambda root: (root / "train").rename(root.parent / "away"),
            "the folder train beside test, val, found",
        ),
        (lambda root: (root / "validation").mkdir(), "one folder of a validation part, found val and valid"),
        (lambda root: (root / "test/dog").rename(root / "test/dgo"), "test/dgo: expected a class of.*: dog"),
        (lambda root: (root / "train/fox").mkdir(), "train/fox: expected pictures .*, found none"),
        (lambda root: emptied(root / "test/dog"), "test/dog: expected pictures .*, found none"),
        (lambda root: (root / "val/cat/1.png").write_bytes(b"x"), r"val/cat/1\.png: expected a picture"),
    ],
)
def test_folders_that_are_wrong_are_named(root, change, message):
    change(root)
    with pytest.raises(DataError, match=message) as caught:
        image_folder(root, size=6)
    assert str(caught.value).startswith(str(root))


def test_no_folder_and_no_pictures_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none: expected a folder of pictures, or a table .*set data\.path"):
        image_folder(tmp_path / "none")
    with pytest.raises(DataError, match="expected a folder of pictures for each class, found none"):
        image_folder(tmp_path)
    save(tmp_path / "1.png")
    with pytest.raises(DataError, match="expected a folder of pictures for each class, found none"):
        image_folder(tmp_path)
    with pytest.raises(DataError, match=r"1\.png: expected a folder of pictures, or .* found something else"):
        image_folder(tmp_path / "1.png")
    for path in ("a\0b", "\ud800", "x" * 300):
        with pytest.raises(DataError, match=r"found none; set data\.path"):
            image_folder(path)


def test_a_class_whose_name_is_no_text_is_refused(root):
    os.mkdir(os.fsencode(root / "train") + b"/caf\xe9")
    with pytest.raises(DataError, match=r"train: expected a class's name in UTF-8, found 'caf\\udce9'"):
        image_folder(root)


def test_a_picture_that_stays_on_disk_is_named_when_its_turn_comes(root):
    (root / "train/dog/2.png").write_bytes(b"x")
    data = image_folder(root, size=6, stream=True)
    with pytest.raises(DataError, match=r"^.*train/dog/2\.png: expected a picture"):
        data.train.inputs.load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "fit"}, "resize to be crop or stretch, got 'fit'"),
        ({"size": 0}, "a size from 1 to 89,478,485 pixels, got 0"),
        ({"size": (10**9, 3)}, "pixels, got"),
        ({"channels": 4}, "expected 1 or 3 channels, got 4"),
    ],
)
def test_other_arguments_are_refused(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        image_folder(root, **arguments)
