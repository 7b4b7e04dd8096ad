"""The user's own arrays: what is read, and what is refused with its place."""

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fnn.data import DataError, arrays

X = np.arange(12, dtype=np.float64).reshape(4, 3) / 8
BYTES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
Y = np.array([0, 2, 1, 0])
GOALS = "year,goals\n2013,39\n2014,50\n2015,48\n2016,51\n2017,50\n2018,\n"


@pytest.fixture
def npz(tmp_path):
    def write(**parts) -> Path:
        np.savez(tmp_path / "set.npz", **parts)
        return tmp_path / "set.npz"

    return write


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes) -> Path:
        file = tmp_path / "table.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def entry(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def archive(file: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", method) as out:
        for name, content in contents.items():
            out.writestr(name, content)
    return file


def test_whole_numbers_in_an_archive_are_classes(npz):
    data = arrays(npz(x=X, y=Y))
    np.testing.assert_array_equal(data.train.inputs, X)
    np.testing.assert_array_equal(data.train.targets, Y)
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.float32, np.int32)
    assert data.classes == ("0", "1", "2")
    assert data.test is None


def test_other_numbers_in_an_archive_are_values(npz):
    data = arrays(npz(x=X, y=Y / 2, x_test=X[:2], y_test=Y[:2] / 2))
    assert data.classes is None
    assert data.train.targets.tolist() == [[0.0], [1.0], [0.5], [0.0]]
    assert data.test.targets.tolist() == [[0.0], [1.0]]
    np.testing.assert_array_equal(data.test.inputs, X[:2])
    assert data.train.targets.dtype == np.float32


def test_the_task_and_the_key_can_be_said(npz):
    file = npz(x=X, y=Y, other=X[:, :2])
    assert arrays(file, task="regression").train.targets.tolist() == [[0.0], [2.0], [1.0], [0.0]]
    np.testing.assert_array_equal(arrays(file, target="other").train.targets, X[:, :2])


def test_a_class_of_the_test_part_alone_is_a_class(npz):
    assert arrays(npz(x=X, y=Y, x_test=X, y_test=Y + 1)).classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_of_bytes_stay_bytes(tmp_path, order, save):
    save(tmp_path / "a.npz", x=np.asarray(BYTES, order=order), y=Y)
    inputs = arrays(str(tmp_path / "a.npz")).train.inputs
    assert inputs.dtype == np.uint8
    np.testing.assert_array_equal(inputs, BYTES)


def test_grey_images_get_their_channel_and_other_dtypes_become_float32(npz):
    np.testing.assert_array_equal(arrays(npz(x=BYTES[..., 0], y=Y)).train.inputs, BYTES[..., :1])
    inputs = arrays(npz(x=BYTES.astype(">f8"), y=Y)).train.inputs
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, BYTES)
    assert arrays(npz(x=BYTES[:, :, 0, 0], y=Y)).train.inputs.dtype == np.float32, "features"


def holding(value: float, dtype: type = np.float64) -> np.ndarray:
    x = X.astype(dtype)
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("parts", "task", "message"),
    [
        ({"x": X}, None, "expected the array 'y', found none; nearest: x"),
        ({"y": Y}, None, "expected the array 'x', found none"),
        ({"x": X, "y": Y, "x_test": X}, None, "expected the array 'y_test', found none"),
        ({"x": X, "y": Y, "y_test": Y}, None, "expected the array 'x_test', found none"),
        ({"x": X, "y": Y[:3]}, None, "y: expected 4 targets as there are x, found 3"),
        (
            {"x": X, "y": Y, "x_test": X[:2], "y_test": Y},
            None,
            "y_test: expected 2 targets as there are x_test",
        ),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, None, r"test: expected examples of shape \(3,\)"),
        ({"x": X[:, 0], "y": Y}, None, r"x: expected the shape .*, found \(4,\)"),
        ({"x": np.float64(3), "y": Y}, None, r"x: expected the shape .*, found \(\)"),
        ({"x": X[:0], "y": Y[:0]}, None, r"x: expected at least one value, found .* \(0, 3\)"),
        ({"x": holding(np.nan), "y": Y}, None, "x: row 2: expected finite numbers, found nan"),
        ({"x": holding(1e39), "y": Y}, None, r"x: row 2: expected finite numbers, found 1e\+39"),
        ({"x": X, "y": Y - 1}, None, "y: row 0: expected an index below 65536, found -1"),
        ({"x": X, "y": Y * 10**6}, None, "y: row 1: expected an index below 65536, found 2000000"),
        (
            {"x": X, "y": X},
            "classification",
            r"whole numbers of shape \(n,\) .*, found float64 of shape \(4, 3\)",
        ),
        ({"x": X, "y": BYTES}, "regression", r"y: expected values of shape .*, found \(4, 5, 6, 3\)"),
        ({"x": X, "y": np.array(list("abba"))}, None, "y: expected an array of numbers, found the dtype <U1"),
        ({"x": X + 1j, "y": Y}, None, "x: expected an array of numbers, found the dtype complex128"),
        ({"x": X, "y": np.array([1, "a", None, 2], object)}, None, "y: .* found objects, .* be unpickled"),
    ],
)
def test_an_array_that_does_not_fit_is_named(npz, parts, task, message):
    with pytest.raises(DataError, match=message) as caught:
        arrays(npz(**parts), task=task)
    assert "\n" not in str(caught.value)


def test_nothing_is_ever_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    trap = np.array([Trap()] * 4, object)
    np.savez(tmp_path / "trap.npz", x=trap, y=Y)
    with pytest.raises(DataError, match="x: expected an array of numbers, found objects"):
        arrays(tmp_path / "trap.npz")
    (tmp_path / "bare.npz").write_bytes(trap.dumps())
    with pytest.raises(DataError, match=r"expected an \.npz archive, cannot read it: File is not a zip file"):
        arrays(tmp_path / "bare.npz")
    assert not (tmp_path / "sprung").exists()


def vast(content: bytes) -> bytes:
    """The entry with a header of the same length that promises far more rows."""
    changed = content.replace(b"(4, 3), }    ", b"(40000, 3), }")
    assert changed != content
    return changed


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (vast(entry(X)), r"x: expected 960000 bytes for \(40000, 3\) of float64, found 96"),
        (entry(X)[:-1], r"x: expected 96 bytes for \(4, 3\) of float64, found 95"),
        (entry(X) + b"\0", r"x: expected 96 bytes for \(4, 3\) of float64, found 97"),
        (entry(X).replace(b"(4, 3), }  ", b"(-4, -3), }"), r"x: expected 96 bytes for \(-4, -3\)"),
        (entry(X)[:20], r"x: expected an array in \.npy format, found: .*EOF"),
        (entry(X).replace(b"(4, 3), }", b"(4, 3), ("), r"x: expected an array in \.npy format, found: "),
        (entry(X).replace(b"(4, 3), }", b"(4, 3L)} "), r"x: expected an array in \.npy format, found: "),
        (entry(X).replace(b"{'descr'", b"{[]:1}#r'"), r"x: expected an array in \.npy format, found: "),
        (
            entry(X).replace(b"(4, 3), }" + b" " * 24, b"(0, 9999999999999999999999999), }")[:-96],
            r"x: expected at least one value, found an array of shape \(0, 9{25}\)",
        ),
        (b"x,y\n1,2\n", r"x: expected an array in \.npy format, found: .*magic"),
        (b"", r"x: expected an array in \.npy format, found: .*EOF"),
    ],
)
def test_a_damaged_entry_is_named(tmp_path, x, message):
    file = archive(tmp_path / "a.npz", {"x.npy": x, "y.npy": entry(Y)})
    with pytest.raises(DataError, match=message):
        arrays(file)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path, monkeypatch):
    header = entry(np.zeros((1, 3)))[:128].replace(b"(1, 3), }        ", b"(3000000, 3), }  ")
    x = header + bytes(72_000_000)
    file = archive(tmp_path / "bomb.npz", {"x.npy": x, "y.npy": entry(Y)}, zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 200_000
    monkeypatch.setattr("fnn.data.files.memory", lambda: 1 << 20)  # of a small machine
    with pytest.raises(DataError, match=r"expected at most the 1048576 bytes of .* memory, found 72000000"):
        arrays(file)


def test_what_the_archive_says_is_cut_short(tmp_path):
    file = archive(tmp_path / "a.npz", {"n" * 60_000: b"", "y.npy": entry(Y)})
    with pytest.raises(DataError, match="expected the array 'x', found none") as caught:
        arrays(file)
    assert len(str(caught.value)) < 1000


def test_a_damaged_archive_is_named(tmp_path):
    contents = {"x.npy": entry(X), "y.npy": entry(Y)}
    whole = archive(tmp_path / "a.npz", contents).read_bytes()
    at = whole.index(X.tobytes())
    damaged = {
        "not a zip file": whole[: len(whole) // 2],
        "Bad CRC-32": whole[:at] + b"\xff" + whole[at + 1 :],
    }
    for message, content in damaged.items():
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=f"cannot read it: .*{message}"):
            arrays(tmp_path / "a.npz")
    named = whole.replace(b"x.npy", b"\xff.npy")
    flagged = named.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x08")
    assert flagged != named, "the names are said to be UTF-8"
    (tmp_path / "a.npz").write_bytes(flagged)
    with pytest.raises(DataError, match="cannot read it: 'utf-8' codec can't decode"):
        arrays(tmp_path / "a.npz")
    file = archive(tmp_path / "b.npz", contents, zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="x: expected an entry stored or deflated"):
        arrays(file)


def test_a_table_is_a_regression_to_its_last_column(table):
    data = arrays(table(GOALS))
    assert data.train.inputs.tolist() == [[2013.0], [2014.0], [2015.0], [2016.0], [2017.0]]
    assert data.train.targets.tolist() == [[39.0], [50.0], [48.0], [51.0], [50.0]]
    assert data.predict.inputs.tolist() == [[2018.0]]
    assert data.predict.targets is None
    assert data.classes is None
    assert data.train.inputs.dtype == data.train.targets.dtype == data.predict.inputs.dtype == np.float32


def test_a_table_may_name_its_target(table):
    data = arrays(table("a,b,c\n1,2,3\n4,5,6\n"), target="b")
    assert data.train.inputs.tolist() == [[1.0, 3.0], [4.0, 6.0]]
    assert data.train.targets.tolist() == [[2.0], [5.0]]
    assert data.predict is None


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        (["10", "9", "-1", "9"], ("-1", "9", "10"), [2, 1, 0, 1]),
        (
            ["setosa", "virginica", "setosa", "versicolor"],
            ("setosa", "versicolor", "virginica"),
            [0, 2, 0, 1],
        ),
        (["10", "9", "b", "9"], ("10", "9", "b"), [0, 1, 2, 1]),
    ],
)
def test_a_tables_classes_are_its_distinct_values_in_order(table, labels, classes, indices):
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    data = arrays(table("x,kind\n" + rows + "9,\n"), task="classification")
    assert data.classes == classes
    assert data.train.targets.tolist() == indices
    assert data.train.targets.dtype == np.int32
    assert data.predict.inputs.tolist() == [[9.0]]


@pytest.mark.parametrize(
    "text",
    [
        GOALS.replace("\n", "\r\n"),
        GOALS.replace("\n", "\n\n"),
        GOALS.replace(",", " , "),
        GOALS.replace("2013,39", '"2013","39"'),
        GOALS.rstrip("\n"),
    ],
)
def test_a_table_is_the_same_however_it_is_written(table, text):
    data = arrays(table(text))
    assert data.train.inputs.ravel().tolist() == [2013, 2014, 2015, 2016, 2017]
    assert data.train.targets.ravel().tolist() == [39, 50, 48, 51, 50]
    assert data.predict.inputs.ravel().tolist() == [2018]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: expected two or more names separated by commas, found nothing"),
        ("year;goals\n1;2\n", ":1: expected two or more names separated by commas, found 'year;goals'"),
        ("a,b,a\n1,2,3\n", ":1: column 3: expected a name of its own, found 'a' again"),
        ("a,,b\n1,2,3\n", ":1: column 2: expected a name of its own, found none"),
        ("a,b\n", ": expected a row with a value in column 'b', found none"),
        ("a,b\n1,\n2,\n", ": expected a row with a value in column 'b', found none"),
        ("a,b\n1,2\n3\n", ":3: expected 2 values, found 1"),
        ("a,b\n1,2,3\n", ":2: expected 2 values, found 3"),
        ("a,b\n1,2\n\nx,2\n", ":4: column 'a': expected a finite number, found 'x'"),
        ("a,b\n,2\n", ":2: column 'a': expected a finite number, found ''"),
        ("a,b\n1,two\n", ":2: column 'b': expected a finite number, found 'two'"),
        ("a,b\n1,nan\n", ":2: column 'b': expected a finite number, found 'nan'"),
        ("a,b\n-inf,1\n", ":2: column 'a': expected a finite number, found '-inf'"),
        ("a,b\n1e39,1\n", ":2: column 'a': expected a finite number, found '1e39'"),
        ('a,b\n"1"2,3\n', ":2: expected comma-separated values: .*expected after"),
        ('a,b\n"1,3\n', ":2: expected comma-separated values: unexpected end of data"),
        (b"a,b\n\xff,2\n", ": expected a table in UTF-8, cannot read it"),
        ("a,b\n1,2\n".encode("utf-16"), ": expected a table in UTF-8, cannot read it"),
        ("a,b\n1,2\n".encode("utf-16-le"), ":1: expected a table in UTF-8, found a zero byte"),
        ("a,b\n1,\0\n", ":2: expected a table in UTF-8, found a zero byte"),
        (f"a,b\n{'1' * 131_073},2\n", ":2: expected comma-separated values: field larger than field limit"),
        (f"a,b\n{'x' * 131_000},2\n", r":2: column 'a': expected a finite number, found 'x{156}\.\.\."),
        (f"a,{'x' * 131_000}\n1,z\n", r":2: column 'x{156}\.\.\.: expected a finite number, found 'z'"),
    ],
)
def test_a_damaged_table_is_named_by_line_and_column(table, text, message):
    file = table(text)
    with pytest.raises(DataError, match=message) as caught:
        arrays(file)
    assert str(caught.value).startswith(f"{file}:")
    assert "\n" not in str(caught.value)


def test_many_columns_take_no_time(table):
    names = ",".join(f"c{i}" for i in range(50_000))  # each compared with each, they would take minutes
    begin = time.monotonic()
    data = arrays(table(f"{names}\n{','.join(['1'] * 50_000)}\n"))
    assert data.train.inputs.shape == (1, 49_999)
    assert time.monotonic() - begin < 5


def test_a_byte_order_mark_is_no_part_of_the_first_name(table):
    assert arrays(table("\ufeffa,b\n1,2\n"), target="a").train.targets.tolist() == [[1.0]]


def test_an_unknown_column_shows_the_nearest(table):
    with pytest.raises(DataError, match=r":1: expected a column 'goal'; nearest: goals, year"):
        arrays(table(GOALS), target="goal")


def test_other_files_and_tasks_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: expected an \.npz or \.csv file, found none"):
        arrays(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"expected an \.npz or \.csv file, found none"):
        arrays(tmp_path)
    (tmp_path / "set.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected a file ending in \.npz or \.csv, found \.pkl"):
        arrays(tmp_path / "set.pkl")
    with pytest.raises(ValueError, match=r"arrays: expected the task .*, got 'ranking'"):
        arrays(tmp_path / "set.npz", task="ranking")
