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

__all__ = ["clip_window", "plan_tiles", "plan_windows", "shrink_window"]

STRIDE_PX = 8
"""Step of the network's coarsest layer: windows start and end at multiples of it."""


def plan_tiles(
    bounds: Region,
    settings: TileSettings,
    downsample: int,
    halo_px: int,
) -> list[Tile]:
    """Cut ``bounds`` into tiles.

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

    Returns
    -------
    list of Tile
        Row by row. Cores do not overlap and are clipped to ``bounds``; crops hold the core and
        its halo, start and end at multiples of ``downsample`` and may reach beyond the image.
    """
    size_px = settings.size_px * downsample
    x = _cuts(settings.origin_x_px, size_px, bounds.x_px, bounds.right_px)
    y = _cuts(settings.origin_y_px, size_px, bounds.y_px, bounds.bottom_px)
    top, left = (grid.ravel() for grid in np.meshgrid(y[:-1], x[:-1], indexing="ij"))
    bottom, right = (grid.ravel() for grid in np.meshgrid(y[1:], x[1:], indexing="ij"))
    cores = np.stack([left, top, right, bottom], axis=1)
    low = (cores[:, :2] - halo_px) // downsample * downsample
    high = -(-(cores[:, 2:] + halo_px) // downsample) * downsample
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
    tissue : TissueMask, optional
        Windows whose core has none inside of ``bounds`` are left out.
    within : shapely geometry, optional
        Windows whose core does not meet it inside of ``bounds`` are left out.

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


def shrink_window(window: Tile, tissue: TissueMask, downsample: float) -> Tile:
    """Cut a window down to the tissue in its core, with the halo it has.

    Parameters
    ----------
    window : Tile
        In pixels of the network.
    tissue : TissueMask
        The core holds some of it.
    downsample : float
        Full-resolution pixels per pixel of the network.

    Returns
    -------
    Tile
        Core and crop still start and end at multiples of the network's stride.
    """
    core = window.core
    low_x, low_y = (math.floor(side * downsample) for side in (core.x_px, core.y_px))
    high_x, high_y = (math.ceil(side * downsample) for side in (core.right_px, core.bottom_px))
    found = tissue.extent(Region(low_x, low_y, high_x - low_x, high_y - low_y))
    left, top = (_down_to_stride(side / downsample) for side in (found.x_px, found.y_px))
    right, bottom = (
        _up_to_stride(math.ceil(side / downsample)) for side in (found.right_px, found.bottom_px)
    )
    small = Region(left, top, right - left, bottom - top).intersection(core)
    return Tile(small, small.expanded(core.x_px - window.crop.x_px))


def _down_to_stride(size_px: float) -> int:
    return math.floor(size_px / STRIDE_PX) * STRIDE_PX


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
