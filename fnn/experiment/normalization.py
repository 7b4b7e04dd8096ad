"""How a config's inputs are normalised: in numbers, by the training part, or as weights expect it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fnn.choices import ConfigError
from fnn.data import Dataset, Normalizer, fit_normalizer
from fnn.experiment.saved import normalization_of, weights_file
from fnn.experiment.schema import Experiment, NormalizeSection
from fnn.training.weights import WeightsError

PATH = ("data", "normalize")
BYTES = NormalizeSection(mean=[0.0], std=[255.0])
"""What inputs and targets are where both are pictures: from 0 to 1."""


def make_normalizer(experiment: Experiment, dataset: Dataset) -> Normalizer | None:
    """What is done to an example before the model sees it.

    Raises:
        ConfigError: The weights file cannot be read or does not say what it expects, or that does not fit the
            data.
    """
    choice = experiment.data.normalize
    if choice is True and experiment.init_from.path is not None:
        choice = "weights"
    if choice is True and dataset.scale is not None:
        choice = BYTES
    if choice is True:
        choice = "fit"
    if choice is False:
        return None
    if choice == "fit":
        return fit_normalizer(dataset.train.inputs)
    return _of_init_from(experiment, dataset) if choice == "weights" else _of_numbers(choice, dataset)


def as_trained(file: Path, dataset: Dataset) -> Normalizer:
    """What the model of a weights file expects to be done to the examples of a data set.

    Raises:
        WeightsError: The file cannot be read, or does not say so.
        ConfigError: It does not fit the data.
    """
    preprocessing, normalizer = normalization_of(file)
    if normalizer is None:
        normalizer = Normalizer(np.zeros(1, np.float32), np.ones(1, np.float32))
    if preprocessing is None:
        return _fitting(normalizer, dataset)
    own = dataset.preprocessing
    if own is None and not _pictures(dataset):
        raise ConfigError(
            PATH, f"{file} is of a model of pictures, and the data are none: expected fit, false or numbers"
        )
    unit = 1.0 if own is None else own.white / 255
    mean, std = (np.asarray(values * unit, np.float32) for values in (normalizer.mean, normalizer.std))
    bgr = preprocessing.bgr != (own is not None and own.bgr)
    return _fitting(Normalizer(mean, std, bgr), dataset)


def in_numbers(experiment: Experiment, normalizer: Normalizer | None) -> Experiment:
    """The experiment with the normalisation that it has from its weights, so that it needs these no more."""
    data = experiment.data
    if experiment.init_from.path is None or not (data.normalize is True or data.normalize == "weights"):
        return experiment
    section = NormalizeSection(mean=[0.0], std=[1.0])
    if normalizer is not None:
        mean, std = normalizer.mean.tolist(), normalizer.std.tolist()
        section = NormalizeSection(mean=mean, std=std, bgr=normalizer.bgr)
    return experiment.model_copy(update={"data": data.model_copy(update={"normalize": section})})


def in_words(normalizer: Normalizer | None) -> str:
    """What is done to an example, for a user.

    Example:
        >>> import numpy as np
        >>> from fnn.data import Normalizer
        >>> from fnn.experiment.normalization import in_words
        >>> in_words(Normalizer(np.float32([123.7]), np.float32([58.4]), bgr=True))
        'mean 123.7, standard deviation 58.4 of blue, green, red'
    """
    if normalizer is None:
        return "as they are"
    mean, std = (
        ", ".join(f"{value:.4g}" for value in values) for values in (normalizer.mean, normalizer.std)
    )
    return f"mean {mean}, standard deviation {std}{' of blue, green, red' if normalizer.bgr else ''}"


def _of_numbers(section: NormalizeSection, dataset: Dataset) -> Normalizer:
    mean, std = (np.asarray(values, np.float32) for values in (section.mean, section.std))
    return _fitting(Normalizer(mean, std, section.bgr), dataset)


def _of_init_from(experiment: Experiment, dataset: Dataset) -> Normalizer:
    if experiment.init_from.path is None:
        raise ConfigError(PATH, "weights: needs init_from, the weights to begin with")
    try:
        return as_trained(weights_file(experiment.init_from.path), dataset)
    except WeightsError as error:
        raise ConfigError(("init_from", "path"), str(error)) from None


def _fitting(found: Normalizer, dataset: Dataset) -> Normalizer:
    """For each channel of the data a number."""
    channels = dataset.train.inputs.shape[-1]
    for name, values in (("mean", found.mean), ("std", found.std)):
        if len(values) not in (1, channels):
            text = f"expected {name} of 1 or {channels} channels, as the data have, got {len(values)}"
            raise ConfigError(PATH, text)
    if found.bgr and not (channels == 3 and _pictures(dataset)):
        raise ConfigError(PATH, f"bgr: expected pictures of 3 channels, got {dataset.train.inputs.shape[1:]}")
    mean, std = (np.broadcast_to(values, channels) for values in (found.mean, found.std))
    return replace(found, mean=mean, std=std)


def _pictures(dataset: Dataset) -> bool:
    return dataset.train.inputs.ndim == 4 and dataset.train.inputs.dtype == np.uint8
