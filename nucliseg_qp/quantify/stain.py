"""How strongly each nucleus is stained and what colour it has, all nuclei of a tile in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.masks.contours import run_starts, spread
from nucliseg_qp.palette.rules import HUE, SATURATION, VALUE
from nucliseg_qp.palette.stains import STAIN_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.palette.stains import StainMatrix

__all__ = ["measure_stains"]

_BLOCK_PX = 32_768
"""Pixels worked on at once: what lies between input and sums stays in the processor's cache."""

_COLUMNS = (*STAIN_COLUMNS, HUE, SATURATION, VALUE)

_SHARE = (np.arange(256) / np.float32(255)).astype(np.float32)
_ANGLE = np.arange(256) * (2 * np.pi / 256)
_COS, _SIN = np.cos(_ANGLE).astype(np.float32), np.sin(_ANGLE).astype(np.float32)


def measure_stains(
    rgb: NDArray[np.uint8], labels: NDArray[np.int32], count: int, stains: StainMatrix
) -> dict[str, NDArray[np.float32]]:
    """Measure the stains and the colour of nuclei 1 to ``count``.

    Stain columns equal those of QuPath 0.6 for the same pixels: values are float32
    concentrations, sums are double, the standard deviation divides by ``n - 1``
    (``RunningStatistics``), so that it is NaN for a nucleus of one pixel.

    The colour is the mean of the pixels' HSV. Hue is averaged on the circle, every pixel weighted
    by its saturation, because the hue of a grey pixel is noise.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
        The tile.
    labels : ndarray of int32, shape (h, w)
        0 for background; pixels with labels above ``count`` are left out.
    count : int
        Number of nuclei.
    stains : StainMatrix
        Stain vectors.

    Returns
    -------
    dict of str to ndarray of float32, shape (count,)
        ``Nucleus: Hematoxylin OD mean`` (then sum, std dev, max, min, range), the same for
        ``DAB OD``, then ``NucliSeg: Hue`` in degrees from 0 to 360, ``NucliSeg: Saturation`` and
        ``NucliSeg: Value`` from 0 to 1. NaN where a label has no pixel.
    """
    columns = np.full((len(_COLUMNS), count), np.nan)
    pixel, start = _by_nucleus(labels, count)
    filled = np.flatnonzero(np.diff(start))
    if len(filled):
        words = _words(rgb)
        for some in np.split(filled, np.flatnonzero(np.diff(start[filled] // _BLOCK_PX)) + 1):
            chosen = words.take(pixel[start[some[0]] : start[some[-1] + 1]])
            columns[:, some] = _fold(chosen, start[some] - start[some[0]], stains)
    return dict(zip(_COLUMNS, columns.astype(np.float32), strict=True))


def _by_nucleus(
    labels: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the flat places of the pixels, nucleus by nucleus, and where each one's start.

    Shapes (n,) and (count + 1,).  A nucleus is a few dozen runs but hundreds of pixels: the runs
    are sorted and the pixels follow.
    """
    flat = labels.reshape(-1)
    first = run_starts(flat)
    owner, size = flat.take(first), np.diff(first, append=flat.size)
    wanted = np.flatnonzero((owner > 0) & (owner <= count))
    # Short integers are sorted by radix.
    row = (owner[wanted] - 1).astype(np.min_scalar_type(count))
    order = wanted[np.argsort(row, kind="stable")]
    first, size, row = first[order], size[order], owner[order] - 1
    sizes = np.bincount(row, size, count).astype(np.int64)
    return spread(first, size), np.concatenate([[0], np.cumsum(sizes)])


def _words(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Give a pixel four bytes: words are gathered several times faster than rows of three."""
    import cv2

    return cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA).view(np.uint32).reshape(-1)


def _fold(
    words: NDArray[np.uint32], start: NDArray[np.int64], stains: StainMatrix
) -> NDArray[np.float64]:
    """Measure nuclei whose pixels lie one behind the other: (columns, nuclei)."""
    import cv2

    pixels = cv2.cvtColor(words.view(np.uint8).reshape(1, -1, 4), cv2.COLOR_RGBA2RGB)[0]
    stained = stains.planes(pixels)
    # Both stains, their squares, S cos H, S sin H, S and V.
    rows = np.empty((8, len(pixels)))
    rows[:2] = stained
    np.multiply(rows[:2], rows[:2], out=rows[2:4])
    _put_hsv(pixels, rows[4:])
    sums = np.add.reduceat(rows, start, axis=1)
    largest = np.maximum.reduceat(stained, start, axis=1)
    smallest = np.minimum.reduceat(stained, start, axis=1)
    sizes = np.diff(start, append=len(pixels))
    return np.stack(
        [
            *_statistics(sums[0], sums[2], largest[0], smallest[0], sizes),
            *_statistics(sums[1], sums[3], largest[1], smallest[1], sizes),
            *_colour(sums[4:], sizes),
        ]
    )


def _put_hsv(pixels: NDArray[np.uint8], into: NDArray[np.float64]) -> None:
    """Put S cos H, S sin H, S and V of pixels (n, 3) into rows (4, n)."""
    import cv2

    # HSV_FULL spreads the hue circle over 256 steps of 1.4 degrees.
    hue, saturation, value = cv2.split(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV_FULL))
    into[2] = share = cv2.LUT(saturation, _SHARE)[0]
    into[3] = cv2.LUT(value, _SHARE)[0]
    np.multiply(cv2.LUT(hue, _COS)[0], share, out=into[0])
    np.multiply(cv2.LUT(hue, _SIN)[0], share, out=into[1])


def _statistics(
    total: NDArray[np.floating],
    squares: NDArray[np.floating],
    largest: NDArray[np.floating],
    smallest: NDArray[np.floating],
    sizes: NDArray[np.floating],
) -> tuple[NDArray[np.floating], ...]:
    mean = total / sizes
    with np.errstate(invalid="ignore"):
        variance = np.maximum(squares - total * mean, 0) / (sizes - 1)
    # A constant nucleus has no spread; the subtraction above leaves a rounding error.
    variance[(largest == smallest) & (sizes > 1)] = 0
    return mean, total, np.sqrt(variance), largest, smallest, largest - smallest


def _colour(
    sums: NDArray[np.floating], sizes: NDArray[np.floating]
) -> tuple[NDArray[np.floating], ...]:
    east, north, saturation, value = sums / sizes
    return np.degrees(np.arctan2(north, east)) % 360, saturation, value
