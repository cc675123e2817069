"""Tissue told from glass on a low-resolution view of the slide.

Losing tissue loses nuclei, while a little glass kept costs some time: all limits lean to keeping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import CalibrationError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.resample import read_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import TissueSettings
    from nucliseg_qp.images.slide import Slide

__all__ = ["TissueMask", "find_tissue"]

MAX_MASK_PIXELS = 1 << 25
"""Larger slides are looked at more coarsely, so that memory stays under about 250 MB."""

FIELD_UM2 = 1e6
FIELD_PX = 2048
"""A picture smaller than either is a field somebody chose: it is tissue as a whole, if any is."""

FIELD_UM = 2.0
"""A field is looked at this closely, so that a single nucleus in its corner is seen."""

_STRIP_PX = 256
_REACH_PX = 4
"""Rows handled at once, and how many beyond them a pixel's verdict depends on."""


@dataclass(frozen=True)
class TissueMask:
    """Where tissue is.

    Parameters
    ----------
    mask : ndarray of bool, shape (height, width)
        True for tissue.
    downsample : float
        Full-resolution pixels per pixel of the mask; mask pixel (i, j) covers
        ``i * downsample <= x < (i + 1) * downsample``.
    """

    mask: NDArray[np.bool_]
    downsample: float

    def extent(self, region: Region) -> Region:
        """Give the smallest part of ``region`` that holds all its tissue; of size 0 without any."""
        left, right = self._span(region.x_px, region.right_px)
        top, bottom = self._span(region.y_px, region.bottom_px)
        part = self.mask[top:bottom, left:right]
        columns, rows = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
        if not len(columns):
            return Region(region.x_px, region.y_px, 0, 0)
        x, y = (math.floor(k * self.downsample) for k in (left + columns[0], top + rows[0]))
        ends = (left + columns[-1] + 1, top + rows[-1] + 1)
        right_px, bottom_px = (math.ceil(k * self.downsample) for k in ends)
        return Region(x, y, right_px - x, bottom_px - y).intersection(region)

    def overlaps_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for many boxes at once whether any tissue lies in them.

        Parameters
        ----------
        boxes : ndarray of float64, shape (n, 4)
            Left, top, right and bottom in full-resolution pixels.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        import cv2

        height, width = self.mask.shape
        limit = np.array([width, height, width, height])
        cell = boxes / self.downsample
        low = np.clip(np.floor(cell[:, :2]), 0, limit[:2]).astype(np.int64)
        high = np.clip(np.ceil(cell[:, 2:]), 0, limit[2:]).astype(np.int64)
        high = np.maximum(high, low)
        total = cv2.integral(self.mask.astype(np.uint8))
        left, top, right, bottom = low[:, 0], low[:, 1], high[:, 0], high[:, 1]
        count = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        return np.asarray(count > 0)

    def contains(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for points of shape (n,) in full-resolution pixels which lie in tissue, as bool."""
        height, width = self.mask.shape
        column = np.floor(np.asarray(x) / self.downsample).astype(np.int64)
        row = np.floor(np.asarray(y) / self.downsample).astype(np.int64)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = np.zeros(inside.shape, np.bool_)
        found[inside] = self.mask[row[inside], column[inside]]
        return found

    def _span(self, low: int, high: int) -> tuple[int, int]:
        return max(0, math.floor(low / self.downsample)), max(0, math.ceil(high / self.downsample))


def find_tissue(slide: Slide, settings: TissueSettings) -> TissueMask:
    """Tell tissue from glass.

    A pixel is tissue when it is darker than glass, coloured unlike it, or when it and its
    neighbours vary (chromatin and fibres do, glass does not). Glass is the brightest grey that
    fills a fair part of the image; without one, plain white is assumed and everything stained is
    tissue. Black borders of the scan and green or blue ink are left out, small gaps closed, specks
    removed and a rim is kept. A small picture (under 1 mm2 or 2048 px a side) is all tissue unless
    it is empty.

    Parameters
    ----------
    slide : Slide
        The image, with a pixel size.
    settings : TissueSettings
        Resolution, smallest area and rim in micrometres; with ``find`` off all is tissue.

    Returns
    -------
    TissueMask

    Raises
    ------
    CalibrationError
        When the slide has no pixel size.
    InputError
        When the file turns out to be damaged.
    """
    if slide.mpp is None:
        raise CalibrationError(f"{slide.path} has no pixel size", "Give it with --slide-mpp.")
    mpp = slide.mpp.mpp
    field = _is_field(slide.dimensions, mpp)
    resolution_um = min(settings.resolution_um, FIELD_UM) if field else settings.resolution_um
    downsample = _mask_downsample(slide.dimensions, resolution_um / mpp)
    width, height = (math.ceil(side / downsample) for side in slide.dimensions)
    if not settings.find:
        return TissueMask(np.ones((height, width), np.bool_), downsample)
    tissue = _tissue_pixels(_read_view(slide, downsample))
    if field:
        return TissueMask(np.full(tissue.shape, tissue.any()), downsample)
    return TissueMask(_tidied(tissue, settings, downsample * mpp), downsample)


def _mask_downsample(dimensions: tuple[int, int], wanted: float) -> float:
    width, height = dimensions
    bounded = max(1.0, wanted, math.sqrt(width * height / MAX_MASK_PIXELS))
    return min(bounded, float(min(dimensions)))


def _is_field(dimensions: tuple[int, int], mpp: float) -> bool:
    area_um2 = dimensions[0] * dimensions[1] * mpp**2
    return area_um2 < FIELD_UM2 or max(dimensions) < FIELD_PX


def _read_view(slide: Slide, downsample: float) -> NDArray[np.uint8]:
    """Read the whole slide, uint8 (height, width, 3)."""
    # A pixel that reaches beyond the image is partly white and would look like an edge, so the
    # last whole one stands for it.
    whole = [math.floor(side / downsample) for side in slide.dimensions]
    ragged = [
        math.ceil(side / downsample) > size
        for side, size in zip(slide.dimensions, whole, strict=True)
    ]
    view = np.empty((whole[1], whole[0], 3), np.uint8)
    for top in range(0, len(view), _STRIP_PX):
        part = view[top : top + _STRIP_PX]
        part[:] = read_grid(slide, downsample, 0, top, whole[0], len(part))
    return np.pad(view, ((0, ragged[1]), (0, ragged[0]), (0, 0)), mode="edge")


# --- what a pixel looks like ---------------------------------------------------------------------

_GREY_SPREAD = 30
_DIM_GLASS = 170
"""Glass has nearly equal channels and is never darker than this."""

_GLASS_SHARE = 0.01
"""Of the image, at least, for a brightness to count as that of glass."""

_PLAIN_WHITE = 245

_MIN_DENSITY = 0.09
_MIN_COLOUR = 0.025
_MIN_TEXTURE = 0.014
"""Optical densities (log10) above which a pixel is darker, more coloured or rougher than glass:
about three times what JPEG, uneven light and two strips of unequal brightness do to glass."""

_BLACK = 40
_GREEN_LEAD = 50
_BLUE_LEAD = 30
_BLUE_INK_RED = 60
"""What no stain looks like at this resolution: black in every channel, green far ahead of the
others, or hardly any red left, less than green, and less of that than blue."""


def _tissue_pixels(view: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Classify each pixel of an RGB view, uint8 (height, width, 3)."""
    # Density per grey level, for glass of the colour found: three tables instead of logarithms.
    glass = _glass_colour(view)
    level = np.arange(256, dtype=np.float32)
    tables = [np.log10((channel + 1) / (level + 1)).clip(-0.1, None) for channel in glass]
    tissue = np.empty(view.shape[:2], np.bool_)
    for top in range(0, len(view), _STRIP_PX):
        first = max(0, top - _REACH_PX)
        found = _tissue_of_strip(view[first : top + _STRIP_PX + _REACH_PX], tables)
        tissue[top : top + _STRIP_PX] = found[top - first :][:_STRIP_PX]
    return tissue


def _glass_colour(view: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give the red, green and blue of glass: the brightest grey with a fair share of the view."""
    pixels = view.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // 1_000_000)]
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    grey = pixels[(high - low < _GREY_SPREAD) & (low > _DIM_GLASS)]
    count = np.bincount(grey.max(axis=1), minlength=256).astype(np.float64)
    share = np.convolve(count, np.ones(5), mode="same") / len(pixels)
    bright = np.flatnonzero(share >= _GLASS_SHARE)
    if not len(bright):
        return np.full(3, float(_PLAIN_WHITE))
    # From the brightest level with that share walk down to the top of its peak.
    peak = int(bright[-1])
    while peak > 0 and share[peak - 1] >= share[peak]:
        peak -= 1
    near = np.abs(grey.max(axis=1).astype(np.int16) - peak) <= 2
    return np.asarray(np.median(grey[near], axis=0), np.float64)


def _tissue_of_strip(
    view: NDArray[np.uint8], tables: list[NDArray[np.float32]]
) -> NDArray[np.bool_]:
    import cv2

    channels = [table[view[..., index]] for index, table in enumerate(tables)]
    darkest = np.maximum(np.maximum(*channels[:2]), channels[2])
    palest = np.minimum(np.minimum(*channels[:2]), channels[2])
    mean = cv2.blur(darkest, (3, 3))
    variance = cv2.blur(darkest * darkest, (3, 3)) - mean * mean
    stained = (darkest > _MIN_DENSITY) | (darkest - palest > _MIN_COLOUR)
    rough = variance > _MIN_TEXTURE**2
    return np.asarray((stained | rough) & ~_foreign(view))


def _foreign(view: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find black borders and green or blue ink, with the two pixels beside them."""
    import cv2

    red, green, blue = (view[..., index].astype(np.int16) for index in range(3))
    black = np.maximum(np.maximum(red, green), blue) < _BLACK
    green_ink = green - np.maximum(red, blue) > _GREEN_LEAD
    blue_ink = (green - red > _BLUE_LEAD) & (blue - green > _BLUE_LEAD) & (red < _BLUE_INK_RED)
    found = (black | green_ink | blue_ink).astype(np.uint8)
    # A single odd pixel is a dark nucleus.
    solid = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.dilate(solid, np.ones((5, 5), np.uint8)), np.uint8).astype(np.bool_)


# --- what a piece of tissue looks like -----------------------------------------------------------


_GAP_UM = 24.0
_HOLE_UM2 = 40_000.0
"""Gaps as narrow and holes as small as this are filled: pale stroma, small lumens."""


def _tidied(tissue: NDArray[np.bool_], settings: TissueSettings, mpp: float) -> NDArray[np.bool_]:
    """Close gaps, drop specks, fill holes and add the rim; ``mpp`` is that of the mask."""
    import cv2

    closed = cv2.morphologyEx(tissue.astype(np.uint8), cv2.MORPH_CLOSE, _disc(_GAP_UM / mpp))
    kept = _without_small(closed.astype(np.bool_), settings.min_area_um2 / mpp**2)
    filled = ~_without_small(~kept, _HOLE_UM2 / mpp**2)
    rim = cv2.dilate(filled.astype(np.uint8), _disc(settings.margin_um / mpp))
    return np.asarray(rim, np.uint8).astype(np.bool_)


def _without_small(mask: NDArray[np.bool_], min_area_px: float) -> NDArray[np.bool_]:
    """Drop the connected pieces of fewer pixels."""
    import cv2

    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= min_area_px
    large[0] = False
    return np.asarray(large[label], np.bool_)


def _disc(radius_px: float) -> NDArray[np.uint8]:
    radius = math.ceil(radius_px)
    across = np.arange(-radius, radius + 1)
    inside = across[:, None] ** 2 + across**2 <= max(radius_px, radius) ** 2
    return inside.astype(np.uint8)
