"""The sources that need no files."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fnn.data import digits, synthetic


def rows_of(part, values) -> np.ndarray:
    """Where each example of a part stands in the file; no two digits are equal."""
    place = {row.astype(np.uint8).tobytes(): i for i, row in enumerate(values)}
    assert len(place) == len(values)
    return np.array([place[image.tobytes()] for image in part.inputs], np.int64)


def test_digits_are_split_as_published():
    values, labels = load_digits(return_X_y=True)
    data = digits()
    test = rows_of(data.test, values)
    digest = hashlib.sha256(test.astype("<i8").tobytes()).hexdigest()
    assert digest == "d9101e2e97e19974905f1336a8ef53c03166d6af2c53833be35ff03a33e7e0cd"
    train = rows_of(data.train, values)
    assert sorted([*train, *test]) == list(range(1797))
    np.testing.assert_array_equal(data.train.targets, labels[train])
    np.testing.assert_array_equal(data.test.targets, labels[test])
    assert data.train.targets.dtype == np.int32
    assert data.classes == tuple("0123456789")


def test_digits_are_images_of_bytes_from_0_to_16():
    inputs = digits().train.inputs
    assert (inputs.dtype, inputs.shape) == (np.uint8, (1437, 8, 8, 1))
    assert (inputs.min(), inputs.max()) == (0, 16)


def test_digits_last_rows_are_in_file_order():
    values, labels = load_digits(return_X_y=True)
    data = digits("last")
    np.testing.assert_array_equal(data.test.inputs.reshape(360, 64), values[-360:])
    np.testing.assert_array_equal(data.train.inputs.reshape(1437, 64), values[:-360])
    np.testing.assert_array_equal(data.test.targets, labels[-360:])


def test_digits_refuse_another_split():
    with pytest.raises(ValueError, match="digits: expected the split stratified or last, got 'first'"):
        digits("first")


def test_synthetic_values_cover_their_range():
    data = synthetic((6, 5, 3), classes=4, size=400, seed=7)
    assert data.train.inputs.shape == (400, 6, 5, 3)
    assert len(data.test) == 100
    assert np.unique(data.train.inputs).tolist() == list(range(256))
    counts = np.bincount(data.train.targets, minlength=4)
    assert np.all(np.abs(counts - 100) < 45), "5 standard deviations"
    assert data.classes == ("0", "1", "2", "3")


def test_synthetic_features_are_standard_normal():
    inputs = synthetic((50,), size=2000).train.inputs
    assert inputs.dtype == np.float32
    assert abs(inputs.mean()) < 5 / np.sqrt(inputs.size)
    assert abs(inputs.std() - 1) < 5 / np.sqrt(2 * inputs.size)


def test_synthetic_is_a_function_of_its_seed():
    first, again, other = (synthetic((4, 4, 1), size=9, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(first.test.targets, again.test.targets)
    assert not np.array_equal(first.train.inputs, other.train.inputs)
    assert not np.array_equal(first.train.inputs[:2], first.test.inputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (28, 28)}, r"expected the shape .*, got \(28, 28\)"),
        ({"shape": ()}, r"expected the shape .*, got \(\)"),
        ({"shape": (0,)}, r"expected the shape .*, got \(0,\)"),
        ({"classes": 0}, "at least 1 class and 1 example, got 0 and 1024"),
        ({"classes": 10**9}, "at most 65536 classes, got 1000000000"),
        (
            {"size": 10**15},
            r"1000000000000000 examples of \(28, 28, 1\) take 696 PiB, more than the .* of memory",
        ),
        ({"shape": (10**15,), "size": 1}, r"1 examples of .* take 3.55 PiB, more than the .* of memory"),
        ({"size": 0}, "at least 1 class and 1 example, got 10 and 0"),
    ],
)
def test_synthetic_refuses_what_it_cannot_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**arguments)
