"""Size and shape of outlines, all polygons at once, with QuPath's definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.quantify.calipers import calipers, following

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
    """Give x and y, (2, m), relative to each ring's first vertex.

    Areas of slide coordinates lose half their digits.
    """
    exact = np.ascontiguousarray(ring_xy.T, np.float64)
    sizes = np.diff(start, append=exact.shape[1])
    return exact - np.repeat(exact[:, start], sizes, axis=1)


def _measure(
    xy: NDArray[np.float64], start: NDArray[np.int64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    square = abs(scale[0] - scale[1]) <= _ALMOST_THE_SAME * scale.max()
    length_scale = np.full(2, scale.mean()) if square else scale
    edge_x, edge_y = (following(xy, start) - xy) * length_scale[:, None]
    perimeter = np.add.reduceat(np.sqrt(edge_x * edge_x + edge_y * edge_y), start)
    area, _, moments = _moments(xy * scale[:, None], start)
    with np.errstate(divide="ignore", invalid="ignore"):
        circularity = np.where(area > 0, 4 * np.pi * area / perimeter**2, np.nan)
    largest, smallest = calipers(xy, start, scale)
    return np.stack([area, perimeter, circularity, largest, smallest, _eccentricity(moments)])


def _moments(
    xy: NDArray[np.float64], start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give area (n,), centroid (n, 2) and central second moments xx, yy, xy (n, 3).

    Green's theorem (Steger, On the calculation of arbitrary moments of polygons, 1996).
    """
    (x0, y0), (x1, y1) = xy, following(xy, start)
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
    mean = np.add.reduceat(xy, start, axis=1) / np.diff(start, append=xy.shape[1])
    centre = np.where(flat, mean, np.stack([first_x, first_y])).T
    central = [xx - first_x**2, yy - first_y**2, xy_ - first_x * first_y]
    return np.abs(signed), centre, np.stack(central, axis=1)


def _eccentricity(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    xx, yy, xy = moments.T
    spread = np.hypot(xx - yy, 2 * xy)
    # With the axes' squares proportional to (xx + yy + spread) and (xx + yy - spread).
    with np.errstate(divide="ignore", invalid="ignore"):
        eccentricity: NDArray[np.float64] = np.sqrt(2 * spread / (xx + yy + spread))
    return np.minimum(eccentricity, 1)
