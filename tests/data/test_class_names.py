"""The names of classes: both forms of list, ImageNet's own, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnn.data import DataError
from fnn.data.class_names import imagenet_classes, read_classes


def test_a_name_a_line_or_an_index_a_wnid_and_a_name(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("great white shark\nhen \n\n")
    assert read_classes(file) == ("great white shark", "hen")
    file.write_text("0\tn01440764\ttench\n1\tn01443537\tgoldfish\n")
    assert read_classes(file) == ("tench", "goldfish")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected 1 to 65536 lines with a name each, found 0"),
        (
            "a\n\nb\n",
            ":2: expected a name, or the index 1, a wnid and a name with tabs between them, found ''",
        ),
        ("0\tn1\ta\n2\tn2\tb\n", ":2: expected a name, or the index 1"),
        ("a\tb\n", ":1: expected a name"),
    ],
)
def test_a_line_without_a_name_is_named(tmp_path, text, message):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(DataError) as error:
        read_classes(tmp_path / "names.txt")
    assert message in str(error.value)


def test_no_text_is_no_list(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read: it is no UTF-8 text"):
        read_classes(tmp_path / "names.txt")


def test_every_name_of_imagenet_is_another():
    assert len(set(imagenet_classes())) == 1000


@pytest.mark.data
def test_imagenets_names_are_those_of_the_release_of_squeezenet():
    theirs = read_classes(Path(os.environ["FNN_DATA"]) / "squeezenet" / "imagenet_classes.txt")
    names = zip(imagenet_classes(), theirs, strict=True)
    differ = [ours for ours, other in names if ours != other.replace("_", " ")]
    assert differ == ["crane bird", "maillot tank suit"]
