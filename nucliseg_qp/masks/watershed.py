"""The seeded watershed: from keypoints to a label image.

The method is marker-controlled flooding (Meyer 1991, OpenCV's implementation) between the seeds of
all nuclei and the background, with the border of each nucleus trimmed where its own contrast to
the background ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.masks.seeds import Zones, find_zones

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings
    from nucliseg_qp.masks.statistics import SlideStatistics

__all__ = ["MaskSteps", "flood", "label_nuclei", "smooth"]

from typing import NamedTuple


class MaskSteps(NamedTuple):
    """Labels and what led to them, for explanation."""

    adjusted: NDArray[np.uint8]
    zones: Zones
    labels: NDArray[np.int32]


def label_nuclei(
    image: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
    statistics: SlideStatistics,
    settings: MaskSettings,
    mpp: float,
) -> MaskSteps:
    """Give every pixel the number of its nucleus.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        RGB at ``mpp``.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels of ``image``; every one lies inside.
    statistics : SlideStatistics
        Of the whole slide.
    settings : MaskSettings
        Lengths in um.
    mpp : float
        Pixel size of ``image`` in um.

    Returns
    -------
    MaskSteps
        ``labels`` is int32 of shape (h, w): ``i + 1`` for keypoint ``i``, 0 for background.  A
        label may still have holes and islands; see `nucliseg_qp.masks.outlines`.
    """
    adjusted = smooth(statistics.adjust(image), settings.smooth_um / mpp)
    red = np.ascontiguousarray(adjusted[..., 0])
    threshold = min(statistics.threshold + settings.otsu_offset, statistics.background)
    zones = find_zones(red, keypoints, threshold, settings, mpp)
    labels = flood(adjusted, zones, len(keypoints))
    _trim_faint(labels, red, zones.seeds, statistics.background, settings.local_contrast)
    _trim_large(labels, zones, settings.max_area_um2 / mpp**2)
    return MaskSteps(adjusted, zones, labels)


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
    markers = np.where(zones.unknown, 0, background).astype(np.int32)
    np.copyto(markers, zones.seeds, where=zones.seeds > 0)
    cv2.watershed(image, markers)
    markers[markers == background] = 0
    line = markers < 0
    markers[line] = 0
    # float32 holds every label below 2**24 exactly, and cv2.dilate knows no int32.
    neighbour = cv2.dilate(markers.astype(np.float32), np.ones((3, 3), np.uint8))
    np.copyto(markers, neighbour.astype(np.int32), where=line & zones.unknown)
    np.copyto(markers, zones.seeds, where=zones.seeds > 0)
    return markers


def _trim_faint(
    labels: NDArray[np.int32],
    red: NDArray[np.uint8],
    seeds: NDArray[np.int32],
    background: float,
    local_contrast: float,
) -> None:
    # A pale nucleus and a dark one share the slide's threshold but not the height of their
    # border: each is cut where it has faded to a share of its own contrast.
    row, column = np.nonzero(seeds)
    seed = seeds[row, column]
    size = np.bincount(seed, minlength=int(labels.max()) + 1)
    darkness = np.bincount(seed, red[row, column], len(size)) / np.maximum(size, 1)
    limit = (1 - local_contrast) * darkness + local_contrast * background
    row, column = np.nonzero(labels)
    faint = red[row, column] > limit[labels[row, column]]
    faint &= seeds[row, column] == 0
    labels[row[faint], column[faint]] = 0


def _trim_large(labels: NDArray[np.int32], zones: Zones, max_area_px: float) -> None:
    area_px = np.bincount(labels.ravel())
    large = area_px > max_area_px
    large[0] = False
    if large.any():
        far = zones.distance_px > np.sqrt(max_area_px / np.pi)
        labels[large[labels] & far & (zones.seeds == 0)] = 0
