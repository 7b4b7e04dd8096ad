"""Examples that stay on disk: picked as from an array, and read ahead in the order that is asked for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from fnn.data import DataError, OnDisk, Split, fit_normalizer

WHOLE = np.random.default_rng(0).integers(0, 256, (700, 2, 3), np.uint8)


def on_disk(read=WHOLE.__getitem__, n=700) -> OnDisk:
    return OnDisk(read, np.arange(n), (2, 3), np.dtype(np.uint8))


def test_it_looks_like_the_array_in_whose_place_it_is():
    inputs = on_disk()
    for name in ("shape", "dtype", "ndim", "size"):
        assert getattr(inputs, name) == getattr(WHOLE, name)
    assert len(inputs) == len(WHOLE)
    rows = np.array([3, 699, 3, 0])
    np.testing.assert_array_equal(inputs[rows], WHOLE[rows])
    np.testing.assert_array_equal(inputs[5:9], WHOLE[5:9])
    np.testing.assert_array_equal(inputs.load(), WHOLE)


def test_some_of_a_part_are_picked_without_reading():
    def refuse(i: int) -> np.ndarray:
        raise AssertionError(f"example {i} is read")

    part = Split(on_disk(refuse), np.arange(700, dtype=np.int32)).rows(np.array([9, 4]))
    assert part.inputs.shape == (2, 2, 3)
    assert part.targets.tolist() == [9, 4]
    np.testing.assert_array_equal(on_disk().rows(np.array([9, 4])).rows(np.array([1]))[:], WHOLE[[4]])


@pytest.mark.parametrize("batch", [1, 31, 33, 200])
def test_batches_come_in_the_order_that_is_asked_for_from_any_start(batch):
    """Threads that read at different speeds change nothing."""

    def read(i: int) -> np.ndarray:
        time.sleep(0.001 * (i % 7 == 0))
        return WHOLE[i]

    order = np.random.default_rng(1).permutation(700)[: 700 // batch * batch].reshape(-1, batch)[:20]
    for start in (0, len(order) - 2):
        got = list(on_disk(read).stream(order.__getitem__, len(order), start=start))
        assert len(got) == len(order) - start
        for rows, found in zip(order[start:], got, strict=True):
            np.testing.assert_array_equal(found, WHOLE[rows])
    assert list(on_disk(read).stream(order.__getitem__, 3, start=3)) == []


def test_it_is_read_ahead_but_not_far():
    read: list[int] = []

    def note(i: int) -> np.ndarray:
        read.append(i)
        return WHOLE[i % 700]

    batches = on_disk(note, 10**6).stream(lambda i: np.arange(8 * i, 8 * i + 8), 10**5)
    next(batches)
    deadline = time.monotonic() + 20
    while len(read) < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 16 <= len(read) < 8 * 4 * 1000, "the next batch is read while nobody asks for it"
    batches.close()
    time.sleep(0.05)
    assert len(read) < 8000, "what nobody takes is not read"


def test_an_error_comes_as_it_is_at_its_place_and_ends_the_threads():
    def read(i: int) -> np.ndarray:
        if i == 500:
            raise DataError("500.png: expected a picture")
        return WHOLE[i]

    before = threading.active_count()
    batches = on_disk(read).stream(lambda i: np.arange(100 * i, 100 * i + 100), 7)
    for _ in range(5):
        next(batches)
    with pytest.raises(DataError) as caught:
        next(batches)
    assert str(caught.value) == "500.png: expected a picture"
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_normalisation_is_measured_on_a_fixed_sample(monkeypatch):
    exact = fit_normalizer(WHOLE)
    found = fit_normalizer(on_disk())
    np.testing.assert_array_equal((found.mean, found.std), (exact.mean, exact.std))
    monkeypatch.setattr("fnn.data.batches.SAMPLE", 8)
    some = WHOLE[[0, 100, 200, 300, 399, 499, 599, 699]]
    found, exact = fit_normalizer(on_disk()), fit_normalizer(some)
    np.testing.assert_array_equal((found.mean, found.std), (exact.mean, exact.std))
