"""Seeds, ambiguous zone and background: what the flood starts from.

All arrays are (row, column) at the resolution of the masks; keypoints are x before y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings

__all__ = ["Zones", "draw_seeds", "find_zones", "seed_radii_px"]


@dataclass(frozen=True)
class Zones:
    """The three kinds of pixels before the flood.

    Parameters
    ----------
    seeds : ndarray of int32, shape (h, w)
        ``i + 1`` in the disc of keypoint ``i``, else 0.
    unknown : ndarray of bool, shape (h, w)
        Pixels that may belong to a nucleus: the grown foreground within reach of a keypoint,
        but for a rim that is too pale for any.
    """

    seeds: NDArray[np.int32]
    unknown: NDArray[np.bool_]


def find_zones(
    red: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
    radii_px: NDArray[np.float64],
    levels: tuple[float, float],
    settings: MaskSettings,
    mpp: float,
) -> Zones:
    """Sort pixels into seeds, unknown and background.

    Parameters
    ----------
    red : ndarray, shape (h, w)
        Adjusted and smoothed red channel.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels of ``red``, all inside.
    radii_px : ndarray, shape (n,)
        From `seed_radii_px`.
    levels : tuple of float
        Foreground is darker than the first; no nucleus ends in a pixel paler than the second.
    settings : MaskSettings
        Lengths in um.
    mpp : float
        Pixel size of ``red`` in um.
    """
    import cv2

    threshold, palest = levels
    dark = (red < threshold).astype(np.uint8)
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _disc(settings.open_um / mpp))
    grow = _disc(settings.grow_um / mpp)
    foreground = cv2.dilate(opened, grow)
    # Pale chromatin in the middle of a nucleus holds its rim to its seed; a pale rim is nobody's.
    held = np.asarray(cv2.erode(foreground, grow), np.uint8) | (red <= palest)
    seeds = np.zeros(red.shape, np.int32)
    draw_seeds(seeds, keypoints, radii_px)
    near = _near(red.shape, keypoints, settings.reach_um / mpp)
    unknown = cv2.bitwise_and(cv2.bitwise_and(foreground, near), held)
    return Zones(seeds, (unknown > 0) & (seeds == 0))


def seed_radii_px(
    keypoints: NDArray[np.float64], settings: MaskSettings, mpp: float
) -> NDArray[np.float64]:
    """Give the radius of each seed, shape (n,), so that no two seeds touch."""
    from scipy.spatial import cKDTree

    full = np.full(len(keypoints), settings.seed_radius_um / mpp)
    if len(keypoints) < 2:
        return full
    neighbour_px = cKDTree(keypoints).query(keypoints, k=2)[0][:, 1]
    return np.asarray(np.minimum(full, settings.seed_share * neighbour_px), np.float64)


def draw_seeds(
    labels: NDArray[np.int32],
    keypoints: NDArray[np.float64],
    radii_px: NDArray[np.float64],
    numbers: NDArray[np.int32] | None = None,
) -> None:
    """Draw the disc of each keypoint into a label image, in place.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Changed.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels.
    radii_px : ndarray, shape (n,)
        Radius of each disc.
    numbers : ndarray of int32, shape (n,), optional
        What is drawn, 1 to n when left out.
    """
    height, width = labels.shape
    column, row = np.floor(keypoints).astype(np.int64).T
    radii = np.floor(radii_px).astype(np.int64)
    drawn = np.arange(1, len(row) + 1) if numbers is None else numbers
    for radius in np.unique(radii).tolist():
        alike = np.flatnonzero(radii == radius)
        down, across = _disc_steps(radius)
        y, x = row[alike, None] + down, column[alike, None] + across
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        number = np.broadcast_to(drawn[alike, None], y.shape)
        labels[y[inside], x[inside]] = number[inside]


@lru_cache(maxsize=64)
def _disc_steps(radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows and columns of OpenCV's filled circle around (0, 0)."""
    import cv2

    canvas = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
    cv2.circle(canvas, (radius, radius), radius, 1, thickness=-1)
    row, column = np.nonzero(canvas)
    return row - radius, column - radius


def _near(
    shape: tuple[int, ...], keypoints: NDArray[np.float64], reach_px: float
) -> NDArray[np.uint8]:
    """Give 1 within reach of any keypoint, 0 elsewhere."""
    import cv2

    near = np.zeros(shape[:2], np.uint8)
    radius = int(reach_px)
    for centre in np.floor(keypoints).astype(int).tolist():
        cv2.circle(near, centre, radius, 1, thickness=-1)
    return near


def _disc(radius_px: float) -> NDArray[np.uint8]:
    import cv2

    size = 2 * round(radius_px) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(kernel, dtype=np.uint8)
