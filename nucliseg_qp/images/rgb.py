"""Transparency: what is not opaque shows the white of empty glass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["over_white"]


def over_white(rgba: NDArray[np.uint8], premultiplied: bool = False) -> NDArray[np.uint8]:
    """Lay an image with transparency over white.

    Parameters
    ----------
    rgba : ndarray of uint8, shape (height, width, 4)
        Colour and opacity.
    premultiplied : bool
        Whether colours are already multiplied by the opacity (TIFF's associated alpha).

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB, contiguous.
    """
    rgb, alpha = rgba[..., :3], rgba[..., 3]
    if int(alpha.min(initial=255)) == 255:
        return np.ascontiguousarray(rgb)
    opacity = alpha[..., None].astype(np.uint16)
    colour = rgb.astype(np.uint16) * (255 if premultiplied else opacity)
    light = np.minimum(colour.astype(np.uint32) + 255 * (255 - opacity), 255 * 255)
    return np.asarray((light + 127) // 255, np.uint8)
