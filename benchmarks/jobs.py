"""What is timed: a network, its batches and its optimiser, the same for every peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from benchmarks import networks
from benchmarks.networks import Layers, Shape


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        layers: The network.
        shape: The shape of one example.
        batch: Examples in a batch.
        batches: Batches in turn; in the mode ``scanned`` an epoch, one compiled call.
        optimizer: ``adam`` (rate 1e-3), ``sgd`` (rate 0.01, momentum 0.9), or None for inference, which is
            in evaluation mode, with the parameters closed over, each call awaited.
    """

    layers: Layers
    shape: Shape
    batch: int
    batches: int
    optimizer: Literal["adam", "sgd"] | None

    @property
    def modes(self) -> tuple[str, ...]:
        return MODES if self.optimizer else MODES[:1]


MODES = ("dispatched", "scanned")
"""A jitted step called once a batch, and an epoch of them by ``lax.scan`` in one jitted call."""
DEVICES = ("cpu", "gpu")
DTYPES = ("float32", "bfloat16")
"""Of the activations and products; parameters and the optimiser's state are float32."""

_LENET = Job(networks.lenet(), (28, 28, 1), 128, 8, "sgd")
_RESNET18 = Job(networks.resnet18(), (32, 32, 3), 64, 4, "sgd")

JOBS = {
    "digits_mlp": Job(networks.mlp(64, 10), (64,), 128, 32, "adam"),
    "mlp": Job(networks.mlp(512, 512, 10), (784,), 128, 32, "adam"),
    "lenet": _LENET,
    "resnet18": _RESNET18,
    "depthwise": Job(networks.depthwise(), (32, 32, 3), 64, 4, "sgd"),
    "lenet_infer1": replace(_LENET, batch=1, optimizer=None),
    "lenet_infer128": replace(_LENET, optimizer=None),
    "resnet18_infer1": replace(_RESNET18, batch=1, optimizer=None),
    "resnet18_infer128": replace(_RESNET18, batch=128, optimizer=None),
}


def make_batches(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(batches, batch, *shape)`` and labels ``(batches, batch)`` of 10 classes."""
    rng = np.random.default_rng(networks.SEED)
    x = rng.standard_normal((job.batches, job.batch, *job.shape), np.float32)
    return x, rng.integers(0, 10, x.shape[:2], np.int32)


@dataclass(frozen=True)
class Run:
    """A job prepared by a peer.

    Attributes:
        logits: Of the first batch with the first weights, ``(batch, 10)`` in float32; called first.
        call: ``call(n)`` makes n calls, waits for the last and gives its losses, if the job trains.
        steps: Steps in a call.
    """

    logits: Callable[[], np.ndarray]
    call: Callable[[int], Any]
    steps: int
