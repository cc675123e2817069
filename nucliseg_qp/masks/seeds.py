"""Seeds, ambiguous zone and background: what the flood starts from.

All arrays are (row, column) at the resolution of the masks; keypoints are x before y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings

__all__ = ["Seeds", "Zones", "find_zones", "seed_radii_px"]


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


class Seeds(NamedTuple):
    """The discs of keypoints: flat places in a label image and the label drawn there, (m,) each."""

    place: NDArray[np.int64]
    label: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        keypoints: NDArray[np.float64],
        radii_px: NDArray[np.float64],
        shape: tuple[int, int],
    ) -> Seeds:
        """Take keypoints (n, 2) as x, y in pixels and their radii, (n,); label 1 is the first."""
        height, width = shape
        column, row = np.floor(keypoints).astype(np.int64).T
        radii = np.floor(radii_px).astype(np.int64)
        parts = [(np.empty(0, np.int64), np.empty(0, np.int32))]
        for radius in np.unique(radii).tolist():
            alike = np.flatnonzero(radii == radius)
            down, across = _disc_steps(radius)
            y, x = row[alike, None] + down, column[alike, None] + across
            inside = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
            label = np.repeat((alike + 1).astype(np.int32), len(down))
            parts.append(((y * width + x).take(inside), label.take(inside)))
        place, label = map(np.concatenate, zip(*parts, strict=True))
        return cls(place, label)

    def draw(self, labels: NDArray[np.int32]) -> None:
        """Draw the discs into a label image of the shape they were made for, in place."""
        labels.reshape(-1)[self.place] = self.label


def find_zones(
    red: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
    discs: Seeds,
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
    discs : Seeds
        Those of the keypoints.
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
    discs.draw(seeds)
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
    # Who is farther than this does not matter, and not to look there takes half the time.
    limit_px = full[0] / settings.seed_share
    tree = cKDTree(keypoints, balanced_tree=False)
    neighbour_px = tree.query(keypoints, k=2, distance_upper_bound=limit_px)[0][:, 1]
    return np.asarray(np.minimum(full, settings.seed_share * neighbour_px), np.float64)


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
    # A line from a point to itself is OpenCV's circle, and all of them are one call.
    dots = np.floor(keypoints).astype(np.int32)[:, None]
    cv2.polylines(near, list(dots), isClosed=True, color=1, thickness=2 * int(reach_px))
    return near


def _disc(radius_px: float) -> NDArray[np.uint8]:
    import cv2

    size = 2 * round(radius_px) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(kernel, dtype=np.uint8)
