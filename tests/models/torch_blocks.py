"""The pieces of which networks are written out in PyTorch, their modules named as our layers are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest


def seq(**children: Any) -> Any:
    """One module after the other."""
    return pytest.importorskip("torch").nn.Sequential(OrderedDict(children))


def conv(inputs: int, features: int, kernel: int, stride: int = 1) -> Any:
    nn = pytest.importorskip("torch").nn
    return nn.Conv2d(inputs, features, kernel, stride, padding=kernel // 2, bias=False)


def residual(body: Any, skip: Any = None, activation: Any = None) -> Any:
    """``activation(body(x) + skip(x))``."""
    nn = pytest.importorskip("torch").nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.skip, self.activation = body, skip, activation

        def forward(self, x: Any) -> Any:
            y = self.body(x) + (x if self.skip is None else self.skip(x))
            return y if self.activation is None else self.activation(y)

    return Residual()


def function(f: Callable[[Any], Any]) -> Any:
    """A function as a module."""
    nn = pytest.importorskip("torch").nn

    class Function(nn.Module):
        def forward(self, x: Any) -> Any:
            return f(x)

    return Function()


def mean_over_space() -> Any:
    return function(lambda x: x.mean((2, 3)))


def biased_conv(inputs: int, features: int, kernel: int) -> Any:
    nn = pytest.importorskip("torch").nn
    return nn.Conv2d(inputs, features, kernel, padding=kernel // 2)


def bicubic(scale: int) -> Any:
    """PyTorch's with a = −0.5 and weights that sum to 1 at the border, too; its plain one has a = −0.75."""
    interpolate = pytest.importorskip("torch").nn.functional.interpolate
    return function(lambda x: interpolate(x, scale_factor=scale, mode="bicubic", antialias=True))
