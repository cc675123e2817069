"""Outlines of one tile's nuclei: pixels in, rows of the nuclei table out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.geometry import Region
from nucliseg_qp.images.resample import read_grid
from nucliseg_qp.masks.outlines import Outlines, trace_outlines
from nucliseg_qp.masks.watershed import ROUND_UM, MaskSteps, label_nuclei
from nucliseg_qp.nuclei import Nuclei

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import MaskSettings
    from nucliseg_qp.geometry import Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.keypoints.search import Keypoints
    from nucliseg_qp.masks.statistics import SlideStatistics

__all__ = ["MaskGrid", "TileMasks", "outline_tile", "read_crop"]

ALMOST = 1.1
"""Scanners of 0.25 um write 0.2527 or so: two of these pixels still are half a micrometre."""


@dataclass(frozen=True)
class MaskGrid:
    """The resolution at which the outlines of a slide are made.

    Parameters
    ----------
    downsample : int
        Full-resolution pixels per mask pixel.
    mpp : float
        Size of a mask pixel in um.
    bounds : Region
        The slide, in full-resolution pixels.
    """

    downsample: int
    mpp: float
    bounds: Region

    @classmethod
    def of(cls, slide_mpp: float, bounds: Region, settings: MaskSettings) -> MaskGrid:
        """Choose the largest whole factor that gives the wanted resolution or almost."""
        downsample = max(1, int(ALMOST * settings.mpp / slide_mpp))
        return cls(downsample, slide_mpp * downsample, bounds)

    def halo_px(self, settings: MaskSettings) -> int:
        """Give the rim of a tile in full-resolution pixels."""
        # Two nuclei that lie twice the reach apart may want the same pixel.
        halo_um = max(settings.halo_um, 2 * settings.reach_um)
        return int(np.ceil(halo_um / self.mpp)) * self.downsample

    def view(self, tile: Tile, settings: MaskSettings) -> Region:
        """Give the core with all its nuclei can reach, in full-resolution pixels."""
        k = self.downsample
        reach_px = int(np.ceil((settings.reach_um + ROUND_UM) / self.mpp)) + 2
        wide = tile.core.expanded(reach_px * k)
        left, top = (side // k * k for side in (wide.x_px, wide.y_px))
        right, bottom = (-(-side // k) * k for side in (wide.right_px, wide.bottom_px))
        return Region(left, top, right - left, bottom - top).intersection(tile.crop)

    def inside(self, part: Region, whole: Region) -> Region:
        """Give where ``part`` lies in ``whole``, in mask pixels."""
        k = self.downsample
        x, y = (part.x_px - whole.x_px) // k, (part.y_px - whole.y_px) // k
        return Region(x, y, part.width_px // k, part.height_px // k)


@dataclass(frozen=True)
class TileMasks:
    """What the mask step found in one tile.

    Parameters
    ----------
    nuclei : Nuclei
        Those the tile owns, without classes and measurements.
    view : Region
        The core and as much around it as its nuclei can reach, in full-resolution pixels.
    image : ndarray of uint8, shape (h, w, 3)
        RGB of the view at the resolution of the masks.
    labels : ndarray of int32, shape (h, w)
        ``i + 1`` where row ``i`` of ``nuclei`` is, 0 elsewhere.
    steps : MaskSteps
        How it came about.
    """

    nuclei: Nuclei
    view: Region
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    steps: MaskSteps


def read_crop(slide: Slide, tile: Tile, grid: MaskGrid) -> NDArray[np.uint8]:
    """Read the pixels of a tile with its halo at the resolution of the masks."""
    k, crop = grid.downsample, tile.crop
    return read_grid(
        slide, k, crop.x_px // k, crop.y_px // k, crop.width_px // k, crop.height_px // k
    )


def outline_tile(
    image: NDArray[np.uint8],
    tile: Tile,
    keypoints: Keypoints,
    statistics: SlideStatistics,
    settings: MaskSettings,
    grid: MaskGrid,
) -> TileMasks:
    """Outline the nuclei whose keypoint lies in the tile's core.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        From `read_crop`.
    tile : Tile
        Core and crop in full-resolution pixels.
    keypoints : Keypoints
        Of the slide; those in the halo hold their ground against those of the core.
    statistics : SlideStatistics
        Of the whole slide.
    settings : MaskSettings
        Lengths in um.
    grid : MaskGrid
        Resolution of ``image``.
    """
    near = keypoints.inside(tile.crop.intersection(grid.bounds))
    seed_xy = (np.stack([near.x, near.y], axis=1) - _corner(tile.crop)) / grid.downsample
    view = grid.view(tile, settings)
    window = grid.inside(view, tile.crop)
    owned = tile.core.contains(near.x, near.y) & near.wanted
    radii_px = near.radii.astype(np.float32) / np.float32(grid.downsample)
    steps = label_nuclei(image, seed_xy, radii_px, statistics, settings, grid.mpp, window, owned)
    labels = steps.labels
    _clear_outside(labels, grid.inside(view.intersection(grid.bounds), view))
    outlines = trace_outlines(labels, int(owned.sum()), steps.border)
    area_um2 = outlines.area_px * grid.mpp**2
    kept = (outlines.area_px > 0) & (area_um2 >= settings.min_area_um2)
    if not kept.all():
        _renumber(labels, kept)
    nuclei = _table(near.take(owned), outlines, view, grid).take(kept)
    part = image[window.y_px : window.bottom_px, window.x_px : window.right_px]
    return TileMasks(nuclei, view, part, labels, steps)


def _corner(crop: Region) -> tuple[int, int]:
    return crop.x_px, crop.y_px


def _clear_outside(labels: NDArray[np.int32], inside: Region) -> None:
    # A seed at the border of the image must not make an outline beyond it.
    labels[: inside.y_px] = labels[inside.bottom_px :] = 0
    labels[:, : inside.x_px] = labels[:, inside.right_px :] = 0


def _renumber(labels: NDArray[np.int32], kept: NDArray[np.bool_]) -> None:
    number = np.zeros(len(kept) + 1, np.int32)
    number[1:][kept] = np.arange(1, int(kept.sum()) + 1)
    np.take(number, labels, out=labels)


def _table(keypoints: Keypoints, outlines: Outlines, view: Region, grid: MaskGrid) -> Nuclei:
    bounds = grid.bounds
    ring_xy = outlines.ring_xy * grid.downsample + _corner(view)
    if view.intersection(bounds) != view:
        # Beyond the image pixels are white, which draws no outline out of it.
        np.clip(ring_xy, _corner(bounds), (bounds.right_px, bounds.bottom_px), out=ring_xy)
    return Nuclei(
        x=keypoints.x,
        y=keypoints.y,
        score=keypoints.score,
        ring_xy=ring_xy,
        ring_start=outlines.ring_start,
        simple=True,
    )
