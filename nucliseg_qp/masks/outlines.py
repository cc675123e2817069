"""From a label image to outlines, all nuclei at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Outlines", "trace_outlines"]

SPARE_PX = 0.35
"""Less than a quarter of a pixel's diagonal."""
SMALLEST_RING = 8
"""Outlines with fewer vertices are left as they are."""

# The eight neighbours (x, y) in the order in which OpenCV looks around a border pixel.
_STEP = np.array([(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)])
_CODE = np.zeros((3, 3), np.int64)
_CODE[_STEP[:, 1] + 1, _STEP[:, 0] + 1] = np.arange(8)


def _edge_table() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    # For a border pixel entered from direction a and left in direction b: the edges of the pixel
    # passed while turning from a to b.  Their midpoints are the vertices of the outline.
    number = np.zeros((8, 8), np.int64)
    middle = np.zeros((8, 8, 4, 2))
    for a in range(8):
        for b in range(8):
            turn = (b - a) % 8 or 8
            passed = [(a + k) % 8 for k in range(1, turn) if (a + k) % 2 == 0]
            number[a, b] = len(passed)
            middle[a, b, : len(passed)] = _STEP[passed] / 2 if passed else 0
    return number, middle


_EDGE_NUMBER, _EDGE_MIDDLE = _edge_table()


class Outlines(NamedTuple):
    """Outlines of the labels 1 to n; label ``i + 1`` is ring ``i``.

    ``ring_xy`` (m, 2) float64 in pixels of the label image (corner (0, 0)), rings open, all
    simple polygons; ``ring_start`` (n + 1,) int64; ``area_px`` (n,) int64, pixels enclosed, 0 for
    a label that does not occur.
    """

    ring_xy: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    area_px: NDArray[np.int64]


def trace_outlines(labels: NDArray[np.int32], count: int) -> Outlines:
    """Trace every label and make it one piece without holes.

    The outline runs along the midpoints of pixel edges (marching squares at one half), so that
    the pixels whose centre it encloses are exactly the pixels of the label, as QuPath would
    rasterise it.  Vertices that can go without changing that are left out.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Labels 1 to ``count``; changed in place: of several pieces only the largest stays, holes
        are filled where nobody else lives.
    count : int
        Number of labels.
    """
    contours, size_px = _largest_contours(labels, count)
    _redraw(labels, contours, size_px)
    filled = [contour for contour in contours if contour is not None]
    number = np.array([0 if contour is None else len(contour) for contour in contours], np.int64)
    if not filled:
        return Outlines(np.empty((0, 2)), np.zeros(count + 1, np.int64), size_px)
    ring_xy, ring_start = _through_edges(np.concatenate(filled).astype(np.int64), number)
    bends = _without_straight(ring_xy, ring_start)
    return Outlines(*_without_spare(*bends), size_px)


def _largest_contours(
    labels: NDArray[np.int32], count: int
) -> tuple[list[NDArray[np.int32] | None], NDArray[np.int64]]:
    import cv2

    found, _ = cv2.findContours(labels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    best: list[NDArray[np.int32] | None] = [None] * count
    size_px = np.zeros(count, np.int64)
    first = np.array([contour[0, 0] for contour in found], np.int64).reshape(-1, 2)
    owner = labels[first[:, 1], first[:, 0]]
    # What is left are the contours of nuclei; those of the background between them are dropped.
    contours = [found[index][:, 0].astype(np.int32) for index in np.flatnonzero(owner > 0).tolist()]
    enclosed = _enclosed_px(contours)
    order = np.argsort(enclosed, kind="stable")
    for index, label in zip(order.tolist(), owner[owner > 0][order].tolist(), strict=True):
        size_px[label - 1], best[label - 1] = enclosed[index], contours[index]
    return best, size_px


def _enclosed_px(contours: list[NDArray[np.int32]]) -> NDArray[np.int64]:
    # Pick's theorem on the polygons through pixel centres; exact for thin parts walked twice.
    if not contours:
        return np.empty(0, np.int64)
    number = np.array([len(contour) for contour in contours])
    start = np.concatenate([[0], np.cumsum(number)])
    _, after = _neighbours(start)
    x, y = np.concatenate(contours).astype(np.int64).T
    twice = np.abs(np.add.reduceat(x * y[after] - x[after] * y, start[:-1]))
    return (twice + np.where(number > 1, number, 0)) // 2 + 1


def _redraw(
    labels: NDArray[np.int32],
    contours: list[NDArray[np.int32] | None],
    size_px: NDArray[np.int64],
) -> None:
    import cv2

    labels[:] = 0
    # The small ones last: one that lies in a hole of another must not be filled over.
    for index in np.argsort(-size_px, kind="stable").tolist():
        contour = contours[index]
        if contour is not None:
            cv2.drawContours(labels, [contour], -1, index + 1, thickness=-1)


def _through_edges(
    pixel_xy: NDArray[np.int64], number: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    start = np.concatenate([[0], np.cumsum(number)])
    before, after = _neighbours(start)
    entered = _direction(pixel_xy[before] - pixel_xy)
    left = _direction(pixel_xy[after] - pixel_xy)
    edges = _EDGE_NUMBER[entered, left]
    single = np.repeat(number == 1, number)
    edges[single] = 4
    vertex = np.repeat(np.arange(len(pixel_xy)), edges)
    place = np.arange(len(vertex)) - np.repeat(np.cumsum(edges) - edges, edges)
    middle = _EDGE_MIDDLE[entered[vertex], left[vertex], place]
    all_four = single[vertex]
    middle[all_four] = _STEP[2 * place[all_four]] / 2
    ring_start = np.concatenate([[0], np.cumsum(edges)])[start].astype(np.int64)
    return pixel_xy[vertex] + 0.5 + middle, ring_start


def _without_straight(
    ring_xy: NDArray[np.float64], ring_start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    before, after = _neighbours(ring_start)
    into, out = ring_xy - ring_xy[before], ring_xy[after] - ring_xy
    bends = into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]
    return _kept(ring_xy, ring_start, bends)


def _without_spare(
    ring_xy: NDArray[np.float64], ring_start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    # Vertices go where the outline hardly bends, no two neighbours.  No pixel centre is nearer to
    # an outline through pixel edges than a quarter of a pixel's diagonal, so a cut that stays
    # within this passes none: the enclosed pixels are the same.
    before, after = _neighbours(ring_start)
    chord, arm = ring_xy[after] - ring_xy[before], ring_xy - ring_xy[before]
    height = np.abs(chord[:, 0] * arm[:, 1] - chord[:, 1] * arm[:, 0])
    number = np.diff(ring_start)
    spare = height < SPARE_PX * np.hypot(chord[:, 0], chord[:, 1])
    spare &= np.repeat(number >= SMALLEST_RING, number)
    place = np.arange(len(ring_xy)) - np.repeat(ring_start[:-1], number)
    odd = place % 2 == 1
    gone = spare & odd
    # The first vertex may be the neighbour of another even one, the last.
    gone |= spare & ~odd & (place > 0) & ~gone[before] & ~gone[after]
    return _kept(ring_xy, ring_start, ~gone)


def _kept(
    ring_xy: NDArray[np.float64], ring_start: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    number = np.concatenate([[0], np.cumsum(kept)])
    return ring_xy[kept], number[ring_start].astype(np.int64)


def _neighbours(start: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    total = int(start[-1])
    before, after = np.arange(total) - 1, np.arange(total) + 1
    filled = start[:-1] < start[1:]
    first, last = start[:-1][filled], start[1:][filled] - 1
    before[first], after[last] = last, first
    return before, after


def _direction(step: NDArray[np.int64]) -> NDArray[np.int64]:
    return _CODE[step[:, 1] + 1, step[:, 0] + 1]
