"""What was predicted, in the form that is asked for: a table, JSON or CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import IO

from fnn.commands.predict import Prediction
from fnn.table import one_line, table
from fnn.training.folder import to_json

COLUMNS = ("path", "rank", "class", "name", "probability", "error")
"""Of CSV: a row for each class of a picture, or one that says why there is none."""


def as_table(predictions: Iterable[Prediction]) -> str:
    """A row for each class; a picture's name stands before the first. Those with an error are left out.

    Example:
        >>> from pathlib import Path
        >>> from fnn.commands.predict import Guess
        >>> guesses = Guess(1, "a cat", 0.75), Guess(0, "a dog", 0.25)
        >>> print(as_table([Prediction(Path("cat.jpg"), guesses)]))
        picture  name   class  probability
        ──────────────────────────────────
        cat.jpg  a cat      1      75.00 %
                 a dog      0      25.00 %
    """
    body = [
        (
            "" if rank else one_line(str(prediction.path)),
            one_line(guess.name),
            str(guess.index),
            f"{100 * guess.probability:.2f} %",
        )
        for prediction in predictions
        for rank, guess in enumerate(prediction.top)
    ]
    return table(("picture", "name", "class", "probability"), body, left=2)


def as_json(predictions: Iterable[Prediction]) -> str:
    """A list of ``{"path", "top": [{"class", "name", "probability"}]}`` or ``{"path", "error"}``."""
    return to_json([_plain(prediction) for prediction in predictions], indent=2)


def _plain(prediction: Prediction) -> dict[str, object]:
    if prediction.error is not None:
        return {"path": str(prediction.path), "error": prediction.error}
    top = [{"class": g.index, "name": g.name, "probability": g.probability} for g in prediction.top]
    return {"path": str(prediction.path), "top": top}


def write_csv(predictions: Iterable[Prediction], stream: IO[str]) -> None:
    """Write `COLUMNS`, each row as soon as it is there."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for prediction in predictions:
        path = str(prediction.path)
        for rank, guess in enumerate(prediction.top, start=1):
            writer.writerow((path, rank, guess.index, guess.name, guess.probability, ""))
        if prediction.error is not None:
            writer.writerow((path, "", "", "", "", prediction.error))
