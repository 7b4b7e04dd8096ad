"""The published networks, by the names of the functions that make them."""

from __future__ import annotations

from fnn.models.alexnet import ARCHITECTURES as ALEXNET
from fnn.models.architecture import Architecture
from fnn.models.densenet import ARCHITECTURES as DENSENET
from fnn.models.mobilenet import ARCHITECTURES as MOBILENET
from fnn.models.squeezenet import ARCHITECTURES as SQUEEZENET
from fnn.models.vgg import ARCHITECTURES as VGG

ARCHITECTURES: dict[str, Architecture] = ALEXNET | DENSENET | MOBILENET | SQUEEZENET | VGG
