"""What is known of a published network beside its function: how others prepare pictures and name weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fnn.data import Preprocessing
from fnn.models.exchange import Naming


@dataclass(frozen=True)
class Architecture:
    """A published network, by the name of the function in `fnn.models` that makes it.

    Attributes:
        preprocessing: What the published weights expect.
        namings: By library, how it names and keeps the weights: ``torchvision``, ``timm``, ``caffe``.
    """

    preprocessing: Preprocessing
    namings: Mapping[str, Naming] = field(default_factory=dict)
