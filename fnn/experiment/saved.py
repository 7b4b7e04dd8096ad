"""A trained model in a file that says all that it takes to use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import TypeAdapter, ValidationError

from fnn import document
from fnn.choices import ConfigError
from fnn.data import Dataset, Normalizer, Preprocessing
from fnn.experiment.model import build_model
from fnn.experiment.schema import check
from fnn.layer import Layer, LayerError, Params, State
from fnn.training.folder import WEIGHTS, to_json
from fnn.training.weights import WeightsError, load_weights, read_metadata


@dataclass(frozen=True, eq=False)
class Saved:
    """A model, its weights, and what goes in and comes out.

    Attributes:
        model: The layer.
        config: Its part of the config, a choice or a list of layers.
        params, state: What evaluation uses.
        inputs: The shape of one example and the type of the activations, with a batch of 1.
        classes: The name of each output, or None.
        preprocessing: How a picture becomes an example, or None: examples are no pictures.
        normalizer: What is done to an example before the model sees it, or None.
        scale: How many times larger a super-resolution model makes a picture; None: it is no such model.
    """

    model: Layer
    config: Any
    params: Params
    state: State
    inputs: jax.ShapeDtypeStruct
    classes: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    normalizer: Normalizer | None
    scale: int | None = None


def metadata_of(config: str, dataset: Dataset, normalizer: Normalizer | None) -> dict[str, str]:
    """What a weights file says of itself, by name.

    Args:
        config: The text of a whole config.
        dataset: What the model learned from.
        normalizer: What is done to its examples.
    """
    shape = dataset.train.inputs.shape[1:]
    found = {"config": config, "input": to_json(shape)}
    if dataset.classes is not None:
        found["classes"] = to_json(dataset.classes)
    if dataset.scale is not None:
        found["scale"] = to_json(dataset.scale)
    preprocessing = _preprocessing(dataset, normalizer)
    if preprocessing is not None:
        found["preprocess"] = to_json(asdict(preprocessing))
    elif normalizer is not None:
        mean, std = normalizer.mean, normalizer.std
        found["normalize"] = to_json({"mean": np.ravel(mean).tolist(), "std": np.ravel(std).tolist()})
    return found


def _preprocessing(dataset: Dataset, normalizer: Normalizer | None) -> Preprocessing | None:
    """That of the data set, or the plain one of pictures of bytes, with the normalisation in it."""
    inputs, found = dataset.train.inputs, dataset.preprocessing
    if found is None and inputs.ndim == 4 and inputs.dtype == np.uint8 and inputs.shape[-1] in (1, 3):
        found = Preprocessing((inputs.shape[1], inputs.shape[2]), channels=inputs.shape[3])
    if found is None or normalizer is None:
        return found
    mean, std = (tuple(np.ravel(v).tolist()) for v in (normalizer.mean, normalizer.std))
    return replace(found, mean=mean, std=std, bgr=found.bgr != normalizer.bgr)


def read_saved(path: str | Path) -> Saved:
    """A model from a weights file, or from a run's folder with one.

    Raises:
        WeightsError: There is no such file, it is damaged, it does not say which model it is of, or does not
            fit it.
        ConfigError: A layer of its config is not known.
    """
    file = weights_file(path)
    metadata = read_metadata(file)
    if "config" not in metadata or "input" not in metadata:
        raise WeightsError(f"{file}: expected 'config' and 'input' in its metadata, found {_names(metadata)}")
    text = document.parse(metadata["config"], f"{file} (config)")
    with text.located(), _told(file):
        experiment = check(text.tree)
        model = build_model(experiment.model)
        shape = _value(tuple[int, ...], metadata, "input")
        inputs = jax.ShapeDtypeStruct((1, *shape), jnp.dtype(experiment.precision))
        params, state = jax.eval_shape(model.init, jax.random.key(0), inputs)
        preprocessing, normalizer = _normalization(metadata)
        classes = _value(tuple[str, ...], metadata, "classes")
        scale = _value(int, metadata, "scale")
    params, state = load_weights(file, params, state)
    return Saved(model, experiment.model, params, state, inputs, classes, preprocessing, normalizer, scale)


def weights_file(path: str | Path) -> Path:
    """A weights file, or that in a run's folder.

    Raises:
        WeightsError: The folder holds none.
    """
    if not Path(path).is_dir():
        return Path(path)
    file = Path(path) / WEIGHTS
    if not file.exists():
        raise WeightsError(f"{path}: expected a run that has ended, with {WEIGHTS} in it, found none")
    return file


def normalization_of(file: Path) -> tuple[Preprocessing | None, Normalizer | None]:
    """How the examples of a weights file's model are made, and what is done to them then; None: nothing.

    Raises:
        WeightsError: There is no such file, it is damaged, or it does not say so.
    """
    metadata = read_metadata(file)
    if "config" not in metadata:
        raise WeightsError(f"{file}: expected 'config' in its metadata, found {_names(metadata)}")
    with _told(file):
        return _normalization(metadata)


def _normalization(metadata: dict[str, str]) -> tuple[Preprocessing | None, Normalizer | None]:
    preprocessing = _value(Preprocessing, metadata, "preprocess")
    if preprocessing is not None:
        return preprocessing, preprocessing.normalizer()
    found = _value(dict[str, list[float]], metadata, "normalize")
    if found is None:
        return None, None
    mean, std = (np.asarray(found[name], np.float32) for name in ("mean", "std"))
    return None, Normalizer(mean, std)


def _value(kind: Any, metadata: dict[str, str], name: str) -> Any:
    """A value of the metadata, checked; None where it is not there."""
    return TypeAdapter(kind).validate_json(metadata[name]) if name in metadata else None


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """What somebody else's file says may be anything: it is told in one line."""
    try:
        yield
    except ConfigError:
        raise
    except (ValidationError, LayerError, KeyError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise WeightsError(f"{file}: its metadata cannot be used: {detail}") from None


def _names(metadata: dict[str, str]) -> str:
    return ", ".join(metadata) or "nothing"
