"""The seeded watershed: from keypoints to a label image.

The method is marker-controlled flooding (Meyer 1991, OpenCV's implementation) between the seeds of
all nuclei and the background.  It decides which nucleus a pixel belongs to; where a nucleus ends is
decided by its own contrast to the background.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nucliseg_qp.geometry import Region
from nucliseg_qp.masks.contours import places, run_starts, spread
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

_ONE_PIXEL = 2.0**30


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

    planes = [smooth(plane, settings.smooth_um / mpp) for plane in statistics.adjust(image)]
    adjusted, red = np.asarray(cv2.merge(planes), np.uint8), planes[RED]
    threshold = min(statistics.threshold + settings.otsu_offset, statistics.background)
    share = settings.local_contrast
    palest = (1 - share) * threshold + share * statistics.background
    zones = find_zones(red, keypoints, radii_px, palest, settings, mpp)
    labels = flood(adjusted, zones)
    found = _Found.of(labels, red, keypoints, settings.reach_um / mpp)
    limit = (1 - share) * found.darkness(threshold) + share * statistics.background
    labels.reshape(-1)[found.beyond(limit, settings.max_area_um2 / mpp**2)] = 0
    # What the network is sure of stays, such as pale chromatin and nucleoli.
    np.copyto(labels, zones.seeds, where=zones.seeds > 0)
    labels = rounded(labels, ROUND_UM / mpp)
    draw_middles(labels, keypoints)
    return _steps(adjusted, red, zones, labels, limit, wanted, window)


def _steps(
    adjusted: NDArray[np.uint8],
    red: NDArray[np.uint8],
    zones: Zones,
    labels: NDArray[np.int32],
    limit: NDArray[np.float64],
    wanted: NDArray[np.bool_] | None,
    window: Region | None,
) -> MaskSteps:
    """Give what is wanted of it all; ``limit`` is the level each of labels 0 to n ends at."""
    number = _numbers(np.ones(len(limit) - 1, bool) if wanted is None else wanted)
    part = _slices(window or Region(0, 0, red.shape[1], red.shape[0]))
    held = np.append(0, np.flatnonzero(number))
    return MaskSteps(
        adjusted[part],
        Zones(zones.seeds[part], zones.unknown[part]),
        np.take(number, labels[part]),
        GreyBorder.of(red[part], labels[part], limit[held]),
    )


class _Found(NamedTuple):
    """The pixels a flood gave to nuclei, one after the other: flat place, label and red.

    ``size`` counts those of each label, 0 to n; ``far`` are the numbers of pixels beyond reach of
    their own keypoint, since a flood may run on into what only a neighbour can reach.
    """

    place: NDArray[np.int64]
    owner: NDArray[np.int64]
    level: NDArray[np.uint8]
    size: NDArray[np.int64]
    far: NDArray[np.int64]
    centres: _Centres

    @classmethod
    def of(
        cls,
        labels: NDArray[np.int32],
        red: NDArray[np.uint8],
        keypoints: NDArray[np.float64],
        reach_px: float,
    ) -> _Found:
        # A nucleus is hundreds of pixels but a few dozen runs.  None goes on in the next row:
        # OpenCV leaves the outermost line of the image to nobody.
        flat = labels.reshape(-1)
        first = run_starts(flat)
        number, owner = np.diff(first, append=flat.size), flat.take(first).astype(np.int64)
        held = np.flatnonzero(owner > 0)
        first, number, owner = first.take(held), number.take(held), owner.take(held)
        place, each = spread(first, number), np.repeat(owner, number)
        centres = _Centres.of(keypoints, labels.shape[1])
        # One of the ends of a run is farthest, so that only few runs are looked into.
        ends = (centres.squared_px(end, owner) for end in (first, first + number - 1))
        wide = np.flatnonzero(np.maximum(*ends) > reach_px**2)
        some = spread((np.cumsum(number) - number)[wide], number[wide])
        far = some[centres.squared_px(place[some], each[some]) > reach_px**2]
        size = np.bincount(owner, number, len(keypoints) + 1).astype(np.int64)
        return cls(place, each, red.reshape(-1).take(place), size, far, centres)

    def darkness(self, threshold: float) -> NDArray[np.float64]:
        """Give the mean level of each nucleus's foreground, of label 0 to n."""
        import cv2

        if not len(self.place):
            return np.full(len(self.size), threshold)
        # A pale nucleus and a dark one share the slide's threshold but not the height of their
        # border: each ends where it has faded to a share of its own contrast.  What is measured
        # is the foreground it was given, not its seed, which may lie on a nucleolus.
        level = np.arange(256.0)
        # One sum counts pixels above 2^30 and adds up levels below: doubles hold 4 million exactly.
        weight = cv2.LUT(self.level, np.where(level < threshold, level + _ONE_PIXEL, 0)).reshape(-1)
        weight[self.far] = 0
        size, total = np.divmod(np.bincount(self.owner, weight, len(self.size)), _ONE_PIXEL)
        return np.where(size > 0, total / np.maximum(size, 1), threshold)

    def beyond(self, limit: NDArray[np.float64], max_area_px: float) -> NDArray[np.int64]:
        """Give the places outside: too far, paler than the label's limit, or too much of it."""
        # Levels are whole numbers, so the limits may be: a take of bytes is the cheaper one.
        whole = np.floor(np.minimum(limit, 255)).astype(np.uint8)
        kept = self.level <= whole.take(self.owner)
        kept[self.far] = False
        gone = np.flatnonzero(~kept)
        size = self.size - np.bincount(self.owner.take(gone), minlength=len(limit))
        large = size > max_area_px
        if large.any():
            some = np.flatnonzero(large.take(self.owner))
            squared_px = self.centres.squared_px(self.place.take(some), self.owner.take(some))
            kept[some[squared_px > max_area_px / np.pi]] = False
            gone = np.flatnonzero(~kept)
        return self.place.take(gone)


class _Centres(NamedTuple):
    """Where the keypoints of labels 0 to n are, and how many pixels a row has."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    width: int

    @classmethod
    def of(cls, keypoints: NDArray[np.float64], width: int) -> _Centres:
        x, y = np.concatenate([[[0.5, 0.5]], keypoints]).T - 0.5
        return cls(x, y, width)

    def squared_px(self, place: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the squared distance of pixels at flat places to the keypoints of their labels."""
        row, column = np.divmod(place, self.width)
        across, down = column - self.x.take(owner), row - self.y.take(owner)
        squared: NDArray[np.float64] = across * across + down * down
        return squared


def _numbers(wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give the new number of each label, 0 for those that are not wanted, shape (n + 1,)."""
    number = np.zeros(len(wanted) + 1, np.int32)
    number[1:][wanted] = np.arange(1, int(wanted.sum()) + 1)
    return number


def _slices(window: Region) -> tuple[slice, slice]:
    return slice(window.y_px, window.bottom_px), slice(window.x_px, window.right_px)


def smooth(plane: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Blur with a Gaussian; nothing happens below a fifth of a pixel."""
    import cv2

    if sigma_px < 0.2:
        return plane
    # Around half a pixel OpenCV's own size is 5, of which the outer weights are 0 in 8 bits.
    size = 3 if sigma_px < 0.51 else 0
    return np.asarray(cv2.GaussianBlur(plane, (size, size), sigma_px), dtype=np.uint8)


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
    between = (labels < 0) & zones.unknown
    # The outermost line of pixels is OpenCV's own and no neighbour lies beyond it.
    between[[0, -1]] = between[:, [0, -1]] = False
    line = places(between)
    np.maximum(labels, BACKGROUND, out=labels)
    labels -= BACKGROUND
    flat, width = labels.reshape(-1), labels.shape[1]
    best = np.zeros(len(line), np.int32)
    for down, across in product((-1, 0, 1), repeat=2):
        np.maximum(best, flat.take(line + down * width + across), out=best)
    flat[line] = best
    return labels
