"""What a convolution is, apart from its arrays: the same for its three directions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Spec:
    """The geometry of a convolution; the key under which it is traced and compiled.

    A convolution is a bilinear map between three arrays: ``x (batch, *space, in)``, ``kernel
    (*window, in / groups, out)`` and ``y (batch, *out_space, out)``. Any two determine the third, and each
    of these three directions is the transpose of the others.

    Attributes:
        space: Lengths of the spatial axes of ``x``; none for a matrix product.
        window: Lengths of the spatial axes of the kernel.
        stride, dilation: One number a spatial axis.
        padding: Cells before and after each spatial axis of ``x``.
        groups: Into how many the channels are split.
    """

    space: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.space)

    @property
    def reach(self) -> tuple[int, ...]:
        """How many cells a window spans along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.window, self.dilation, strict=True))

    @property
    def out_space(self) -> tuple[int, ...]:
        """Lengths of the spatial axes of ``y``."""
        sizes = zip(self.space, self.padding, self.reach, self.stride, strict=True)
        return tuple((n + a + b - r) // s + 1 for n, (a, b), r, s in sizes)

    def times(self, n: int) -> Spec:
        """The same with ``n`` times as many groups."""
        return replace(self, groups=n * self.groups)

    def __str__(self) -> str:
        return (
            f"window {self.window}, space {self.space}, stride {self.stride}, padding {self.padding}, "
            f"dilation {self.dilation}, groups {self.groups}"
        )


def acc(dtype: np.dtype) -> np.dtype:
    """The type that sums are made in, and that kernels have: float32, or float64 where the input is."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
