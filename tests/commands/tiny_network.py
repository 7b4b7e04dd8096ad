"""A small published network of the tests' own, with its namings, and PyTorch's form of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import fnn
from fnn.data import Preprocessing
from fnn.layer import Layer
from fnn.models.architecture import Architecture
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import Naming

NAMING = Naming(
    ((r"^stem", "features.0"), (r"^norm", "features.1"), (r"^head", "classifier")),
    flattened={"head": (6, 6, -1)},
)
ARCHITECTURE = Architecture(
    Preprocessing((6, 6), mean=(100.0, 110.0, 120.0), std=(50.0,)),
    {"torchvision": NAMING, "timm": Naming(), "caffe": Naming(((r"^stem", "conv1"),))},
    {"caffe": Preprocessing((6, 6), bgr=True)},
    {"caffe": {"width": 2}},
)


def tinynet(classes: int = 1000, *, width: int = 4) -> Layer:
    """A convolution, a norm, and a classifier after overlapping windows."""
    features = {"stem": fnn.conv(width, 3), "norm": fnn.batch_norm(), "relu": fnn.relu}
    return replace(
        fnn.serial(**features, pool=fnn.max_pool(3, 1, "SAME"), flatten=fnn.flatten, head=fnn.dense(classes)),
        kind="tinynet",
    )


def tinyres(classes: int = 1000, *, scan: bool = False) -> Layer:
    """A residual network of three blocks, in torchvision's names."""
    return replace(fnn.resnet([3], classes=classes, width=2, scan=scan), kind="tinyres")


DEEP = Architecture(ARCHITECTURE.preprocessing, ARCHITECTURES["resnet18"].namings)
"""What is known of `tinyres`."""


def tensors(classes: int = 5, width: int = 4) -> dict[str, np.ndarray]:
    """Drawn weights in torchvision's names; a counter is there, as PyTorch writes it."""
    shapes = {
        "features.0.weight": (width, 3, 3, 3), "features.0.bias": (width,),
        "features.1.weight": (width,), "features.1.bias": (width,),
        "features.1.running_mean": (width,), "features.1.running_var": (width,),
        "classifier.weight": (classes, 36 * width), "classifier.bias": (classes,),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    drawn: dict[str, Any] = {
        name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()
    }
    return drawn | {"features.1.num_batches_tracked": np.array(7)}


def torch_network(classes: int = 5, width: int = 4) -> Any:
    """The same network in PyTorch."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 1, 1)
            )
            self.classifier = nn.Linear(36 * width, classes)

        def forward(self, x: Any) -> Any:
            return self.classifier(self.features(x).flatten(1))

    return Net().eval()
