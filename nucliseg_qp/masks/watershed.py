"""The seeded watershed: from keypoints to a label image.

The method is marker-controlled flooding (Meyer 1991, OpenCV's implementation) between the seeds of
all nuclei and the background.  Which nucleus a pixel belongs to is decided at about half a
micrometre, where the flood costs a quarter; where a nucleus ends is decided at full resolution, by
its own contrast to the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from nucliseg_qp.geometry import Region
from nucliseg_qp.masks.seeds import Zones, draw_seeds, find_zones, seed_radii_px

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings
    from nucliseg_qp.masks.statistics import SlideStatistics

__all__ = ["MaskSteps", "flood", "flood_factor", "label_nuclei", "smooth"]

RED = 0

Pixel = TypeVar("Pixel", np.uint8, np.int32)


class MaskSteps(NamedTuple):
    """Labels and what led to them, for explanation.

    ``adjusted`` (uint8 RGB) and ``zones`` are at the resolution of the flood, ``labels`` (int32)
    at that of the image.
    """

    adjusted: NDArray[np.uint8]
    zones: Zones
    labels: NDArray[np.int32]


def flood_factor(settings: MaskSettings, mpp: float) -> int:
    """Give how many mask pixels of ``mpp`` um make a pixel of the flood, along each side."""
    return max(1, int(settings.flood_mpp / mpp + 1e-6))


def label_nuclei(
    image: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
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
        RGB at ``mpp``; h and w are multiples of `flood_factor`.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels of ``image``; every one lies inside.
    statistics : SlideStatistics
        Of the whole slide.
    settings : MaskSettings
        Lengths in um.
    mpp : float
        Pixel size of ``image`` in um.
    window : Region, optional
        Part of the image that is wanted, in its pixels, at multiples of `flood_factor`; the flood
        uses all of the image.
    wanted : ndarray of bool, shape (n,), optional
        Keypoints whose nuclei are labelled; the others only hold their ground in the flood.

    Returns
    -------
    MaskSteps
        Of the window. ``labels`` holds ``i + 1`` for the wanted keypoint ``i``, 0 elsewhere.  A
        label may still have holes and islands; see `nucliseg_qp.masks.outlines`.
    """
    factor = flood_factor(settings, mpp)
    window = window or Region(0, 0, image.shape[1], image.shape[0])
    coarse = _reduced(image, factor)
    adjusted = smooth(statistics.adjust(coarse), settings.smooth_um / (mpp * factor))
    threshold = min(statistics.threshold + settings.otsu_offset, statistics.background)
    red = np.ascontiguousarray(adjusted[..., RED])
    zones = find_zones(red, keypoints / factor, threshold, settings, mpp * factor)
    labels = flood(adjusted, zones, len(keypoints))
    _cut_far(labels, keypoints / factor, settings.reach_um / (mpp * factor))
    darkness = _darkness(labels, len(keypoints), red, threshold)
    share = settings.local_contrast
    limit = (1 - share) * darkness + share * statistics.background
    number = _numbers(np.ones(len(keypoints), bool) if wanted is None else wanted)
    part = _slices(window, factor)
    fine = statistics.adjust_red(np.ascontiguousarray(image[_slices(window, 1)]))
    fine = smooth(fine, settings.smooth_um / mpp)
    centres = keypoints - (window.x_px, window.y_px)
    held = np.flatnonzero(number)
    ends = _Ends(limit[np.append(0, held)], centres[held - 1], settings.max_area_um2 / mpp**2)
    labels = _ended(np.take(number, labels[part]), fine, ends)
    draw_seeds(labels, centres, seed_radii_px(keypoints, settings, mpp), number[1:])
    return MaskSteps(adjusted[part], Zones(zones.seeds[part], zones.unknown[part]), labels)


class _Ends(NamedTuple):
    # Where nuclei 1 to n end: faintest red (n + 1,), centres (n, 2) and largest area.
    limit: NDArray[np.float64]
    centres: NDArray[np.float64]
    max_area_px: float


def _ended(labels: NDArray[np.int32], red: NDArray[np.uint8], ends: _Ends) -> NDArray[np.int32]:
    factor = len(red) // len(labels)
    largest_px = np.bincount(labels.reshape(-1))[1:].max(initial=0) * factor**2
    # In whole grey levels the limit is a byte a pixel.
    level = np.clip(np.floor(ends.limit), 0, 255).astype(np.uint8)
    kept = red <= _enlarged(np.take(level, labels), factor)
    labels = _enlarged(labels, factor)
    labels *= kept
    if largest_px > ends.max_area_px:
        _cut_large(labels, ends.centres, ends.max_area_px)
    return labels


def _numbers(wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give the new number of each label, 0 for those that are not wanted, shape (n + 1,)."""
    number = np.zeros(len(wanted) + 1, np.int32)
    number[1:][wanted] = np.arange(1, int(wanted.sum()) + 1)
    return number


def _slices(window: Region, factor: int) -> tuple[slice, slice]:
    return (
        slice(window.y_px // factor, window.bottom_px // factor),
        slice(window.x_px // factor, window.right_px // factor),
    )


def smooth(image: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Blur with a Gaussian; nothing happens below a fifth of a pixel."""
    import cv2

    if sigma_px < 0.2:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def flood(image: NDArray[np.uint8], zones: Zones, count: int) -> NDArray[np.int32]:
    """Flood the unknown pixels of an RGB image from the seeds and the background.

    OpenCV leaves a line of -1 between labels; it is given to the nuclei beside it, else touching
    nuclei would be parted and all would be a pixel too small.
    """
    import cv2

    background = count + 1
    markers: NDArray[np.int32] = np.full(image.shape[:2], background, np.int32)
    np.copyto(markers, zones.seeds, where=zones.unknown | (zones.seeds > 0))
    cv2.watershed(image, markers)
    line = np.flatnonzero((markers < 0) & zones.unknown)
    np.copyto(markers, 0, where=(markers < 0) | (markers == background))
    flat, width = markers.reshape(-1), markers.shape[1]
    # The outermost line of pixels is OpenCV's own and no neighbour lies beyond it.
    row, column = np.divmod(line, width)
    inner = (row > 0) & (row < len(markers) - 1) & (column > 0) & (column < width - 1)
    line = line[inner]
    steps = [down * width + across for down in (-1, 0, 1) for across in (-1, 0, 1)]
    flat[line] = np.max([flat[line + step] for step in steps], axis=0, initial=0)
    return markers


def _reduced(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    import cv2

    if factor == 1:
        return image
    size = image.shape[1] // factor, image.shape[0] // factor
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _enlarged(labels: NDArray[Pixel], factor: int) -> NDArray[Pixel]:
    if factor == 1:
        return np.ascontiguousarray(labels)
    return np.repeat(np.repeat(labels, factor, axis=0), factor, axis=1)


def _darkness(
    labels: NDArray[np.int32], count: int, red: NDArray[np.uint8], threshold: float
) -> NDArray[np.float64]:
    # A pale nucleus and a dark one share the slide's threshold but not the height of their
    # border: each ends where it has faded to a share of its own contrast.  What is measured is
    # the foreground it was given, not its seed, which may lie on a nucleolus.
    dark = np.flatnonzero((labels > 0) & (red < threshold))
    owner = labels.reshape(-1)[dark]
    size = np.bincount(owner, minlength=count + 1)
    total = np.bincount(owner, red.reshape(-1)[dark], count + 1)
    return np.where(size > 0, total / np.maximum(size, 1), threshold)


def _cut_far(labels: NDArray[np.int32], keypoints: NDArray[np.float64], reach_px: float) -> None:
    # The flood may run on into what only a neighbour can reach.
    flat = labels.reshape(-1)
    where = np.flatnonzero(flat)
    row = where // labels.shape[1]
    x, y = keypoints.astype(np.float32).T - np.float32(0.5)
    owner = flat[where] - 1
    across = (where - row * labels.shape[1]).astype(np.float32) - x[owner]
    down = row.astype(np.float32) - y[owner]
    flat[where[across * across + down * down > reach_px**2]] = 0


def _cut_large(
    labels: NDArray[np.int32], keypoints: NDArray[np.float64], max_area_px: float
) -> None:
    large = np.bincount(labels.reshape(-1)) > max_area_px
    large[0] = False
    row, column = np.nonzero(large[labels])
    centre = keypoints[labels[row, column] - 1]
    far = np.hypot(column + 0.5 - centre[:, 0], row + 0.5 - centre[:, 1])
    outside = far > np.sqrt(max_area_px / np.pi)
    labels[row[outside], column[outside]] = 0
