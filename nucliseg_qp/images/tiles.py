"""How the plane is cut: tiles in which outlines are made, windows the network looks at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import UsageError
from nucliseg_qp.geometry import Region, Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from nucliseg_qp.config import TileSettings
    from nucliseg_qp.images.tissue import TissueMask

__all__ = ["clip_window", "plan_tiles", "plan_windows"]

STRIDE_PX = 8
"""Step of the network's coarsest layer: windows start and end at multiples of it."""


def plan_tiles(
    bounds: Region,
    settings: TileSettings,
    downsample: int,
    halo_px: int,
    tissue: TissueMask | None = None,
    within: BaseGeometry | None = None,
    *,
    align_px: int = 1,
) -> list[Tile]:
    """Cut ``bounds`` into tiles and keep those with something to find.

    Parameters
    ----------
    bounds : Region
        What is to be analysed: the image or the user's region.
    settings : TileSettings
        Size of a core in pixels of the outlines, and the origin of the grid.
    downsample : int
        Full-resolution pixels per pixel of the outlines.
    halo_px : int
        Rim around a core in full-resolution pixels, at least.
    tissue : TissueMask, optional
        Tiles whose core has none are left out.
    within : shapely geometry, optional
        Tiles whose core does not meet it are left out.
    align_px : int
        Crops start and end at multiples of this and of ``downsample``.

    Returns
    -------
    list of Tile
        Row by row. Cores do not overlap and are clipped to ``bounds``; crops hold the core and
        its halo and may reach beyond the image.
    """
    step_px = math.lcm(downsample, align_px)
    size_px = settings.size_px * downsample
    x = _cuts(settings.origin_x_px, size_px, bounds.x_px, bounds.right_px)
    y = _cuts(settings.origin_y_px, size_px, bounds.y_px, bounds.bottom_px)
    top, left = (grid.ravel() for grid in np.meshgrid(y[:-1], x[:-1], indexing="ij"))
    bottom, right = (grid.ravel() for grid in np.meshgrid(y[1:], x[1:], indexing="ij"))
    boxes = np.stack([left, top, right, bottom], axis=1)
    cores = boxes[_wanted(boxes.astype(np.float64), tissue, within)]
    low = (cores[:, :2] - halo_px) // step_px * step_px
    high = -(-(cores[:, 2:] + halo_px) // step_px) * step_px
    crops = np.concatenate([low, high], axis=1)
    return [
        Tile(_region(core), _region(crop))
        for core, crop in zip(cores.tolist(), crops.tolist(), strict=True)
    ]


def plan_windows(
    bounds: Region,
    downsample: float,
    core_px: int,
    halo_px: int,
    tissue: TissueMask | None = None,
    within: BaseGeometry | None = None,
) -> list[Tile]:
    """Choose the windows of the network in whose core a nucleus of ``bounds`` can lie.

    The grid of windows starts at the corner of the image whatever is analysed, so the network
    sees a nucleus on the same pixels in every run.

    Parameters
    ----------
    bounds : Region
        What is to be analysed, in full-resolution pixels.
    downsample : float
        Full-resolution pixels per pixel of the network.
    core_px, halo_px : int
        Side of a core and rim around it in pixels of the network; the core is a multiple of 8.
    tissue, within
        As in `plan_tiles`; the core must meet both, inside of ``bounds``.

    Returns
    -------
    list of Tile
        Row by row, in pixels of the network, all of one size.

    Raises
    ------
    UsageError
        When the core is no positive multiple of 8, the step of the network's coarsest layer.
    """
    if core_px < STRIDE_PX or core_px % STRIDE_PX or halo_px < 0:
        raise UsageError(
            f"windows with a core of {core_px} px and a halo of {halo_px} px do not fit",
            "Choose a window so that it minus two halos is a positive multiple of 8.",
        )
    step = core_px * downsample
    x = _window_range(bounds.x_px, bounds.right_px, step)
    y = _window_range(bounds.y_px, bounds.bottom_px, step)
    iy, ix = (index.ravel() for index in np.meshgrid(y, x, indexing="ij"))
    index = np.stack([ix, iy], axis=1)
    low = np.maximum(index * step, [bounds.x_px, bounds.y_px])
    high = np.minimum((index + 1) * step, [bounds.right_px, bounds.bottom_px])
    chosen = index[_wanted(np.concatenate([low, high], axis=1), tissue, within)]
    cores = [Region(left, top, core_px, core_px) for left, top in (chosen * core_px).tolist()]
    return [Tile(core, core.expanded(halo_px)) for core in cores]


def clip_window(window: Tile, right_px: int, bottom_px: int) -> Tile:
    """Cut the crop of a window where nothing but glass beyond the image follows.

    Parameters
    ----------
    window : Tile
        In pixels of the network.
    right_px, bottom_px : int
        First column and row of the network's plane that no core pixel of the image can see.

    Returns
    -------
    Tile
        The same core; the sides of the crop are still multiples of the network's stride.
    """
    crop = window.crop
    width = min(crop.width_px, _up_to_stride(right_px - crop.x_px))
    height = min(crop.height_px, _up_to_stride(bottom_px - crop.y_px))
    return Tile(window.core, Region(crop.x_px, crop.y_px, width, height))


def _up_to_stride(size_px: int) -> int:
    return -(-size_px // STRIDE_PX) * STRIDE_PX


def _cuts(origin: int, size: int, low: int, high: int) -> NDArray[np.int64]:
    """Give where an axis is cut: both ends and the grid lines between them."""
    if high <= low:
        return np.empty(0, np.int64)
    first = (low - origin) // size + 1
    lines = np.arange(origin + first * size, high, size, dtype=np.int64)
    return np.concatenate([[low], lines, [high]]).astype(np.int64)


def _window_range(low: int, high: int, step: float) -> NDArray[np.int64]:
    index = np.arange(int(np.floor(low / step)) - 1, int(np.ceil(high / step)) + 1, dtype=np.int64)
    return np.asarray(index[((index + 1) * step > low) & (index * step < high)])


def _wanted(
    boxes: NDArray[np.float64], tissue: TissueMask | None, within: BaseGeometry | None
) -> NDArray[np.bool_]:
    """Tell which boxes (left, top, right, bottom) hold tissue and meet the outline."""
    wanted = np.ones(len(boxes), np.bool_)
    if tissue is not None:
        wanted &= tissue.overlaps_boxes(boxes)
    if within is not None:
        import shapely

        shapely.prepare(within)
        chosen = np.flatnonzero(wanted)
        wanted[chosen] = shapely.intersects(within, shapely.box(*boxes[chosen].T))
    return wanted


def _region(box: list[int]) -> Region:
    left, top, right, bottom = box
    return Region(left, top, right - left, bottom - top)
