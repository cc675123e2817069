"""Seeds, ambiguous zone and background: what the flood starts from.

All arrays are (row, column) at the resolution of the masks; keypoints are x before y.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        Pixels that may belong to a nucleus: the grown foreground within reach of a keypoint.
    """

    seeds: NDArray[np.int32]
    unknown: NDArray[np.bool_]


def find_zones(
    red: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
    threshold: float,
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
    threshold : float
        Foreground is darker than this.
    settings : MaskSettings
        Lengths in um.
    mpp : float
        Pixel size of ``red`` in um.
    """
    import cv2

    dark = (red < threshold).astype(np.uint8)
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _disc(settings.open_um / mpp))
    foreground = cv2.dilate(opened, _disc(settings.grow_um / mpp))
    seeds = np.zeros(red.shape, np.int32)
    draw_seeds(seeds, keypoints, seed_radii_px(keypoints, settings, mpp))
    near = _distance(red.shape, keypoints) <= settings.reach_um / mpp
    return Zones(seeds, (foreground > 0) & near & (seeds == 0))


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
    import cv2

    centres = np.floor(keypoints).astype(int).tolist()
    radii = np.floor(radii_px).astype(int).tolist()
    drawn = range(1, len(centres) + 1) if numbers is None else numbers.tolist()
    for number, centre, radius in zip(drawn, centres, radii, strict=True):
        cv2.circle(labels, centre, radius, number, thickness=-1)


def _distance(shape: tuple[int, ...], keypoints: NDArray[np.float64]) -> NDArray[np.float32]:
    import cv2

    if not len(keypoints):
        return np.full(shape[:2], np.inf, np.float32)
    empty = np.full(shape[:2], 255, np.uint8)
    column, row = np.floor(keypoints).astype(int).T
    empty[row, column] = 0
    return np.asarray(cv2.distanceTransform(empty, cv2.DIST_L2, 5), dtype=np.float32)


def _disc(radius_px: float) -> NDArray[np.uint8]:
    import cv2

    size = 2 * round(radius_px) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(kernel, dtype=np.uint8)
