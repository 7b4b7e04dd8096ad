"""What every source returns: a data set in parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fnn.data.on_disk import OnDisk
from fnn.data.preprocessing import Preprocessing

MOST_CLASSES = 1 << 16
"""A class index beyond this is a value that was stored as a whole number."""


class DataError(ValueError):
    """A data set cannot be used; one line says which file, what was expected, what was found."""


def brief(text: object) -> str:
    r"""What somebody else's file or program says, as part of one line: shortened, and without line breaks.

    Example:
        >>> from fnn.data.dataset import brief
        >>> brief("an error\nof two lines")
        'an error of two lines'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= 160 else f"{line[:157]}..."


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, in the order of its file.

    Attributes:
        inputs: Images ``(n, h, w, c)`` of bytes, or features ``(n, d)`` in float32; those of a set that is
            larger than the memory stay on disk.
        targets: Class indices ``(n,)`` in int32, values ``(n, outputs)`` in float32, or larger pictures of
            bytes; ``None`` where they are unknown and to be predicted.
        names: What each example is called, where it has a name.

    Raises:
        DataError: There are not as many targets as inputs.

    Example:
        >>> import numpy as np
        >>> from fnn.data import Split
        >>> len(Split(np.zeros((5, 2), np.float32), np.arange(5, dtype=np.int32)))
        5
    """

    inputs: np.ndarray | OnDisk
    targets: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.targets is not None and len(self.targets) != len(self.inputs):
            raise DataError(f"expected {len(self.inputs)} targets, one an input, found {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, indices: np.ndarray) -> Split:
        """The examples at these indices, in their order."""
        inputs = self.inputs.rows(indices) if isinstance(self.inputs, OnDisk) else self.inputs[indices]
        targets = None if self.targets is None else self.targets[indices]
        names = None if self.names is None else tuple(self.names[i] for i in indices)
        return Split(inputs, targets, names)


Part = Split | tuple[Split, ...]
"""Examples of one shape; or of several, such as whole pictures, and those of each shape are a split."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: a part to train on, and others where there are any.

    Attributes:
        train: What parameters, normalisation and choices are fitted to.
        test: What is read once, at the end.
        validation: What choices are compared on; see `hold_out`.
        predict: Examples without a target.
        classes: The name of each class index, or ``None`` for regression.
        preprocessing: How a picture becomes such an example, apart from its normalisation, where that is not
            plain from the examples.
        scale: How many times larger the targets are than the inputs, where both are pictures.

    Raises:
        DataError: The training part is empty or without targets, the parts' examples differ in
            shape, or a class index names no class.
    """

    train: Split
    test: Part | None = None
    validation: Part | None = None
    predict: Split | None = None
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    scale: int | None = None

    def __post_init__(self) -> None:
        if not len(self.train) or self.train.targets is None:
            raise DataError("expected training examples with targets, found none")
        for name in ("train", "test", "validation", "predict"):
            self._check(name, getattr(self, name))

    def _check(self, name: str, part: Part | None) -> None:
        if part is None or isinstance(part, tuple):
            return
        shape, wanted = part.inputs.shape[1:], self.train.inputs.shape[1:]
        if shape != wanted:
            raise DataError(f"{name}: expected examples of shape {wanted} as in train, found {shape}")
        if self.classes is None or part.targets is None or not len(part):
            return
        if part.targets.dtype.kind not in "iu":
            raise DataError(f"{name}: expected whole numbers as class indices, found {part.targets.dtype}")
        low, high = int(part.targets.min()), int(part.targets.max())
        if low < 0 or high >= len(self.classes):
            wrong = low if low < 0 else high
            raise DataError(
                f"{name}: expected class indices from 0 to {len(self.classes) - 1}, found {wrong}"
            )

    def hold_out(self, fraction: float, seed: int) -> Dataset:
        """Cut a validation part from the training part.

        Where there are classes, each keeps its share in both parts. The cut is a pure function
        of the data set and the seed; both parts keep the order of the whole.

        Args:
            fraction: The share that is held out, at least 0 and below 1; 0 changes nothing.
            seed: At least 0 and below 2³².

        Raises:
            ValueError: The fraction is outside its range.
            DataError: There is a validation part already, there are too few examples (of some class)
                for such a cut, or they are tiles of pictures, of which whole ones are to be held out.

        Example:
            >>> from fnn.data import digits
            >>> data = digits().hold_out(0.1, seed=0)
            >>> len(data.train), len(data.validation)
            (1293, 144)
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"validation: expected a share from 0 to below 1, got {fraction}")
        if fraction == 0:
            return self
        if self.validation is not None:
            raise DataError("cannot hold out examples: the data set has a validation part of its own")
        if self.scale is not None:
            text = "tiles of one picture may overlap, and its source holds out whole pictures (validation)"
            raise DataError(f"cannot hold out examples: {text}")
        from sklearn.model_selection import train_test_split

        n = len(self.train)
        labels = None if self.classes is None else self.train.targets
        held = round(fraction * n)
        if not 0 < held < n:
            raise DataError(f"cannot hold out {held} of {n} training examples: expected some in each part")
        try:
            kept, cut = train_test_split(np.arange(n), test_size=held, stratify=labels, random_state=seed)
        except ValueError as error:
            raise DataError(f"cannot hold out {held} of {n} training examples: {error}") from None
        return replace(self, train=self.train.rows(np.sort(kept)), validation=self.train.rows(np.sort(cut)))
