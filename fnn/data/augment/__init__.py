"""Augmentation on the device: pure functions of a key and a batch of images.

A constructor returns ``augment(key, images) -> images``, which keeps the shape ``(n, h, w, c)`` and
the dtype and treats each image by a draw of its own. Each is a draw followed by a deterministic
transform; both are functions of their own, to be called and tested apart. What mixes examples with each
other returns a `Mixed`, which says how the loss is to be mixed, too. Where targets are pictures, it takes
and returns a `Paired`, and may make both smaller.

Images are in the values of their source, before normalisation: bytes from 0 to 255 as float32, unless
``white`` says otherwise (16 for the digits). What comes into view from outside an image is 0: black
before normalisation, the mean after it.
"""

from fnn.data.augment.augmentation import Augmentation, Mixed, Paired, compose, one_of
from fnn.data.augment.colour import color_jitter
from fnn.data.augment.erasing import cutout, random_erasing
from fnn.data.augment.geometry import crop, flip, rotate, shift
from fnn.data.augment.mixing import cutmix, mixup
from fnn.data.augment.pairs import patch, rescale, rot90
from fnn.data.augment.policy import randaugment
from fnn.data.augment.resized import random_resized_crop

__all__ = [
    "Augmentation",
    "Mixed",
    "Paired",
    "color_jitter",
    "compose",
    "crop",
    "cutmix",
    "cutout",
    "flip",
    "mixup",
    "one_of",
    "patch",
    "randaugment",
    "random_erasing",
    "random_resized_crop",
    "rescale",
    "rot90",
    "rotate",
    "shift",
]
