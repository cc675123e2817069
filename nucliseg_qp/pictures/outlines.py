"""Outlines in class colours that can be seen on pale and on dark nuclei, at any scale."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.nuclei import Nuclei

__all__ = ["Outlines", "line_px"]

NUCLEUS_UM = 8.0
LINES = ((16.0, 1), (50.0, 2))
"""Lines are so many pixels wide below a size of the nuclei in pixels, and 3 above."""
DARKEST_LIGHTNESS = 0.45
"""Colours of classes are made for QuPath's thick lines: thin ones drown unless they are darker."""
FRACTION_BITS = 4
UNCLASSIFIED_RGB = (0, 0, 0)


def line_px(mpp: float) -> int:
    """Give how wide a line is in a picture of ``mpp`` um a pixel."""
    nucleus_px = NUCLEUS_UM / mpp
    return next((width for below, width in LINES if nucleus_px < below), 3)


class Outlines:
    """Collects outlines and lays them over a picture at the end.

    Collecting costs little; wide lines are made of thin ones once for the whole picture.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        The picture, RGB; it is not changed.
    colours : sequence of (int, int, int)
        RGB of each class, in the order of ``Nuclei.class_index``.
    corner_px : (float, float)
        Full-resolution position of the picture's corner, x before y.
    scale : float
        Picture pixels per full-resolution pixel.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        colours: Sequence[tuple[int, int, int]],
        corner_px: tuple[float, float],
        scale: float,
    ) -> None:
        # Nothing, no class, then the classes: a later class lies over an earlier one.
        self._layer = np.zeros(image.shape[:2], np.uint8)
        self._image = image
        self._colours = [UNCLASSIFIED_RGB, *map(_strong, colours)]
        self._corner_px, self._scale = corner_px, scale

    def add(self, nuclei: Nuclei) -> None:
        """Draw nuclei given in full-resolution pixels."""
        import cv2

        if not len(nuclei):
            return
        # OpenCV counts from the centre of the first pixel, QuPath from its corner.
        xy = ((nuclei.ring_xy - self._corner_px) * self._scale - 0.5) * (1 << FRACTION_BITS)
        rings = np.split(np.rint(xy).astype(np.int32), nuclei.ring_start[1:-1])
        for index in np.unique(nuclei.class_index).tolist():
            chosen = [rings[row] for row in np.flatnonzero(nuclei.class_index == index).tolist()]
            cv2.polylines(self._layer, chosen, True, index + 2, shift=FRACTION_BITS)

    def picture(self, line_px: int) -> NDArray[np.uint8]:
        """Give the picture with lines ``line_px`` wide on it."""
        import cv2

        layer = cv2.dilate(self._layer, np.ones((line_px, line_px), np.uint8))
        table = np.zeros((256, 1, 3), np.uint8)
        table[1 : 1 + len(self._colours), 0] = self._colours
        lines = cv2.LUT(cv2.merge([layer] * 3), table)
        drawn: NDArray[np.uint8] = self._image.copy()
        cv2.copyTo(lines, layer, drawn)
        return drawn


def _strong(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(value / 255 for value in rgb))
    strong = colorsys.hls_to_rgb(hue, min(lightness, DARKEST_LIGHTNESS), saturation)
    red, green, blue = (round(255 * value) for value in strong)
    return red, green, blue
