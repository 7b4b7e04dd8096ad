"""Luma and chroma of digital video, as super-resolution is measured and shown: BT.601 in 16 to 235."""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np

Values = TypeVar("Values", np.ndarray, jax.Array)

_TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_TO_RGB = np.linalg.inv(_TO_YCBCR)
_OFFSET = np.array([16.0, 128.0, 128.0])


def rgb_to_ycbcr(rgb: Values) -> Values:
    """Red, green and blue from 0 to 255 to luma from 16 to 235 and chroma from 16 to 240.

    Nothing is rounded. MATLAB's ``rgb2ycbcr`` is the same, rounded where bytes come in.

    Args:
        rgb: ``(..., 3)`` of a floating dtype.

    Example:
        >>> import numpy as np
        >>> from fnn.luma import rgb_to_ycbcr
        >>> rgb_to_ycbcr(np.float32([[255, 255, 255], [255, 0, 0]])).round(1).tolist()
        [[235.0, 128.0, 128.0], [81.5, 90.2, 240.0]]

    Source: Recommendation ITU-R BT.601.
    """
    ycbcr: Values = rgb @ _TO_YCBCR.T.astype(rgb.dtype) + _OFFSET.astype(rgb.dtype)
    return ycbcr


def ycbcr_to_rgb(ycbcr: Values) -> Values:
    """The way back of `rgb_to_ycbcr`; what no colour has comes out below 0 or above 255.

    Example:
        >>> import numpy as np
        >>> from fnn.luma import ycbcr_to_rgb
        >>> ycbcr_to_rgb(np.float32([[235, 128, 128]])).round(1).tolist()
        [[255.0, 255.0, 255.0]]
    """
    rgb: Values = (ycbcr - _OFFSET.astype(ycbcr.dtype)) @ _TO_RGB.T.astype(ycbcr.dtype)
    return rgb


def luma(rgb: Values) -> Values:
    """The first of `rgb_to_ycbcr` alone, ``(..., 1)``.

    Example:
        >>> import numpy as np
        >>> from fnn.luma import luma
        >>> luma(np.float32([[0, 0, 0]])).tolist()
        [[16.0]]
    """
    y: Values = rgb @ _TO_YCBCR[:1].T.astype(rgb.dtype) + _OFFSET[:1].astype(rgb.dtype)
    return y
