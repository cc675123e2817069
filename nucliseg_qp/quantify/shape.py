"""Size and shape of outlines, all polygons at once, with QuPath's definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHAPE_COLUMNS", "centroids", "measure_shapes"]

SHAPE_COLUMNS = (
    "Nucleus: Area",
    "Nucleus: Perimeter",
    "Nucleus: Circularity",
    "Nucleus: Max caliper",
    "Nucleus: Min caliper",
    "Nucleus: Eccentricity",
)
"""Names of the shape measurements, as QuPath's cell detection spells and orders them."""

_ALMOST_THE_SAME = 1e-4
"""Relative difference of the two pixel sizes up to which QuPath takes a pixel for a square."""


def measure_shapes(
    ring_xy: NDArray[np.float64],
    ring_start: NDArray[np.int64],
    mpp_x: float | None = None,
    mpp_y: float | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Measure outlines as QuPath 0.6 measures the same polygons.

    Vertices are first rounded to float32, because QuPath's PolygonROI stores them so. Then

    - Area is ``ROI.getScaledArea`` and Perimeter ``ROI.getScaledLength``
      (``PolygonROI``, ``ClosedShapeStatistics``);
    - Circularity is ``RoiTools.getCircularity``: 4 pi area / perimeter^2;
    - Max and Min caliper are ImageJ's ``Roi.getFeretValues``, which QuPath's cell detection
      writes under these names: the longest distance between two vertices and the least width of
      the convex hull. ("Max diameter" of QuPath's "Add shape features" is another thing, the
      diameter of the bounding circle.)
    - Eccentricity is that of the ellipse with the polygon's second moments. ImageJ fits the same
      ellipse to a pixel mask; both agree for an outline along pixel edges, for others they differ
      by what the mask lost. The outline is the truth here, since it is all that QuPath keeps.

    Parameters
    ----------
    ring_xy : ndarray of float64, shape (m, 2)
        Vertices of simple polygons, one ring after the other, not closed, in pixels.
    ring_start : ndarray of int64, shape (n + 1,)
        Ring ``i`` is ``ring_xy[ring_start[i]:ring_start[i + 1]]``.
    mpp_x, mpp_y : float, optional
        Width and height of a pixel in um; without a height pixels are squares, without both
        lengths are in pixels.

    Returns
    -------
    dict of str to ndarray of float32, shape (n,)
        ``SHAPE_COLUMNS``, in um or px (areas in um^2 or px^2). A ring without vertices has NaN
        everywhere, one without area has no circularity or eccentricity.
    """
    width = 1.0 if mpp_x is None else mpp_x
    scale = np.array([width, width if mpp_y is None else mpp_y])
    filled = np.flatnonzero(np.diff(ring_start))
    start = ring_start[filled]
    columns = np.full((len(SHAPE_COLUMNS), len(ring_start) - 1), np.nan)
    if len(filled):
        local = _local(ring_xy[: ring_start[-1]].astype(np.float32), start)
        columns[:, filled] = _measure(local, start, scale)
    return dict(zip(SHAPE_COLUMNS, columns.astype(np.float32), strict=True))


def centroids(ring_xy: NDArray[np.float64], ring_start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the centroid of each outline, by which QuPath decides where an object lies.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        x and y in pixels; the mean vertex of a ring without area, NaN for one without vertices.
    """
    filled = np.flatnonzero(np.diff(ring_start))
    start = ring_start[filled]
    result = np.full((len(ring_start) - 1, 2), np.nan)
    if len(filled):
        local = _local(ring_xy[: ring_start[-1]], start)
        result[filled] = ring_xy[start] + _moments(local, start)[1]
    return result


def _local(ring_xy: NDArray[np.floating], start: NDArray[np.int64]) -> NDArray[np.float64]:
    # Relative to each ring's first vertex: areas of slide coordinates lose half their digits.
    exact = ring_xy.astype(np.float64)
    return exact - np.repeat(exact[start], np.diff(start, append=len(exact)), axis=0)


def _measure(
    xy: NDArray[np.float64], start: NDArray[np.int64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    square = abs(scale[0] - scale[1]) <= _ALMOST_THE_SAME * scale.max()
    length_scale = np.full(2, scale.mean()) if square else scale
    edges = np.hypot(*((_following(xy, start) - xy) * length_scale).T)
    perimeter = np.add.reduceat(edges, start)
    area, _, moments = _moments(xy * scale, start)
    with np.errstate(divide="ignore", invalid="ignore"):
        circularity = np.where(area > 0, 4 * np.pi * area / perimeter**2, np.nan)
    largest, smallest = _calipers(xy * scale, start)
    return np.stack([area, perimeter, circularity, largest, smallest, _eccentricity(moments)])


def _following(xy: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    following = np.roll(xy, -1, axis=0)
    following[np.append(start[1:], len(xy)) - 1] = xy[start]
    return following


def _moments(
    xy: NDArray[np.float64], start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give area (n,), centroid (n, 2) and central second moments xx, yy, xy (n, 3).

    Green's theorem (Steger, On the calculation of arbitrary moments of polygons, 1996).
    """
    (x0, y0), (x1, y1) = xy.T, _following(xy, start).T
    cross = x0 * y1 - x1 * y0
    terms = np.stack(
        [
            cross / 2,
            (x0 + x1) * cross / 6,
            (y0 + y1) * cross / 6,
            (x0 * x0 + x0 * x1 + x1 * x1) * cross / 12,
            (y0 * y0 + y0 * y1 + y1 * y1) * cross / 12,
            (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0) * cross / 24,
        ]
    )
    signed, *sums = np.add.reduceat(terms, start, axis=1)
    flat = signed == 0
    first_x, first_y, xx, yy, xy_ = np.stack(sums) / np.where(flat, np.nan, signed)
    mean = np.add.reduceat(xy, start) / np.diff(start, append=len(xy))[:, None]
    centre = np.where(flat[:, None], mean, np.stack([first_x, first_y], axis=1))
    central = [xx - first_x**2, yy - first_y**2, xy_ - first_x * first_y]
    return np.abs(signed), centre, np.stack(central, axis=1)


def _eccentricity(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    xx, yy, xy = moments.T
    spread = np.hypot(xx - yy, 2 * xy)
    # With the axes' squares proportional to (xx + yy + spread) and (xx + yy - spread).
    with np.errstate(divide="ignore", invalid="ignore"):
        eccentricity: NDArray[np.float64] = np.sqrt(2 * spread / (xx + yy + spread))
    return np.minimum(eccentricity, 1)


def _calipers(
    xy: NDArray[np.float64], start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give longest distance and least width of each ring by rotating calipers on its hull.

    For every edge of every hull, the vertex farthest from it is where the directions of the edges
    pass the opposite one: one search in the sorted directions of all hulls answers them all.
    """
    hull, first = _hulls(xy, start)
    size = np.diff(first, append=len(hull))
    owner = np.repeat(np.arange(len(first)), size)
    edge = _following(hull, first) - hull
    turn = np.arctan2(edge[:, 1], edge[:, 0])
    order = np.lexsort((turn, owner))
    hull, edge, turn = hull[order], edge[order], turn[order]
    opposite = np.where(turn > 0, turn - np.pi, turn + np.pi)
    # Eight is more than a full turn, so that the hulls' ranges do not touch.
    found = np.searchsorted(turn + 8.0 * owner, opposite + 8.0 * owner) - first[owner]
    # Rounding may pass over one of two parallel edges: the corner before is tried as well.
    far = [hull[first[owner] + (found + step) % size[owner]] - hull for step in (0, -1)]
    distance = np.max([np.hypot(*offset.T) for offset in far], axis=0)
    length = np.hypot(*edge.T)
    across = np.abs(edge[:, 0] * far[0][:, 1] - edge[:, 1] * far[0][:, 0])
    width = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    return np.maximum.reduceat(distance, first), np.minimum.reduceat(width, first)


def _hulls(
    xy: NDArray[np.float64], start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import cv2

    single = xy.astype(np.float32)
    stop = np.append(start[1:], len(xy))
    # The rings are the one thing walked one by one here: 2 us each.
    hulls = [
        cv2.convexHull(single[a:b], returnPoints=False)
        for a, b in zip(start.tolist(), stop.tolist(), strict=True)
    ]
    size = list(map(len, hulls))
    corner = np.concatenate(hulls)[:, 0] + np.repeat(start, size)
    return xy[corner], np.cumsum([0, *size])[:-1]
