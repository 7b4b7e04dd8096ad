"""Luma and chroma of digital video, as super-resolution is measured and shown: BT.601 in 16 to 235."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Values = TypeVar("Values", np.ndarray, jax.Array)

_TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_TO_RGB = np.linalg.inv(_TO_YCBCR)
_OFFSET = np.array([16.0, 128.0, 128.0])


def rgb_to_ycbcr(rgb: Values) -> Values:
    """Red, green and blue from 0 to 255 to luma from 16 to 235 and chroma from 16 to 240.

    Nothing is rounded. MATLAB's ``rgb2ycbcr`` is the same, rounded where bytes come in.

    Args:
        rgb: ``(..., 3)`` of a floating dtype, which the result has, too.

    Raises:
        ValueError: They are whole numbers, or not of 3 channels.

    Example:
        >>> import numpy as np
        >>> from fnn.luma import rgb_to_ycbcr
        >>> rgb_to_ycbcr(np.array([[255.0, 255.0, 255.0], [255.0, 0.0, 0.0]])).round(1).tolist()
        [[235.0, 128.0, 128.0], [81.5, 90.2, 240.0]]

    Source: Recommendation ITU-R BT.601.
    """
    _check("rgb_to_ycbcr", rgb)
    ycbcr: Values = _mixed(rgb, _TO_YCBCR) + _along(rgb, _OFFSET)
    return ycbcr


def ycbcr_to_rgb(ycbcr: Values) -> Values:
    """The way back of `rgb_to_ycbcr`; what no colour has comes out below 0 or above 255.

    Args:
        ycbcr: ``(..., 3)`` of a floating dtype, which the result has, too.

    Raises:
        ValueError: They are whole numbers, or not of 3 channels.

    Example:
        >>> import numpy as np
        >>> from fnn.luma import ycbcr_to_rgb
        >>> ycbcr_to_rgb(np.float32([[235, 128, 128]])).round(1).tolist()
        [[255.0, 255.0, 255.0]]
    """
    _check("ycbcr_to_rgb", ycbcr)
    return _mixed(ycbcr - _along(ycbcr, _OFFSET), _TO_RGB)


def luma(rgb: Values) -> Values:
    """The first of `rgb_to_ycbcr` alone, ``(..., 1)``.

    Args:
        rgb: ``(..., 3)`` of a floating dtype, which the result has, too.

    Raises:
        ValueError: They are whole numbers, or not of 3 channels.

    Example:
        >>> import numpy as np
        >>> from fnn.luma import luma
        >>> luma(np.float32([[0, 0, 0]])).tolist()
        [[16.0]]
    """
    _check("luma", rgb)
    y: Values = _mixed(rgb, _TO_YCBCR[:1]) + _along(rgb, _OFFSET[:1])
    return y


def _check(name: str, colours: Values) -> None:
    if not jnp.issubdtype(colours.dtype, jnp.floating) or colours.shape[-1:] != (3,):
        raise ValueError(
            f"{name}: expected floating-point colours (..., 3), got {colours.dtype} {colours.shape}"
        )


def _mixed(colours: Values, matrix: np.ndarray) -> Values:
    """Every colour times the matrix."""
    with jax.default_matmul_precision("highest"):  # a GPU's own would be off by a tenth of a byte
        mixed: Values = colours @ matrix.T.astype(colours.dtype)
    return mixed


def _along(colours: Values, values: np.ndarray) -> np.ndarray:
    """Values of the channels, to be added to the colours."""
    return values.astype(colours.dtype).reshape(*[1] * (colours.ndim - 1), -1)
