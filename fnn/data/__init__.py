"""Data: sources, batches as pure functions of the seed and the epoch, augmentation on the device."""

from fnn.data.array_files import arrays
from fnn.data.augment import (
    Augmentation,
    Mixed,
    Paired,
    color_jitter,
    compose,
    crop,
    cutmix,
    cutout,
    flip,
    mixup,
    one_of,
    patch,
    randaugment,
    random_erasing,
    random_resized_crop,
    rescale,
    rot90,
    rotate,
    shift,
)
from fnn.data.batches import Normalizer, epoch_order, evaluation_batches, fit_normalizer, steps_per_epoch
from fnn.data.built_in import digits, synthetic
from fnn.data.cifar_files import cifar10, cifar100
from fnn.data.dataset import DataError, Dataset, Part, Split
from fnn.data.files import data_roots
from fnn.data.idx_files import idx, mnist
from fnn.data.image_folders import image_folder
from fnn.data.on_disk import OnDisk
from fnn.data.preprocessing import Preprocessing
from fnn.data.published import Download, download, verify
from fnn.data.super_resolution import super_resolution

__all__ = [
    "Augmentation",
    "DataError",
    "Dataset",
    "Download",
    "Mixed",
    "Normalizer",
    "OnDisk",
    "Paired",
    "Part",
    "Preprocessing",
    "Split",
    "arrays",
    "cifar10",
    "cifar100",
    "color_jitter",
    "compose",
    "crop",
    "cutmix",
    "cutout",
    "data_roots",
    "digits",
    "download",
    "epoch_order",
    "evaluation_batches",
    "fit_normalizer",
    "flip",
    "idx",
    "image_folder",
    "mixup",
    "mnist",
    "one_of",
    "patch",
    "randaugment",
    "random_erasing",
    "random_resized_crop",
    "rescale",
    "rot90",
    "rotate",
    "shift",
    "steps_per_epoch",
    "super_resolution",
    "synthetic",
    "verify",
]
