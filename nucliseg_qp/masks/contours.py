"""Border pixels of the pieces of a label image, and labels made one piece without holes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Contours",
    "following",
    "mended_contours",
    "places",
    "preceding",
    "run_starts",
    "spread",
]

Value = TypeVar("Value", bound=np.generic)

ROOMY_PX = 13
"""A piece that encloses another with an inside has this many pixels at least."""


class Contours(NamedTuple):
    """Border pixels of pieces of labels: ``xy`` (m, 2) int32, ``start`` (n + 1,), labels (n,)."""

    xy: NDArray[np.int32]
    start: NDArray[np.int64]
    owner: NDArray[np.int32]

    def take(self, chosen: NDArray[np.int64]) -> Contours:
        """Give some contours, by number."""
        first, number = self.start[chosen], self.start[chosen + 1] - self.start[chosen]
        start = np.concatenate([[0], np.cumsum(number)])
        return Contours(self.xy.take(spread(first, number), axis=0), start, self.owner[chosen])

    def one(self, index: int) -> NDArray[np.int32]:
        """Give the border pixels of one contour, (k, 2)."""
        return self.xy[self.start[index] : self.start[index + 1]]

    def some(self, chosen: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
        """Give the border pixels of contours, by mask."""
        return [self.one(index) for index in np.flatnonzero(chosen).tolist()]


def mended_contours(labels: NDArray[np.int32], count: int) -> tuple[Contours, NDArray[np.int64]]:
    """Make every label one piece without holes and give their contours.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        Labels 1 to ``count``; changed in place: of several pieces only the largest stays, holes
        are filled where nobody else lives.
    count : int
        Number of labels.

    Returns
    -------
    tuple of (Contours, ndarray of int64)
        One contour for each label that occurs, in order, and the pixels of each label, (count,).
    """
    pieces = _trace(labels)
    enclosed = _enclosed_px(pieces)
    best, size_px = _largest(pieces.owner, enclosed, count)
    found = best >= 0
    outer = pieces.take(best[found])
    # Who has fewer pixels than its borders enclose has holes.
    holed = _found_px(labels, count) != np.bincount(pieces.owner, enclosed, count + 1)[1:]
    if len(outer.owner) < len(pieces.owner) or holed.any():
        drawn = np.ascontiguousarray(labels)
        _clear_islands(drawn, pieces, enclosed, best[found])
        _mend(drawn, outer, size_px[found], holed[found])
        if drawn is not labels:
            labels[:] = drawn
    return outer, size_px


def _trace(labels: NDArray[np.int32]) -> Contours:
    """Give the outer contour of every piece of every label."""
    import cv2

    found, _ = cv2.findContours(labels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    start = np.cumsum([0, *map(len, found)])
    xy = np.concatenate([np.empty((0, 1, 2), np.int32), *found])[:, 0]
    x, y = xy[start[:-1]].T
    every = Contours(xy, start, labels[y, x])
    # The background between nuclei has contours, too.
    return every.take(np.flatnonzero(every.owner > 0))


def _largest(
    owner: NDArray[np.int32], enclosed: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the largest piece of each label by number, -1 for none, and the pixels it encloses."""
    best, size_px = np.full(count, -1), np.zeros(count, np.int64)
    order = np.lexsort((enclosed, owner))
    last = order[np.flatnonzero(np.diff(owner[order], append=0))]
    row = owner[last] - 1
    best[row], size_px[row] = last, enclosed[last]
    return best, size_px


def _enclosed_px(contours: Contours) -> NDArray[np.int64]:
    # Pick's theorem on the polygons through pixel centres; exact for thin parts walked twice.
    xy, start = contours.xy, contours.start
    if not len(xy):
        return np.empty(0, np.int64)
    x, y = xy.T
    twice = (x + following(x, start)) * (following(y, start) - y)
    number = np.diff(start)
    steps = np.where(number > 1, number, 0)
    return (np.abs(np.add.reduceat(twice, start[:-1], dtype=np.int64)) + steps) // 2 + 1


def _clear_islands(
    labels: NDArray[np.int32],
    pieces: Contours,
    enclosed: NDArray[np.int64],
    best: NDArray[np.int64],
) -> None:
    """Leave of every label the best piece; whoever lives within another is drawn again later."""
    import cv2

    island = np.full(len(pieces.owner), True)
    island[best] = False
    small = enclosed < ROOMY_PX
    # OpenCV leaves out what two contours of one call enclose.
    cv2.drawContours(labels, pieces.some(island & small), -1, 0, thickness=-1)
    for ring in pieces.some(island & ~small):
        cv2.drawContours(labels, [ring], -1, 0, thickness=-1)


def _mend(
    labels: NDArray[np.int32],
    outer: Contours,
    size_px: NDArray[np.int64],
    holed: NDArray[np.bool_],
) -> None:
    """Draw anew the labels that have holes, and those that were lost by that."""
    # The small ones last: one that lies in a hole of another must not be filled over.
    order = np.argsort(-size_px, kind="stable")
    _draw(labels, outer, order[holed[order]])
    # Nor must one that is whole.
    shown = labels.reshape(-1).take(outer.xy[:, 1] * labels.shape[1] + outer.xy[:, 0])
    other = shown != np.repeat(outer.owner, np.diff(outer.start))
    lost = np.logical_or.reduceat(other, outer.start[:-1]) & ~holed
    _draw(labels, outer, np.flatnonzero(lost))


def _draw(labels: NDArray[np.int32], contours: Contours, chosen: NDArray[np.int64]) -> None:
    import cv2

    for index, label in zip(chosen.tolist(), contours.owner[chosen].tolist(), strict=True):
        cv2.drawContours(labels, [contours.one(index)], -1, label, thickness=-1)


def _found_px(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Count the pixels of each label, run by run: (count,)."""
    flat = labels.reshape(-1)
    first = run_starts(flat)
    size = np.diff(first, append=flat.size)
    return np.bincount(flat.take(first), size, count + 1)[1:].astype(np.int64)


def run_starts(values: NDArray[np.int32]) -> NDArray[np.int64]:
    """Give where runs of equal values begin, (r,)."""
    fresh = np.empty(values.size, bool)
    fresh[:1] = True
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return places(fresh)


def places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give where a mask is true, as ``flatnonzero``, in half its time where few places are.

    Most words of eight places hold none, so only the others are looked into.
    """
    flat = mask.reshape(-1)
    whole = flat.size // 8 * 8
    words = flat[:whole].view(np.uint64)
    word = np.flatnonzero(words != 0)
    found = np.flatnonzero(words.take(word).view(bool))
    rest = whole + np.flatnonzero(flat[whole:])
    return np.concatenate([8 * word.take(found >> 3) + (found & 7), rest])


def spread(first: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the places of runs one after the other: ``number`` from ``first`` on of each."""
    place = np.repeat(first - (np.cumsum(number) - number), number)
    place += np.arange(len(place))
    return place


def following(values: NDArray[Value], start: NDArray[np.int64]) -> NDArray[Value]:
    """Give for each vertex, along the last axis, the value of the next one in its ring."""
    shifted = np.empty_like(values)
    shifted[..., :-1] = values[..., 1:]
    shifted[..., start[1:] - 1] = values[..., start[:-1]]
    return shifted


def preceding(values: NDArray[Value], start: NDArray[np.int64]) -> NDArray[Value]:
    """Give for each vertex, along the last axis, the value of the one before it in its ring."""
    shifted = np.empty_like(values)
    shifted[..., 1:] = values[..., :-1]
    shifted[..., start[:-1]] = values[..., start[1:] - 1]
    return shifted
