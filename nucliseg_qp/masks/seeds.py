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
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings

__all__ = ["Zones", "draw_middles", "find_zones"]

_SECTORS = 64
"""Directions in which a radius is known; between the network's it runs evenly."""

_REACHES_PX = (6, 9, 12, 16, 24)
"""Nuclei are drawn in groups of about one size: small ones look at few pixels."""


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
    seeds = np.zeros(red.shape, np.int32)
    near = np.zeros(red.shape, bool)
    fine = radii_px @ _between()
    farthest = settings.reach_share * fine + np.float32(settings.margin_um / mpp)
    farthest = np.minimum(farthest, np.float32(settings.reach_um / mpp))
    largest_um = min(settings.reach_um, np.sqrt(settings.max_area_um2 / np.pi))
    surely = np.minimum(settings.seed_share * fine, np.float32(largest_um / mpp))
    reach = farthest.max(axis=1, initial=0)
    for smallest, largest in zip((0, *_REACHES_PX), (*_REACHES_PX, np.inf), strict=True):
        group = np.flatnonzero((reach >= smallest) & (reach < largest))
        if len(group):
            template = _template(int(np.ceil(reach[group].max())))
            middles = np.floor(keypoints[group]).astype(np.int32)
            near[template.places(middles, farthest[group], red.shape)[1]] = True
            owner, at = template.places(middles, surely[group], red.shape)
            seeds[at] = group[owner] + 1
    draw_middles(seeds, keypoints)
    return Zones(seeds, near & (red <= palest) & (seeds == 0))


def draw_middles(
    labels: NDArray[np.int32],
    keypoints: NDArray[np.float64],
    numbers: NDArray[np.int32] | None = None,
) -> None:
    """Label the pixel under each keypoint and its four neighbours, in place.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Changed.
    keypoints : ndarray, shape (n, 2)
        x, y in pixels.
    numbers : ndarray of int32, shape (n,), optional
        What is drawn, 1 to n when left out.
    """
    height, width = labels.shape
    column, row = np.floor(keypoints).astype(np.int64).T
    drawn = np.arange(1, len(row) + 1) if numbers is None else numbers
    for down, across in ((-1, 0), (0, -1), (0, 1), (1, 0), (0, 0)):
        y, x = (row + down).clip(0, height - 1), (column + across).clip(0, width - 1)
        labels[y, x] = drawn


class _Template(NamedTuple):
    """The pixels around a middle one: where, how far, and in which sector."""

    down: NDArray[np.int32]
    across: NDArray[np.int32]
    distance_px: NDArray[np.float32]
    sector: NDArray[np.int64]

    def places(
        self,
        middles: NDArray[np.int32],
        radii_px: NDArray[np.float32],
        shape: tuple[int, ...],
    ) -> tuple[NDArray[np.int64], tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Give owners, and rows and columns, of the pixels within the radii of each middle."""
        inside = self.distance_px <= radii_px.take(self.sector, axis=1)
        owner, cell = np.divmod(np.flatnonzero(inside), len(self.distance_px))
        column = middles[:, 0].take(owner) + self.across.take(cell)
        row = middles[:, 1].take(owner) + self.down.take(cell)
        there = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        if there.all():
            return owner, (row, column)
        return owner[there], (row[there], column[there])


@lru_cache(maxsize=64)
def _template(reach_px: int) -> _Template:
    down, across = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    distance = np.hypot(down, across)
    disc = distance <= reach_px
    turn = np.arctan2(down, across)[disc] / (2 * np.pi)
    return _Template(
        down[disc].astype(np.int32),
        across[disc].astype(np.int32),
        distance[disc].astype(np.float32),
        np.rint(turn * _SECTORS).astype(np.int64) % _SECTORS,
    )


@lru_cache(maxsize=1)
def _between() -> NDArray[np.float32]:
    """Give the matrix (16, 64) that makes radii between the rays."""
    at = np.arange(_SECTORS) * RAYS / _SECTORS
    ray, share = np.floor(at).astype(int), at % 1
    matrix = np.zeros((RAYS, _SECTORS), np.float32)
    matrix[ray, np.arange(_SECTORS)] = 1 - share
    matrix[(ray + 1) % RAYS, np.arange(_SECTORS)] += share
    return matrix
