"""The best epoch by a figure of the validation part, and when to stop looking for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fnn.layer import Params, State
from fnn.training.snapshot import take
from fnn.trees import from_paths


class Selection:
    """Keeps the model of the best epoch so far.

    Args:
        direction: Whether the smallest figure is the best, or the largest.
        metric: Its name: ``loss``, ``accuracy``.
        patience: Epochs in a row without a better figure after which training stops; None: it does not.

    Attributes:
        step: After which the best figure was measured; 0 before the first.
        value: The best figure.
        stale: Epochs since then.

    Example:
        >>> from fnn.training import Selection
        >>> selection = Selection("max", "accuracy", patience=2)
        >>> for step, accuracy in enumerate([0.5, 0.9, 0.8, 0.9], start=1):
        ...     better = selection.judge({"accuracy": accuracy}, step, {}, {})
        >>> selection.step, selection.value, selection.exhausted
        (2, 0.9, True)
    """

    def __init__(self, direction: Literal["min", "max"], metric: str, patience: int | None = None) -> None:
        self.direction, self.metric, self.patience = direction, metric, patience
        self.step, self.value, self.stale = 0, math.nan, 0
        self.arrays: dict[str, np.ndarray] = {}

    def judge(self, figures: Mapping[str, Any], step: int, params: Params, state: State) -> bool:
        """Whether these figures are better than all before; if so, the model is kept. NaN never is."""
        value = float(figures[self.metric])
        better = value < self.value if self.direction == "min" else value > self.value
        if not better and not (self.step == 0 and value == value):
            self.stale += 1
            return False
        self.step, self.value, self.stale = step, value, 0
        self.arrays = take({"params": params, "state": state})
        return True

    @property
    def exhausted(self) -> bool:
        """Whether no epoch was better for as many as patience allows."""
        return self.patience is not None and self.stale >= self.patience

    def model(self) -> tuple[Params, State]:
        """Params and state of the best epoch."""
        tree = from_paths(self.arrays)
        return tree.get("params", {}), tree.get("state", {})

    def info(self) -> dict[str, Any]:
        """What a checkpoint notes of it, beside the arrays."""
        sought = {"direction": self.direction, "metric": self.metric}
        return {**sought, "step": self.step, "value": self.value, "stale": self.stale}

    def restore(self, info: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Go on from what a checkpoint noted; a fork that looks for another best begins anew."""
        if (info["direction"], info["metric"]) != (self.direction, self.metric):
            return
        self.step, self.value, self.stale = info["step"], info["value"], info["stale"]
        self.arrays = arrays
