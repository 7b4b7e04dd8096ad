"""Predict what is on pictures, by a model from a weights file: decoded ahead, while the device works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fnn import kernels
from fnn.commands.execution import prepare
from fnn.data import DataError, Preprocessing
from fnn.data.pictures import SUFFIXES, read_picture
from fnn.experiment.saved import Saved, read_saved
from fnn.experiment.schema import ExecutionSection
from fnn.layer import Layer
from fnn.training.weights import WeightsError

AHEAD = 2
"""Batches that are decoded before they are needed, at most."""

Classify = Callable[[np.ndarray], np.ndarray]
"""Bytes ``(n, height, width, channels)`` in, probabilities ``(n, classes)`` out."""


@dataclass(frozen=True)
class Guess:
    """A class, by its index and name, and how probable the model finds it, from 0 to 1."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture.

    Attributes:
        path: The file.
        top: The most probable classes, the first one first.
        error: Why there are none; None: there are.
    """

    path: Path
    top: tuple[Guess, ...] = ()
    error: str | None = None


def predict(
    model: Path,
    pictures: Sequence[Path],
    *,
    top: int = 5,
    batch_size: int = 32,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Prediction]:
    """What a model says of pictures, one after the other and in their order.

    The classes' probabilities are the softmax of the model's outputs; a model that ends in a softmax of its
    own gives them itself. A picture that cannot be read has an error in their place, and the others go on.

    Args:
        model: A weights file that says what it takes to use it, or the folder of a run that has ended.
        pictures: Files.
        top: How many classes, if there are as many.
        batch_size: Pictures at a time, at most: the fewer pictures there are, the smaller a power of two.
        on_progress: Gets how many pictures are done.

    Raises:
        WeightsError: The model cannot be read, or does not classify pictures.
        ConfigError: A layer of it is not known.
    """
    prepare(ExecutionSection())
    saved = read_saved(model)
    preprocessing, names = _checked(saved, model)
    size = min(batch_size, 1 << (len(pictures) - 1).bit_length())
    classify = classifier(saved)

    def guesses(probabilities: np.ndarray) -> tuple[Guess, ...]:
        best = np.argsort(-probabilities, kind="stable")[:top]
        return tuple(Guess(int(i), names[i], float(probabilities[i])) for i in best)

    done = 0
    for batch in _batches(_decoded(pictures, preprocessing, AHEAD * size), size):
        whole = [picture for _, picture in batch if isinstance(picture, np.ndarray)]
        rows = iter(classify(_filled(whole, size)) if whole else ())
        done += len(batch)
        on_progress(done)
        for path, picture in batch:
            failed = isinstance(picture, DataError)
            yield Prediction(path, error=str(picture)) if failed else Prediction(path, guesses(next(rows)))


def _checked(saved: Saved, model: Path) -> tuple[Preprocessing, tuple[str, ...]]:
    """How pictures become examples of a classifier, and the names of its classes."""
    if saved.preprocessing is None:
        raise WeightsError(f"{model}: expected a model of pictures, found one of {saved.inputs.shape[1:]}")
    if saved.classes is None:
        raise WeightsError(f"{model}: expected a classifier, with 'classes' in its metadata, found none")
    outputs, _ = jax.eval_shape(saved.model.apply, saved.params, saved.state, saved.inputs)
    if outputs.shape != (1, len(saved.classes)):
        wanted = f"an output for each of its {len(saved.classes)} classes"
        raise WeightsError(f"{model}: expected {wanted}, found the shape {outputs.shape[1:]}")
    return saved.preprocessing, saved.classes


def classifier(saved: Saved) -> Classify:
    """A compiled function from prepared pictures to the probabilities of the classes, in float32."""
    given = _ends_in_softmax(saved.model)
    params, state = jax.device_put((saved.params, saved.state))

    @jax.jit
    def forward(params, state, pictures):  # type: ignore[no-untyped-def]
        x = pictures.astype(jnp.float32) if saved.normalizer is None else saved.normalizer(pictures)
        outputs, _ = saved.model.apply(params, state, x.astype(saved.inputs.dtype))
        outputs = outputs.astype(jnp.float32)
        return outputs if given else jax.nn.softmax(outputs)

    return lambda pictures: np.asarray(forward(params, state, pictures))


def _ends_in_softmax(model: Layer) -> bool:
    while model.children:
        model = model.children[-1][1]
    return model.kind == "softmax"


def _decoded(
    files: Iterable[Path], preprocessing: Preprocessing, ahead: int
) -> Iterator[tuple[Path, np.ndarray | DataError]]:
    """Each picture as the model sees it, or why not; never more than ``ahead`` wait to be taken."""
    least = preprocessing.short_side or max(preprocessing.size)

    def read(file: Path) -> np.ndarray | DataError:
        try:
            return preprocessing.prepare(read_picture(file, preprocessing.channels, least=least))
        except DataError as error:
            return error

    waiting: deque[tuple[Path, Future[np.ndarray | DataError]]] = deque()
    pool = ThreadPoolExecutor(kernels.processors())
    try:
        for file in files:
            waiting.append((file, pool.submit(read, file)))
            if len(waiting) > ahead:
                path, picture = waiting.popleft()
                yield path, picture.result()
        while waiting:
            path, picture = waiting.popleft()
            yield path, picture.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    pictures: Iterable[tuple[Path, np.ndarray | DataError]], size: int
) -> Iterator[list[tuple[Path, np.ndarray | DataError]]]:
    """In order, each with as many whole pictures, but the last; broken ones come with them."""
    batch: list[tuple[Path, np.ndarray | DataError]] = []
    whole = 0
    for path, picture in pictures:
        batch.append((path, picture))
        whole += isinstance(picture, np.ndarray)
        if whole == size:
            yield batch
            batch, whole = [], 0
    if batch:
        yield batch


def _filled(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """A batch of one shape, the last one filled up with black: one program is compiled for all."""
    batch = np.zeros((size, *pictures[0].shape), np.uint8)
    for row, picture in zip(batch, pictures, strict=False):
        row[:] = picture
    return batch


def find_pictures(places: Iterable[Path]) -> list[Path]:
    """The files that are named, and those in the folders that are named, and in folders in them, in order.

    Hidden files and folders are left out, and files whose ending is none of a picture's.

    Raises:
        DataError: A folder cannot be read, or there is no picture in it.
    """
    found = []
    for place in places:
        inside = sorted(_inside(place)) if place.is_dir() else [place]
        if not inside:
            raise DataError(f"{place}: expected pictures ({', '.join(sorted(SUFFIXES))}), found none")
        found += inside
    return found


def _inside(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: expected a folder, cannot read it: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place, name)
