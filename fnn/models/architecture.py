"""What is known of a published network beside its function: how others prepare pictures and name weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fnn.data import Preprocessing
from fnn.models.exchange import Naming, Rule

IMAGENET = Preprocessing(
    (224, 224), short_side=256, white=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What torchvision's weights for ImageNet expect: its own mean and standard deviation of each channel."""


@dataclass(frozen=True)
class Architecture:
    """A published network, by the name of the function in `fnn.models` that makes it.

    Attributes:
        preprocessing: What the published weights expect.
        namings: By library, how it names and keeps the weights: ``torchvision``, ``timm``, ``caffe``.
        exceptions: By library, what its weights expect where that is something else.
    """

    preprocessing: Preprocessing
    namings: Mapping[str, Naming] = field(default_factory=dict)
    exceptions: Mapping[str, Preprocessing] = field(default_factory=dict)


def renamed(names: Mapping[str, str]) -> tuple[Rule, ...]:
    r"""Rules of a `Naming` that put other words in the place of whole words of a name.

    Example:
        >>> from fnn.models.exchange import Naming
        >>> Naming(renamed({"conv1": "0", "fc8": "6"})).name("classifier/fc8/bias")
        'classifier.6.bias'
    """
    return tuple((rf"\b{re.escape(ours)}\b", theirs) for ours, theirs in names.items())
