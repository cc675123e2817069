"""Seeds, ambiguous zone and background: what the flood starts from.

All arrays are (row, column) at the resolution of the masks; keypoints are x before y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nucliseg_qp.geometry import RAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings

__all__ = ["Zones", "draw_middles", "find_zones"]

_SECTORS = 64
"""Directions in which a radius is known; between the network's it runs evenly."""

_REACHES_PX = np.array([6, 9, 12, 16, 24])
"""Largest reach of each group of nuclei but the last."""

_AT_ONCE = 4096
"""Nuclei whose pixels are looked for at once, which bounds the memory of crowded tiles."""


@dataclass(frozen=True)
class Zones:
    """The three kinds of pixels before the flood.

    Parameters
    ----------
    seeds : ndarray of int32, shape (h, w)
        ``i + 1`` where nucleus ``i`` surely is, else 0.
    unknown : ndarray of bool, shape (h, w)
        Pixels that may belong to a nucleus: dark enough, and not beyond where one is told to end.
    """

    seeds: NDArray[np.int32]
    unknown: NDArray[np.bool_]


def find_zones(
    red: NDArray[np.uint8],
    keypoints: NDArray[np.float64],
    radii_px: NDArray[np.float32],
    palest: float,
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
    radii_px : ndarray of float32, shape (n, 16)
        How far each nucleus reaches, in the same pixels.
    palest : float
        No nucleus ends in a pixel paler than this.
    settings : MaskSettings
        Lengths in um.
    mpp : float
        Pixel size of ``red`` in um.
    """
    fine = _in_sectors(radii_px)
    farthest = settings.reach_share * fine + np.float32(settings.margin_um / mpp)
    farthest = np.minimum(farthest, np.float32(settings.reach_um / mpp))
    largest_um = min(settings.reach_um, np.sqrt(settings.max_area_um2 / np.pi))
    surely = np.minimum(settings.seed_share * fine, np.float32(largest_um / mpp))
    rim = int(np.ceil(settings.reach_um / mpp))
    # The rim is for what lies beyond the image: that costs less than to look for it.
    near = np.zeros([side + 2 * rim for side in red.shape], bool)
    middles = _flat(keypoints, rim, near.shape[1])
    parts = [(np.empty(0, np.int32), np.empty(0, np.int32))]
    for group, reach_px in _groups(farthest.max(axis=1, initial=0)):
        star = _star(reach_px, near.shape[1])
        near.reshape(-1)[star.places(middles[group], farthest[group])[0]] = True
        place, count = star.places(middles[group], surely[group])
        parts.append((place, np.repeat(group.astype(np.int32) + 1, count)))
    inside = tuple(slice(rim, rim + side) for side in red.shape)
    place, number = map(np.concatenate, zip(*parts, strict=True))
    seeds = np.ascontiguousarray(_uncontested(near.shape, place, number)[inside])
    draw_middles(seeds, keypoints)
    return Zones(seeds, near[inside] & (red <= palest) & (seeds == 0))


def _uncontested(
    shape: tuple[int, ...], place: NDArray[np.int32], number: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Draw numbers where only one of them wants to be: the flood decides about the others."""
    last, first = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    last.reshape(-1)[place] = number
    first.reshape(-1)[place[::-1]] = number[::-1]
    last[last != first] = 0
    return last


def _flat(keypoints: NDArray[np.float64], rim: int, width: int) -> NDArray[np.int32]:
    """Give the place of each keypoint's pixel in an image with a rim, of this width with it."""
    column, row = np.floor(keypoints).astype(np.int32).T
    return np.asarray((row + rim) * np.int32(width) + (column + rim), np.int32)


def _groups(reach_px: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Give rows of about one reach, and the largest of them; small ones look at few pixels."""
    largest = np.searchsorted(_REACHES_PX, reach_px)
    for size in np.unique(largest).tolist():
        alike = np.flatnonzero(largest == size)
        most = int(np.ceil(reach_px[alike].max()))
        for start in range(0, len(alike), _AT_ONCE):
            yield alike[start : start + _AT_ONCE], most


def draw_middles(
    labels: NDArray[np.int32],
    keypoints: NDArray[np.float64],
) -> None:
    """Label the pixel under keypoint ``i`` and its four neighbours ``i + 1``, in place.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Changed.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels.
    """
    height, width = labels.shape
    column, row = np.floor(keypoints).astype(np.int64).T
    drawn = np.arange(1, len(row) + 1)
    for down, across in ((-1, 0), (0, -1), (0, 1), (1, 0), (0, 0)):
        y, x = (row + down).clip(0, height - 1), (column + across).clip(0, width - 1)
        labels[y, x] = drawn


class _Star(NamedTuple):
    """The pixels around a middle one: how much further in a flat image, how far, which sector."""

    step: NDArray[np.int32]
    distance_px: NDArray[np.float32]
    sector: NDArray[np.int64]

    def places(
        self, middles: NDArray[np.int32], radii_px: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Give the places within the radii of each middle, and how many each has."""
        inside = self.distance_px <= radii_px.take(self.sector, axis=1)
        return (middles[:, None] + self.step)[inside], np.count_nonzero(inside, axis=1)


@lru_cache(maxsize=16)
def _star(reach_px: int, width: int) -> _Star:
    down, across = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    distance = np.hypot(down, across)
    disc = distance <= reach_px
    turn = np.arctan2(down, across)[disc] / (2 * np.pi)
    sector = np.rint(turn * _SECTORS).astype(np.int64) % _SECTORS
    step = (down * width + across)[disc].astype(np.int32)
    return _Star(step, distance[disc].astype(np.float32), sector)


def _in_sectors(radii_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the radius of each sector, (n, 64), from those of the rays, (n, 16)."""
    # Not as a product of matrices: the threads that BLAS wakes for it take a while to rest.
    share = np.arange(_SECTORS // RAYS, dtype=np.float32) * np.float32(RAYS / _SECTORS)
    following = np.roll(radii_px, -1, axis=1)[:, :, None]
    between = radii_px[:, :, None] * (1 - share) + following * share
    return between.reshape(len(radii_px), _SECTORS)
