"""From a label image to outlines, all nuclei at once."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["GreyBorder", "Outlines", "trace_outlines"]

NEAREST = 0.2
"""An outline passes between two pixels no nearer to either centre than this share of the way."""
STEPS = 20
"""Places between two pixels where it may pass: few digits in a file."""
SPARE_PX = 0.14
"""Bends this small are straightened: less than ``NEAREST`` / sqrt(2)."""
SMALLEST_RING = 8
"""Outlines with fewer vertices are left as they are."""

# The eight neighbours (x, y) in the order in which OpenCV looks around a border pixel.
_STEP = np.array([(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)])
_CODE = np.zeros(9, np.int64)
_CODE[3 * _STEP[:, 1] + _STEP[:, 0] + 4] = np.arange(8)
_ALONE = 64


def _edge_table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # For a border pixel entered from direction a and left in direction b, at 8 a + b: the edges of
    # the pixel passed while turning from a to b, as directions.  A pixel alone has all four.
    number = np.full(65, 4)
    passed = np.zeros((65, 4), np.int64)
    passed[_ALONE] = np.arange(0, 8, 2)
    for a in range(8):
        for b in range(8):
            turn = (b - a) % 8 or 8
            edges = [(a + k) % 8 for k in range(1, turn) if (a + k) % 2 == 0]
            number[8 * a + b] = len(edges)
            passed[8 * a + b, : len(edges)] = edges
    return number, passed.reshape(-1)


_EDGE_NUMBER, _EDGE_PASSED = _edge_table()

Value = TypeVar("Value", bound=np.generic)
Ring = NDArray[np.complex128]
"""Vertices of rings one after the other as x + iy: half the passes of two columns."""


class GreyBorder(NamedTuple):
    """Where labels end: where grey levels pass a label's ``limit``, (n + 1,).

    ``inner`` (h, w) uint8 are the levels inside of nuclei, ``outer`` those of the background,
    0 where any nucleus lies.
    """

    inner: NDArray[np.uint8]
    outer: NDArray[np.uint8]
    limit: NDArray[np.float64]

    @classmethod
    def of(
        cls, red: NDArray[np.uint8], labels: NDArray[np.int32], limit: NDArray[np.float64]
    ) -> GreyBorder:
        """Take levels (h, w) and the labels of all nuclei there, also of those nobody asks for."""
        outer = red.copy()
        outer[labels > 0] = 0
        return cls(red, outer, limit)


class Outlines(NamedTuple):
    """Outlines of the labels 1 to n; label ``i + 1`` is ring ``i``.

    ``ring_xy`` (m, 2) float64 in pixels of the label image (corner (0, 0)), rings open, all
    simple polygons; ``ring_start`` (n + 1,) int64; ``area_px`` (n,) int64, pixels enclosed, 0 for
    a label that does not occur.
    """

    ring_xy: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    area_px: NDArray[np.int64]


def trace_outlines(
    labels: NDArray[np.int32], count: int, border: GreyBorder | None = None
) -> Outlines:
    """Trace every label and make it one piece without holes.

    The outline crosses between each pixel of the label and its neighbours outside (marching
    squares): half way, or where the grey level passes the label's limit.  The pixels whose centre
    it encloses are exactly the pixels of the label, as QuPath would rasterise it.  Vertices that
    can go without changing that are left out.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Labels 1 to ``count``; changed in place: of several pieces only the largest stays, holes
        are filled where nobody else lives.
    count : int
        Number of labels.
    border : GreyBorder, optional
        Grey levels of the same pixels; without them all crossings are half way.
    """
    contours, size_px, pieces = _largest_contours(labels, count)
    found_px = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
    # As many pixels in islands as in holes would go unseen by their number alone.
    _mend(labels, contours, size_px, (found_px != size_px) | (pieces > 1))
    filled = [contour for contour in contours if contour is not None]
    number = np.array([0 if contour is None else len(contour) for contour in contours], np.int64)
    if not filled:
        return Outlines(np.empty((0, 2)), np.zeros(count + 1, np.int64), size_px)
    pixel_xy = np.concatenate(filled)
    vertex, step_xy, start = _crossings(pixel_xy, number)
    inner_xy = pixel_xy[vertex]
    share = 0.5 if border is None else _shares(inner_xy, inner_xy + step_xy, labels, border)
    # In whole steps, so that no rounding depends on where in a tile a nucleus lies.
    ring = STEPS * (_complex(inner_xy) + (0.5 + 0.5j)) + np.rint(STEPS * share) * _complex(step_xy)
    for spare in (0.0, SPARE_PX * STEPS):
        ring, start = _thinned(ring, start, spare)
    return Outlines(ring.view(np.float64).reshape(-1, 2) / STEPS, start, size_px)


def _largest_contours(
    labels: NDArray[np.int32], count: int
) -> tuple[list[NDArray[np.int32] | None], NDArray[np.int64], NDArray[np.int64]]:
    """Give the outer contour of the largest piece of each label, its pixels, and all contours."""
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
    return best, size_px, np.bincount(owner, minlength=count + 1)[1:]


def _enclosed_px(contours: list[NDArray[np.int32]]) -> NDArray[np.int64]:
    # Pick's theorem on the polygons through pixel centres; exact for thin parts walked twice.
    if not contours:
        return np.empty(0, np.int64)
    number = np.array([len(contour) for contour in contours])
    start = np.concatenate([[0], np.cumsum(number)])
    ring = _complex(np.concatenate(contours))
    cross = (ring.conj() * _following(ring, start)).imag
    twice = np.abs(np.add.reduceat(cross, start[:-1])).astype(np.int64)
    return (twice + np.where(number > 1, number, 0)) // 2 + 1


def _mend(
    labels: NDArray[np.int32],
    contours: list[NDArray[np.int32] | None],
    size_px: NDArray[np.int64],
    broken: NDArray[np.bool_],
) -> None:
    """Draw anew the labels that are in pieces or have holes, the broken ones."""
    import cv2

    if not broken.any():
        return
    canvas = np.zeros_like(labels)
    order = np.argsort(-size_px, kind="stable")
    # The small ones last: one that lies in a hole of another must not be filled over.
    for index in order[broken[order]].tolist():
        contour = contours[index]
        if contour is not None:
            cv2.drawContours(canvas, [contour], -1, index + 1, thickness=-1)
    free = np.append(True, broken)
    np.copyto(labels, canvas, where=free[labels])


def _crossings(
    pixel_xy: NDArray[np.int32], number: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Give the border pixel of each vertex, the step (x, y) out of it, and where rings start."""
    start = np.concatenate([[0], np.cumsum(number)])
    ring = 3 * pixel_xy[:, 1] + pixel_xy[:, 0]
    left = _CODE.take(_following(ring, start) - ring + 4)
    # Who is left in one direction is entered from the opposite one.
    turn = 8 * ((_preceding(left, start) + 4) % 8) + left
    turn[np.repeat(number == 1, number)] = _ALONE
    edges = _EDGE_NUMBER.take(turn)
    vertex = np.repeat(np.arange(len(pixel_xy)), edges)
    first = np.concatenate([[0], np.cumsum(edges)])
    place = np.arange(len(vertex)) - first.take(vertex)
    step = _STEP.take(_EDGE_PASSED.take(4 * turn.take(vertex) + place), axis=0)
    return vertex, step.astype(np.int32), first[start].astype(np.int64)


def _shares(
    inner_xy: NDArray[np.int32],
    outer_xy: NDArray[np.int32],
    labels: NDArray[np.int32],
    border: GreyBorder,
) -> NDArray[np.float64]:
    """Give for each vertex how far it lies on the way to the pixel outside, shape (m,)."""
    height, width = labels.shape
    x, y = np.clip(outer_xy[:, 0], 0, width - 1), np.clip(outer_xy[:, 1], 0, height - 1)
    here, there = inner_xy[:, 1] * width + inner_xy[:, 0], y * width + x
    inner = border.inner.take(here).astype(np.float64)
    outer = border.outer.take(there).astype(np.float64)
    limit = border.limit.take(labels.take(here))
    # Elsewhere a neighbour, the reach or the image ends the nucleus.
    fades = (inner < limit) & (outer > limit)
    share = np.full(len(limit), 0.5)
    np.divide(limit - inner, outer - inner, out=share, where=fades)
    return np.asarray(share.clip(NEAREST, 1 - NEAREST), np.float64)


def _thinned(ring: Ring, start: NDArray[np.int64], spare: float) -> tuple[Ring, NDArray[np.int64]]:
    """Leave out vertices where the outline bends by at most ``spare``, no two neighbours.

    No pixel centre is nearer to an outline than ``NEAREST`` / sqrt(2), so a cut that stays within
    this passes none: the enclosed pixels are the same.  Without any bend neighbours may go, too.
    """
    before = _preceding(ring, start)
    chord = _following(ring, start) - before
    height = np.abs((chord.conj() * (ring - before)).imag)
    if spare == 0:
        return _kept(ring, start, height > 0)
    number = np.diff(start)
    low = height < spare * np.abs(chord)
    low &= np.repeat(number >= SMALLEST_RING, number)
    place = np.arange(len(ring)) - np.repeat(start[:-1], number)
    odd = place % 2 == 1
    gone = low & odd
    # The first vertex may be the neighbour of another even one, the last.
    gone |= low & ~odd & (place > 0) & ~_preceding(gone, start) & ~_following(gone, start)
    return _kept(ring, start, ~gone)


def _kept(
    ring: Ring, start: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[Ring, NDArray[np.int64]]:
    number = np.concatenate([[0], np.cumsum(kept)])
    return ring[kept], number[start].astype(np.int64)


def _complex(xy: NDArray[np.int32]) -> Ring:
    return xy.astype(np.float64).view(np.complex128).reshape(-1)


def _following(values: NDArray[Value], start: NDArray[np.int64]) -> NDArray[Value]:
    """Give for each vertex the value of the next one in its ring."""
    shifted = np.empty_like(values)
    shifted[:-1] = values[1:]
    filled = start[:-1] < start[1:]
    shifted[start[1:][filled] - 1] = values[start[:-1][filled]]
    return shifted


def _preceding(values: NDArray[Value], start: NDArray[np.int64]) -> NDArray[Value]:
    """Give for each vertex the value of the one before it in its ring."""
    shifted = np.empty_like(values)
    shifted[1:] = values[:-1]
    filled = start[:-1] < start[1:]
    shifted[start[:-1][filled]] = values[start[1:][filled] - 1]
    return shifted
