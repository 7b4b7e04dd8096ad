"""The names of classes, from a text file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fnn.data.dataset import MOST_CLASSES, DataError, brief


def read_classes(file: str | Path) -> tuple[str, ...]:
    """The names in a text file, one a line in the order of their indices.

    A line is a name, or what Caffe's lists of ImageNet have: ``index``, ``wnid`` and ``name`` with tabs
    between them.

    Raises:
        DataError: The file cannot be read as UTF-8 text, a line has no name, or an index is out of order.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise DataError(f"{file}: cannot be read: {reason}") from None
    if not 1 <= len(lines) <= MOST_CLASSES:
        raise DataError(f"{file}: expected 1 to {MOST_CLASSES} lines with a name each, found {len(lines)}")
    return tuple(_name(file, index, line) for index, line in enumerate(lines))


def _name(file: str | Path, index: int, line: str) -> str:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) == 3 and cells[0] == str(index) and cells[2]:
        return cells[2]
    if len(cells) == 1 and cells[0]:
        return cells[0]
    wanted = f"a name, or the index {index}, a wnid and a name with tabs between them"
    raise DataError(f"{file}:{index + 1}: expected {wanted}, found {brief(line)!r}")


def imagenet_classes() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet's recognition challenge, in the order that all use.

    Example:
        >>> from fnn.data.class_names import imagenet_classes
        >>> names = imagenet_classes()
        >>> len(names), names[0], names[285]
        (1000, 'tench', 'Egyptian cat')

    Source: torchvision's list, whose licence lies beside it; it tells the crane that is a bird from the one
    that lifts, and a maillot from a tank suit.
    """
    text = resources.files("fnn.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
