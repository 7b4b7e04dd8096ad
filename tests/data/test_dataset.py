"""The parts of a data set, and the validation part cut from it."""

import numpy as np
import pytest

from fnn.data import DataError, Dataset, Split, digits


def labelled(labels: list[int], classes: int = 3) -> Dataset:
    inputs = np.arange(len(labels), dtype=np.float32).reshape(-1, 1)
    train = Split(inputs, np.array(labels, np.int32))
    return Dataset(train, classes=tuple(str(i) for i in range(classes)))


def test_held_out_and_kept_rows_are_the_whole():
    data = labelled([0, 1, 2, 2] * 25).hold_out(0.2, seed=3)
    kept, held = data.train.inputs[:, 0], data.validation.inputs[:, 0]
    assert sorted([*kept, *held]) == list(range(100))
    assert len(held) == 20
    assert all(np.diff(kept) > 0), "the order of the file is kept"
    assert all(np.diff(held) > 0), "the order of the file is kept"
    whole = np.array([0, 1, 2, 2] * 25)
    np.testing.assert_array_equal(data.train.targets, whole[kept.astype(int)])
    np.testing.assert_array_equal(data.validation.targets, whole[held.astype(int)])


def test_every_class_keeps_its_share():
    data = labelled([0] * 60 + [1] * 30 + [2] * 10).hold_out(0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(data.validation.targets), [6, 3, 1])


def test_the_cut_is_a_pure_function_of_the_seed():
    data = labelled([0, 1] * 50, 2)
    first, again, other = (data.hold_out(0.3, seed=s).validation.inputs.ravel() for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_regression_is_cut_without_classes():
    inputs = np.arange(10, dtype=np.float32).reshape(-1, 1)
    data = Dataset(Split(inputs, 2 * inputs)).hold_out(0.3, seed=0)
    assert (len(data.train), len(data.validation)) == (7, 3)
    np.testing.assert_array_equal(data.validation.targets, 2 * data.validation.inputs)


def test_nothing_held_out_is_the_set_itself_and_the_test_part_is_never_touched():
    data = digits()
    assert data.hold_out(0.0, seed=0) is data
    assert data.hold_out(0.1, seed=0).test is data.test
    assert data.hold_out(0.1, seed=0).classes == data.classes


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_a_share_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="expected a share from 0 to below 1, got"):
        labelled([0, 1] * 5, 2).hold_out(fraction, seed=0)


@pytest.mark.parametrize(
    ("data", "fraction", "message"),
    [
        (labelled([0, 0, 0, 1], 2), 0.5, "cannot hold out 2 of 4 training examples: .*only 1 member"),
        (
            labelled([0, 1] * 5, 2),
            0.01,
            "cannot hold out 0 of 10 training examples: expected some in each part$",
        ),
        (
            labelled([0, 1] * 5, 2),
            0.99,
            "cannot hold out 10 of 10 training examples: expected some in each part$",
        ),
    ],
)
def test_a_cut_that_cannot_be_made_says_why(data, fraction, message):
    with pytest.raises(DataError, match=message):
        data.hold_out(fraction, seed=0)


def test_a_second_cut_is_refused():
    data = labelled([0, 1] * 50, 2).hold_out(0.2, seed=0)
    with pytest.raises(DataError, match="has a validation part of its own"):
        data.hold_out(0.2, seed=0)


def test_tiles_of_pictures_are_not_cut_into_parts():
    """Of two that overlap one could be in each."""
    tiles = Split(np.zeros((9, 2, 2, 1), np.uint8), np.zeros((9, 4, 4, 1), np.uint8))
    message = r"tiles of one picture may overlap, and its source holds out whole pictures \(validation\)$"
    with pytest.raises(DataError, match=f"^cannot hold out examples: {message}"):
        Dataset(tiles, scale=2).hold_out(0.5, seed=0)
    assert Dataset(tiles, scale=2).hold_out(0, seed=0).validation is None


def test_rows_keep_their_targets_and_names():
    part = Split(np.arange(3), np.arange(3) + 5, ("a", "b", "c")).rows(np.array([2, 0]))
    assert (part.inputs.tolist(), part.targets.tolist(), part.names) == ([2, 0], [7, 5], ("c", "a"))


def test_parts_that_do_not_fit_are_refused():
    x, y = np.zeros((4, 2), np.float32), np.zeros(4, np.int32)
    with pytest.raises(DataError, match="expected 4 targets, one an input, found 3"):
        Split(x, y[:3])
    with pytest.raises(DataError, match="expected training examples with targets, found none"):
        Dataset(Split(x[:0], y[:0]))
    with pytest.raises(DataError, match="expected training examples with targets, found none"):
        Dataset(Split(x))
    with pytest.raises(DataError, match=r"test: expected examples of shape \(2,\) as in train, found \(3,\)"):
        Dataset(Split(x, y), test=Split(np.zeros((1, 3), np.float32), y[:1]))
    with pytest.raises(DataError, match="train: expected class indices from 0 to 1, found 2"):
        Dataset(Split(x, y + 2), classes=("a", "b"))
    with pytest.raises(DataError, match="train: expected class indices from 0 to 1, found -1"):
        Dataset(Split(x, y - 1), classes=("a", "b"))
    with pytest.raises(DataError, match="expected whole numbers as class indices, found float32"):
        Dataset(Split(x, y.astype(np.float32)), classes=("a", "b"))
