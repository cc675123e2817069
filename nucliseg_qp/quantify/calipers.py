"""Longest and shortest diameter of outlines, all at once, by rotating calipers on their hulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["calipers", "following"]

_APART = 16.0
"""More than two full turns, so that the directions of two hulls never mix."""


class _Rings(NamedTuple):
    """Polygons one after the other: ``xy`` (2, m), ``start`` (n,), and whose they are."""

    xy: NDArray[np.float64]
    start: NDArray[np.int64]
    row: NDArray[np.int64]

    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.start, append=self.xy.shape[1])

    def take(self, chosen: NDArray[np.bool_], kept: NDArray[np.bool_] | None = None) -> _Rings:
        """Give the chosen rings (n,), of these the vertices to keep (m,) or all."""
        vertices = np.repeat(chosen, self.sizes())
        if kept is not None:
            vertices &= kept
        number = np.add.reduceat(vertices, self.start, dtype=np.int64)[chosen]
        # Numpy takes by number in a tenth of the time that it takes by mask.
        xy = self.xy.take(np.flatnonzero(vertices), axis=1)
        return _Rings(xy, np.cumsum(number) - number, self.row[chosen])


def calipers(
    xy: NDArray[np.float64], start: NDArray[np.int64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give longest distance between two vertices and least width of the hull of each polygon.

    Parameters
    ----------
    xy : ndarray of float64, shape (2, m)
        Vertices of simple polygons, one ring after the other, not closed.
    start : ndarray of int64, shape (n,)
        First vertex of each ring; none is empty.
    scale : ndarray of float64, shape (2,)
        Width and height of a pixel, by which vertices are multiplied.

    Returns
    -------
    tuple of ndarray of float64, shape (n,)
        In the unit of ``scale``.
    """
    largest, smallest = np.empty((2, len(start)))
    parts = list(_hulls(xy, start))
    sizes = np.concatenate([part.sizes() for part in parts])
    hulls = np.concatenate([part.xy for part in parts], axis=1) * scale[:, None]
    row = np.concatenate([part.row for part in parts])
    largest[row], smallest[row] = _rotate(hulls, np.cumsum(sizes) - sizes, sizes)
    return largest, smallest


def following(rows: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give for each vertex the values (k, m) of the next one in its ring."""
    shifted = np.empty_like(rows)
    shifted[:, :-1] = rows[:, 1:]
    shifted[:, np.append(start[1:], rows.shape[1]) - 1] = rows[:, start]
    return shifted


def _rotate(
    hull: NDArray[np.float64], first: NDArray[np.int64], size: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn calipers around counter-clockwise convex polygons (2, m).

    For every edge of every hull, the vertex farthest from it is where the directions of the edges
    pass the opposite one: one search in the directions of all hulls answers them all.
    """
    edge = following(hull, first) - hull
    turn = np.arctan2(edge[1], edge[0])
    # Directions rise all around a hull but for where they jump from pi to -pi.
    jump = np.diff(turn, prepend=turn[0]) < -np.pi
    jump[first] = False
    jumps = np.cumsum(jump)
    apart = _APART * np.arange(len(first)) - 2 * np.pi * jumps[first]
    turn += 2 * np.pi * jumps + np.repeat(apart, size)
    over = turn + np.pi >= np.repeat(turn[first] + 2 * np.pi, size)
    corner = np.searchsorted(turn, np.where(over, turn - np.pi, turn + np.pi))
    stop = first + size
    corner -= np.where(corner == np.repeat(stop, size), np.repeat(size, size), 0)
    before = np.arange(-1, len(turn) - 1)
    before[first] = stop - 1
    # Rounding may pass over one of two parallel edges: the corner before is tried as well.
    far, near = (hull.take(index, axis=1) - hull for index in (corner, before.take(corner)))
    distance = np.maximum(_square(far), _square(near))
    across, length = np.abs(edge[0] * far[1] - edge[1] * far[0]), np.sqrt(_square(edge))
    width = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    return np.sqrt(np.maximum.reduceat(distance, first)), np.minimum.reduceat(width, first)


def _square(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = xy
    squared: NDArray[np.float64] = x * x + y * y
    return squared


def _hulls(xy: NDArray[np.float64], start: NDArray[np.int64]) -> Iterator[_Rings]:
    """Give the convex hulls counter-clockwise, mirrored where the outline is clockwise.

    Graham's scan (1972) with all vertices at once: what is not convex goes, round by round.  The
    few outlines that it cannot do are left to OpenCV.
    """
    outlines = _counter_clockwise(_Rings(xy, start, np.arange(len(start))))
    # No corner of its hull is concave in a simple polygon.
    rings = outlines.take(np.full(len(start), True), ~(_bend(outlines) < 0))
    star = _stars(rings)
    if not star.all():
        yield _hulls_of_any(outlines.take(~star))
        rings = rings.take(star)
    while len(rings.row):
        # Seen from a centre inside, a vertex that is not convex lies in the triangle of the centre
        # and its neighbours, so it is no corner of the hull, whoever goes at the same time.
        convex = _bend(rings) > 0
        done = np.logical_and.reduceat(convex, rings.start)
        yield rings.take(done)
        rings = rings.take(~done, convex)


def _counter_clockwise(rings: _Rings) -> _Rings:
    x, y = rings.xy
    next_x, next_y = following(rings.xy, rings.start)
    clockwise = np.add.reduceat(x * next_y - next_x * y, rings.start) < 0
    mirrored = np.where(np.repeat(clockwise, rings.sizes()), -y, y)
    return rings._replace(xy=np.stack([x, mirrored]))


def _bend(rings: _Rings) -> NDArray[np.float64]:
    """Give how far the outline turns at each vertex, (m,): positive to the left."""
    edge_x, edge_y = following(rings.xy, rings.start) - rings.xy
    turn = np.empty(rings.xy.shape[1])
    turn[1:] = edge_x[:-1] * edge_y[1:] - edge_y[:-1] * edge_x[1:]
    last = np.append(rings.start[1:], len(turn)) - 1
    first = rings.start
    turn[first] = edge_x[last] * edge_y[first] - edge_y[last] * edge_x[first]
    return turn


def _stars(rings: _Rings) -> NDArray[np.bool_]:
    """Tell which outlines go around their mean vertex without ever turning back, (n,)."""
    sizes = rings.sizes()
    centre = np.add.reduceat(rings.xy, rings.start, axis=1) / sizes
    x, y = local = rings.xy - np.repeat(centre, sizes, axis=1)
    next_x, next_y = following(local, rings.start)
    ahead = np.minimum.reduceat(x * next_y - next_x * y, rings.start)
    return np.asarray(ahead > 0)


def _hulls_of_any(rings: _Rings) -> _Rings:
    import cv2

    single = np.ascontiguousarray(rings.xy.T, np.float32)
    stop = rings.start + rings.sizes()
    hulls = [
        cv2.convexHull(single[a:b], returnPoints=False)
        for a, b in zip(rings.start.tolist(), stop.tolist(), strict=True)
    ]
    size = np.array([len(hull) for hull in hulls])
    corner = np.concatenate(hulls)[:, 0] + np.repeat(rings.start, size)
    return _Rings(rings.xy[:, corner], np.cumsum(size) - size, rings.row)
