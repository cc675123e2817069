"""Outlines that QuPath accepts: closed, valid and on its grid of 0.01 px.

QuPath 0.6 and later snap every polygon of a GeoJSON file to 0.01 px and reject the whole file when
a single one is invalid, so an outline is made good before it is measured or written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.geometry import made_valid

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely import Geometry

    from nucliseg_qp.nuclei import Nuclei

__all__ = ["GRID_PX", "snap", "usable_rows"]

GRID_PX = 0.01
"""QuPath's precision of coordinates."""

_LIMIT_PX = 1e9
"""No image reaches that far, and float64 still holds 0.01 px exactly enough there."""

_TRIES = 4


def snap(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round coordinates in px to QuPath's grid; what no image can hold becomes NaN."""
    known: NDArray[np.float64] = np.where(np.abs(xy) < _LIMIT_PX, xy, np.nan)
    # Adding zero turns -0.0 into 0.0, which would be written as "-0.0".
    return np.round(known, 2) + 0.0


def usable_rows(nuclei: Nuclei) -> tuple[Nuclei, NDArray[np.bool_]]:
    """Give the table with outlines that QuPath's reader accepts, and tell which are worth keeping.

    Vertices are snapped to 0.01 px and repetitions dropped.  An outline that is then invalid (it
    crosses or touches itself) or so thin that snapping could swallow it is made valid [1]_, and
    its largest part is kept without holes.

    Parameters
    ----------
    nuclei : Nuclei
        Any outlines, also with repeated vertices or NaN.

    Returns
    -------
    tuple
        The table with all rows, and (n,) bool that is false for outlines without area at 0.01 px.

    References
    ----------
    .. [1] GEOS ``MakeValid`` and ``GeometryPrecisionReducer``, the same algorithms as in the JTS
       library that QuPath uses.
    """
    table = _without_repetitions(replace(nuclei, ring_xy=snap(nuclei.ring_xy)))
    good = _valid(table)
    if good.all():
        return table, good
    rings = list(table.rings())
    for row in np.flatnonzero(~good).tolist():
        mended = _mended(rings[row])
        good[row] = mended is not None
        rings[row] = rings[row][:0] if mended is None else mended
    return _with_rings(table, rings), good


def _without_repetitions(nuclei: Nuclei) -> Nuclei:
    xy, start = nuclei.ring_xy, nuclei.ring_start
    if not len(xy):
        return nuclei
    before = np.roll(np.arange(len(xy)), 1)
    filled = np.diff(start) > 0
    before[start[:-1][filled]] = start[1:][filled] - 1
    fresh = (xy != xy[before]).any(axis=1)
    if fresh.all():
        return nuclei
    kept = np.concatenate([[0], np.cumsum(fresh)])
    return replace(nuclei, ring_xy=xy[fresh], ring_start=kept[start].astype(np.int64))


def _valid(nuclei: Nuclei) -> NDArray[np.bool_]:
    """Tell which outlines QuPath takes as they are, (n,) bool."""
    import shapely

    size = np.diff(nuclei.ring_start)
    owner = np.repeat(np.arange(len(nuclei)), size)
    good = size >= 3
    good[owner[np.isnan(nuclei.ring_xy).any(axis=1)]] = False
    chosen = good[owner]
    number = np.cumsum(good) - 1
    polygons = shapely.polygons(
        shapely.linearrings(nuclei.ring_xy[chosen], indices=number[owner[chosen]])
    )
    # Twice the area over the perimeter is the mean thickness of a sliver.
    thick = shapely.area(polygons) > GRID_PX * shapely.length(polygons)
    good[good] = shapely.is_valid(polygons) & thick
    return good


def _mended(ring: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Give the largest valid part of one outline, (k, 2), or none."""
    import shapely

    if len(ring) < 3 or np.isnan(ring).any():
        return None
    shape = made_valid(shapely.Polygon(ring))
    for _ in range(_TRIES):
        outline = _largest(shape)
        if outline is None:
            return None
        shape = shapely.set_precision(outline, GRID_PX)
        if _is_plain(shape):
            return snap(shapely.get_coordinates(shape)[:-1])
    return None


def _largest(shape: Geometry) -> Geometry | None:
    import shapely

    # Twice, because making valid can give a collection that holds a multi-polygon.
    pieces = shapely.get_parts(shapely.get_parts(shape))
    parts = [part for part in pieces if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        return None
    return shapely.Polygon(max(parts, key=lambda part: float(part.area)).exterior)


def _is_plain(shape: Geometry) -> bool:
    return bool(
        shape.geom_type == "Polygon"
        and not shape.is_empty
        and not shape.interiors
        and shape.is_valid
        and shape.area > 0
    )


def _with_rings(nuclei: Nuclei, rings: list[NDArray[np.float64]]) -> Nuclei:
    start = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]).astype(np.int64)
    return replace(nuclei, ring_xy=np.concatenate(rings), ring_start=start)
