"""Sources that need no files."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fnn.data.dataset import MOST_CLASSES, Dataset, Split
from fnn.data.preprocessing import Preprocessing
from fnn.machine import in_bytes, memory
from fnn.registry import register

DIGITS, DIGITS_TEST = 1797, 360


@register(group="source")
def digits(split: Literal["stratified", "last"] = "stratified") -> Dataset:
    """The handwritten digits embedded in scikit-learn: 1,437 images to train on, 360 to test.

    Args:
        split: ``stratified`` draws the test part at random, with every class in its share:
            ``train_test_split(test_size=360, stratify=y, random_state=0)``. ``last`` takes the
            last 360 rows in file order, which other people wrote: a harder test.

    Returns:
        Images ``(n, 8, 8, 1)`` of bytes from 0 to 16, classes ``"0"`` to ``"9"``.

    Raises:
        ValueError: ``split`` is neither.

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits" (1998), UCI machine
    learning repository; scikit-learn embeds its test part.

    Example:
        >>> from fnn.data import digits
        >>> data = digits()
        >>> data.train.inputs.shape, data.test.inputs.shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    rows = np.arange(DIGITS)
    if split == "stratified":
        train, test = train_test_split(rows, test_size=DIGITS_TEST, stratify=labels, random_state=0)
    elif split == "last":
        train, test = rows[:-DIGITS_TEST], rows[-DIGITS_TEST:]
    else:
        raise ValueError(f"digits: expected the split stratified or last, got {split!r}")
    whole = Split(values.astype(np.uint8).reshape(-1, 8, 8, 1), labels.astype(np.int32))
    return Dataset(
        whole.rows(train),
        whole.rows(test),
        classes=tuple("0123456789"),
        preprocessing=Preprocessing((8, 8), channels=1, white=16.0),
    )


@register(group="source")
def synthetic(
    shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, size: int = 1024, seed: int = 0
) -> Dataset:
    """Random examples with random labels, for benchmarks: there is nothing to learn but by heart.

    Args:
        shape: Of one example: ``(h, w, c)`` for images of bytes, uniform from 0 to 255, or
            ``(d,)`` for features, standard normal.
        classes: How many, from 1 to 65,536.
        size: Examples in the training part, at least 1; the test part has a quarter as many,
            and at least one.
        seed: What the values are drawn from.

    Raises:
        ValueError: An argument is outside its range, or the whole would not fit the memory.

    Example:
        >>> from fnn.data import synthetic
        >>> data = synthetic((32, 32, 3), size=100)
        >>> data.train.inputs.shape, len(data.test)
        ((100, 32, 32, 3), 25)
    """
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(
            f"synthetic: expected the shape (height, width, channels) or (features,), got {tuple(shape)}"
        )
    if classes < 1 or size < 1:
        raise ValueError(f"synthetic: expected at least 1 class and 1 example, got {classes} and {size}")
    if classes > MOST_CLASSES:
        raise ValueError(f"synthetic: expected at most {MOST_CLASSES} classes, got {classes}")
    needed = size * math.prod(shape) * (1 if len(shape) == 3 else 4)
    if needed > memory():
        raise ValueError(
            f"synthetic: {size} examples of {tuple(shape)} take {in_bytes(needed)}, "
            f"more than the {in_bytes(memory())} of memory that there are"
        )
    rng = np.random.default_rng(seed)

    def part(n: int) -> Split:
        if len(shape) == 3:
            inputs = rng.integers(0, 256, (n, *shape), np.uint8)
        else:
            inputs = rng.standard_normal((n, *shape), np.float32)
        return Split(inputs, rng.integers(0, classes, n, np.int32))

    return Dataset(part(size), part(max(1, size // 4)), classes=tuple(str(i) for i in range(classes)))
