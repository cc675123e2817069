"""From a label image to outlines, all nuclei at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nucliseg_qp.masks.contours import following, mended_contours, preceding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.masks.contours import Contours

__all__ = ["GreyBorder", "Outlines", "trace_outlines"]

NEAREST = 0.2
"""An outline passes between two pixels no nearer to either centre than this share of the way."""
STEPS = 20
"""Places between two pixels where it may pass: few digits in a file."""
SPARE_PX = 0.14
"""Bends this small are straightened: less than ``NEAREST`` / sqrt(2)."""
SMALLEST_RING = 8
"""Outlines with fewer vertices are left as they are."""

# The eight neighbours (x and y) in the order in which OpenCV looks around a border pixel.
_STEP = np.array([[1, 1, 0, -1, -1, -1, 0, 1], [0, -1, -1, -1, 0, 1, 1, 1]], np.int32)
_CODE = np.zeros(9, np.int64)
_CODE[3 * _STEP[1] + _STEP[0] + 4] = np.arange(8)
_ALONE = 64


def _edge_table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # For a border pixel reached by a step in direction a and left in direction b, at 8 a + b: the
    # edges of the pixel passed while turning, as directions.  A pixel alone has all four.
    number = np.full(65, 4)
    passed = np.zeros((65, 4), np.int64)
    passed[_ALONE] = np.arange(0, 8, 2)
    for a in range(8):
        for b in range(8):
            # Who comes by a step looks around from where that step began.
            turn = (b - a - 4) % 8 or 8
            edges = [(a + 4 + k) % 8 for k in range(1, turn) if (a + k) % 2 == 0]
            number[8 * a + b] = len(edges)
            passed[8 * a + b, : len(edges)] = edges
    return number, passed.reshape(-1)


_EDGE_NUMBER, _EDGE_PASSED = _edge_table()


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
        return cls(red, red * (labels <= 0), limit)


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
    outer, size_px = mended_contours(labels, count)
    xy, start = _crossings(outer, border)
    for spare in (0.0, SPARE_PX * STEPS):
        xy, start = _thinned(xy, start, spare)
    ring_start = np.concatenate([[0], start[np.cumsum(size_px > 0)]])
    return Outlines(np.ascontiguousarray(xy.T) / STEPS, ring_start, size_px)


def _crossings(
    outer: Contours, border: GreyBorder | None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give where outlines pass between pixels, (2, m) in ``STEPS``, and where rings start."""
    key = 3 * outer.xy[:, 1] + outer.xy[:, 0]
    left = _CODE.take(following(key, outer.start) - key + 4)
    turn = 8 * preceding(left, outer.start) + left
    turn[outer.start[:-1][np.diff(outer.start) == 1]] = _ALONE
    edges = _EDGE_NUMBER.take(turn)
    first = np.concatenate([[0], np.cumsum(edges)])
    start = first[outer.start]
    pixel = np.repeat(np.arange(len(edges)), edges)
    place = np.arange(len(pixel)) + (4 * turn - first[:-1]).take(pixel)
    step_xy = _STEP.take(_EDGE_PASSED.take(place), axis=1)
    inner_xy = np.ascontiguousarray(outer.xy.T).take(pixel, axis=1)
    # In whole steps, so that no rounding depends on where in a tile a nucleus lies.
    way: int | NDArray[np.int32] = STEPS // 2
    if border is not None:
        limit = np.repeat(border.limit[outer.owner], np.diff(start))
        way = np.rint(STEPS * _shares(inner_xy, step_xy, limit, border)).astype(np.int32)
    return STEPS * inner_xy + STEPS // 2 + way * step_xy, start


def _shares(
    inner_xy: NDArray[np.int32],
    step_xy: NDArray[np.int32],
    limit: NDArray[np.float64],
    border: GreyBorder,
) -> NDArray[np.float64]:
    """Give for each vertex how far it lies on the way to the pixel outside, shape (m,)."""
    height, width = border.inner.shape
    (x, y), (step_x, step_y) = inner_xy, step_xy
    beyond = np.clip(y + step_y, 0, height - 1) * width + np.clip(x + step_x, 0, width - 1)
    inner = border.inner.take(y * width + x).astype(np.float64)
    outer = border.outer.take(beyond).astype(np.float64)
    # Elsewhere a neighbour, the reach or the image ends the nucleus.
    fades = (inner < limit) & (outer > limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(fades, (limit - inner) / (outer - inner), 0.5)
    return np.asarray(share.clip(NEAREST, 1 - NEAREST), np.float64)


def _thinned(
    xy: NDArray[np.int32], start: NDArray[np.int64], spare: float
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Leave out vertices where the outline bends by at most ``spare``, no two neighbours.

    No pixel centre is nearer to an outline than ``NEAREST`` / sqrt(2), so a cut that stays within
    this passes none: the enclosed pixels are the same.  Without any bend neighbours may go, too.
    """
    before = preceding(xy, start)
    (chord_x, chord_y), (x, y) = following(xy, start) - before, xy - before
    height = chord_x * y - chord_y * x
    if spare == 0:
        return _kept(xy, start, height != 0)
    low = np.abs(height) < spare * np.sqrt(chord_x * chord_x + chord_y * chord_y)
    number = np.diff(start)
    # Places in rings too small to lose any are below zero.
    place = np.arange(len(low)) - np.repeat(
        np.where(number < SMALLEST_RING, len(low), start[:-1]), number
    )
    low &= place >= 0
    odd = (place & 1).astype(bool)
    gone = low & odd
    # The first vertex may be the neighbour of another even one, the last.
    gone |= low & ~odd & (place > 0) & ~preceding(gone, start) & ~following(gone, start)
    return _kept(xy, start, ~gone)


def _kept(
    xy: NDArray[np.int32], start: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    number = np.concatenate([[0], np.cumsum(kept)])
    # Numpy takes by number in a tenth of the time that it takes by mask.
    return xy.take(np.flatnonzero(kept), axis=1), number[start]
