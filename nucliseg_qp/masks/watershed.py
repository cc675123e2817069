"""The seeded watershed: from keypoints to a label image.

The method is marker-controlled flooding (Meyer 1991, OpenCV's implementation) between the seeds of
all nuclei and the background.  It decides which nucleus a pixel belongs to; where a nucleus ends is
decided by its own contrast to the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nucliseg_qp.geometry import Region
from nucliseg_qp.masks.outlines import GreyBorder
from nucliseg_qp.masks.seeds import Zones, draw_middles, find_zones

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings
    from nucliseg_qp.masks.statistics import SlideStatistics

__all__ = ["MaskSteps", "flood", "label_nuclei", "smooth"]

RED = 0
ROUND_UM = 0.5
"""Notches and tails narrower than about twice this are rounded off."""
BACKGROUND = 1
"""Marker of the flood; that of nucleus ``i`` is ``i + 2``."""


class MaskSteps(NamedTuple):
    """Labels and what led to them, all at the resolution of the outlines.

    ``adjusted`` (uint8 RGB) and ``zones`` are for explanation; ``border`` tells where between two
    pixels each of the ``labels`` (int32) ends.
    """

    adjusted: NDArray[np.uint8]
    zones: Zones
    labels: NDArray[np.int32]
    border: GreyBorder


def label_nuclei(
    image: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
    radii_px: NDArray[np.float32],
    statistics: SlideStatistics,
    settings: MaskSettings,
    mpp: float,
    window: Region | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> MaskSteps:
    """Give every pixel the number of its nucleus.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        RGB at ``mpp``.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels of ``image``; every one lies inside.
    radii_px : ndarray of float32, shape (n, 16)
        How far each nucleus reaches, in pixels of ``image``.
    statistics : SlideStatistics
        Of the whole slide.
    settings : MaskSettings
        Lengths in um.
    mpp : float
        Pixel size of ``image`` in um.
    window : Region, optional
        Part of the image that is wanted, in its pixels; the flood uses all of the image.
    wanted : ndarray of bool, shape (n,), optional
        Keypoints whose nuclei are labelled; the others only hold their ground in the flood.

    Returns
    -------
    MaskSteps
        Of the window. ``labels`` holds ``i + 1`` for the wanted keypoint ``i``, 0 elsewhere.  A
        label may still have holes and islands; see `nucliseg_qp.masks.outlines`.
    """
    import cv2

    adjusted = smooth(statistics.adjust(image), settings.smooth_um / mpp)
    threshold = min(statistics.threshold + settings.otsu_offset, statistics.background)
    red = np.asarray(cv2.extractChannel(adjusted, RED), np.uint8)
    share = settings.local_contrast
    palest = (1 - share) * threshold + share * statistics.background
    zones = find_zones(red, keypoints, radii_px, palest, settings, mpp)
    labels = flood(adjusted, zones)
    found = _Found.of(labels, red, keypoints, settings.reach_um / mpp)
    darkness = found.darkness(len(keypoints), threshold)
    limit = (1 - share) * darkness + share * statistics.background
    labels.reshape(-1)[found.beyond(limit, settings.max_area_um2 / mpp**2)] = 0
    # What the network is sure of stays, such as pale chromatin and nucleoli.
    np.copyto(labels, zones.seeds, where=zones.seeds > 0)
    labels = rounded(labels, ROUND_UM / mpp)
    number = _numbers(np.ones(len(keypoints), bool) if wanted is None else wanted)
    part = _slices(window or Region(0, 0, image.shape[1], image.shape[0]))
    draw_middles(labels, keypoints)
    held = np.append(0, np.flatnonzero(number))
    return MaskSteps(
        adjusted[part],
        Zones(zones.seeds[part], zones.unknown[part]),
        np.take(number, labels[part]),
        GreyBorder.of(red[part], labels[part], limit[held]),
    )


class _Found(NamedTuple):
    """The pixels a flood gave to nuclei, one after the other: place, label, red and distance.

    ``squared_px`` is the squared distance to the label's own keypoint; ``near`` tells which are
    within reach of it, since a flood may run on into what only a neighbour can reach.
    """

    place: NDArray[np.int64]
    owner: NDArray[np.int64]
    level: NDArray[np.uint8]
    squared_px: NDArray[np.float32]
    near: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        labels: NDArray[np.int32],
        red: NDArray[np.uint8],
        keypoints: NDArray[np.float64],
        reach_px: float,
    ) -> _Found:
        height, width = labels.shape
        # Of a comparison, in which numpy finds the true ones four times as fast as in numbers.
        found = labels > 0
        place = np.flatnonzero(found)
        owner = labels.reshape(-1).take(place).astype(np.int64)
        row = np.repeat(np.arange(height, dtype=np.int32), np.count_nonzero(found, axis=1))
        column = place.astype(np.int32) - row * np.int32(width)
        x, y = np.concatenate([[[0.5, 0.5]], keypoints]).astype(np.float32).T - np.float32(0.5)
        across, down = column - x.take(owner), row - y.take(owner)
        squared_px = across * across + down * down
        level = red.reshape(-1).take(place)
        return cls(place, owner, level, squared_px, squared_px <= reach_px**2)

    def darkness(self, count: int, threshold: float) -> NDArray[np.float64]:
        """Give the mean level of each nucleus's foreground, of label 0 to ``count``."""
        # A pale nucleus and a dark one share the slide's threshold but not the height of their
        # border: each ends where it has faded to a share of its own contrast.  What is measured
        # is the foreground it was given, not its seed, which may lie on a nucleolus.
        dark = np.flatnonzero(self.near & (self.level < threshold))
        owner = self.owner.take(dark)
        size = np.bincount(owner, minlength=count + 1)
        total = np.bincount(owner, self.level.take(dark), count + 1)
        return np.where(size > 0, total / np.maximum(size, 1), threshold)

    def beyond(self, limit: NDArray[np.float64], max_area_px: float) -> NDArray[np.int64]:
        """Give the places outside: too far, paler than the label's limit, or too much of it."""
        # Levels are whole numbers, so the limits may be: a take of bytes is the cheaper one.
        whole = np.floor(np.minimum(limit, 255)).astype(np.uint8)
        kept = self.near & (self.level <= whole.take(self.owner))
        gone = np.flatnonzero(~kept)
        size = np.bincount(self.owner, minlength=len(limit))
        size -= np.bincount(self.owner.take(gone), minlength=len(limit))
        large = size > max_area_px
        if large.any():
            kept &= ~large.take(self.owner) | (self.squared_px <= max_area_px / np.pi)
            gone = np.flatnonzero(~kept)
        return self.place.take(gone)


def _numbers(wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give the new number of each label, 0 for those that are not wanted, shape (n + 1,)."""
    number = np.zeros(len(wanted) + 1, np.int32)
    number[1:][wanted] = np.arange(1, int(wanted.sum()) + 1)
    return number


def _slices(window: Region) -> tuple[slice, slice]:
    return slice(window.y_px, window.bottom_px), slice(window.x_px, window.right_px)


def smooth(image: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Blur with a Gaussian; nothing happens below a fifth of a pixel."""
    import cv2

    if sigma_px < 0.2:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def rounded(labels: NDArray[np.int32], radius_px: float) -> NDArray[np.int32]:
    """Round notches, tails and steps off by a median of labels over up to 5 x 5 pixels.

    A median invents no label. Between nuclei it takes the side that has more pixels; where three
    labels meet it is arbitrary but the same in every tile, as keypoints keep their order.
    """
    import cv2

    reach_px = min(2, round(radius_px))
    if reach_px == 0:
        return labels
    # OpenCV has this median for float32, which holds every label exactly, but not for int32.
    return cv2.medianBlur(labels.astype(np.float32), 2 * reach_px + 1).astype(np.int32)


def flood(image: NDArray[np.uint8], zones: Zones) -> NDArray[np.int32]:
    """Flood the unknown pixels of an RGB image from the seeds and the background.

    OpenCV leaves a line of -1 between labels; it is given to the nuclei beside it, else touching
    nuclei would be parted and all would be a pixel too small.
    """
    import cv2

    # Seeds lie outside of what is unknown.
    labels = np.add(zones.seeds, ~zones.unknown, dtype=np.int32)
    cv2.watershed(image, labels)
    line = np.flatnonzero((labels < 0) & zones.unknown)
    np.maximum(labels, BACKGROUND, out=labels)
    labels -= BACKGROUND
    flat, width = labels.reshape(-1), labels.shape[1]
    # The outermost line of pixels is OpenCV's own and no neighbour lies beyond it.
    row, column = np.divmod(line, width)
    inner = (row > 0) & (row < len(labels) - 1) & (column > 0) & (column < width - 1)
    line = line[inner]
    steps = [down * width + across for down in (-1, 0, 1) for across in (-1, 0, 1)]
    best = np.zeros(len(line), np.int32)
    for step in steps:
        np.maximum(best, flat.take(line + step), out=best)
    flat[line] = best
    return labels
