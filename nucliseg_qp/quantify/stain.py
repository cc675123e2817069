"""How strongly each nucleus is stained and what colour it has, all nuclei of a tile in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.palette.rules import HUE, SATURATION, VALUE
from nucliseg_qp.palette.stains import STAIN_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.palette.stains import StainMatrix

__all__ = ["measure_stains"]

_BLOCK_PX = 131_072
"""Pixels worked on at once: what lies between input and sums stays in the processor's cache."""


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
    height = max(1, _BLOCK_PX // max(1, labels.shape[1]))
    rows = [slice(top, top + height) for top in range(0, len(labels), height)]
    runs = _Runs.joined([_fold_runs(rgb[one], labels[one], count, stains) for one in rows])
    sizes, *sums, largest, smallest = _fold_nuclei(runs, count)
    columns = [
        *_statistics(sums[0], sums[2], largest[0], smallest[0], sizes),
        *_statistics(sums[1], sums[3], largest[1], smallest[1], sizes),
        *_colour(np.stack(sums[4:]), sizes),
    ]
    named = zip((*STAIN_COLUMNS, HUE, SATURATION, VALUE), columns, strict=True)
    return {name: column.astype(np.float32) for name, column in named}


@dataclass(frozen=True)
class _Runs:
    """Labelled pixels in reading order, folded wherever the label changes.

    A nucleus is a few dozen runs but hundreds of pixels, so that folding along runs first leaves
    little that is scattered.
    """

    owner: NDArray[np.int64]
    """Row of the nucleus each run belongs to, shape (r,)."""
    sums: NDArray[np.float64]
    """Pixels, both stains, their squares, S cos H, S sin H, S and V, shape (9, r)."""
    largest: NDArray[np.float32]
    """Maxima of both stains, shape (2, r)."""
    smallest: NDArray[np.float32]
    """Minima of both stains, shape (2, r)."""

    @classmethod
    def none(cls) -> _Runs:
        """Give no runs."""
        nothing = np.empty((2, 0), np.float32)
        return cls(np.empty(0, np.int64), np.empty((9, 0)), nothing, nothing)

    @classmethod
    def joined(cls, parts: list[_Runs]) -> _Runs:
        """Put the runs of all blocks one behind the other."""
        parts = [cls.none(), *parts]
        return cls(
            np.concatenate([part.owner for part in parts]),
            np.concatenate([part.sums for part in parts], axis=1),
            np.concatenate([part.largest for part in parts], axis=1),
            np.concatenate([part.smallest for part in parts], axis=1),
        )


def _fold_runs(
    rgb: NDArray[np.uint8], labels: NDArray[np.int32], count: int, stains: StainMatrix
) -> _Runs:
    flat = labels.reshape(-1)
    where = np.flatnonzero((flat > 0) & (flat <= count))
    if not len(where):
        return _Runs.none()
    owner = flat.take(where)
    start = np.concatenate([[0], np.flatnonzero(owner[1:] != owner[:-1]) + 1])
    pixels = np.ascontiguousarray(rgb).reshape(-1, 3).take(where, axis=0)
    stained = stains.planes(pixels)
    squares = np.square(stained, dtype=np.float64)
    rows = (*stained, *squares, *_hsv(pixels))
    sums = [np.add.reduceat(row, start, dtype=np.float64) for row in rows]
    return _Runs(
        owner[start].astype(np.int64) - 1,
        np.stack([np.diff(start, append=len(where)), *sums]),
        np.maximum.reduceat(stained, start, axis=1),
        np.minimum.reduceat(stained, start, axis=1),
    )


def _hsv(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.floating], ...]:
    """Give S cos H, S sin H, S and V of pixels, each of shape (n,)."""
    import cv2

    # HSV_FULL spreads the hue circle over 256 steps of 1.4 degrees.
    hue, *rest = cv2.split(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV_FULL))
    saturation, value = (channel.reshape(-1).astype(np.float32) / 255 for channel in rest)
    angle = np.arange(256) * (2 * np.pi / 256)
    east = cv2.LUT(hue, np.cos(angle).astype(np.float32)).reshape(-1)
    north = cv2.LUT(hue, np.sin(angle).astype(np.float32)).reshape(-1)
    return east * saturation, north * saturation, saturation, value


def _fold_nuclei(runs: _Runs, count: int) -> tuple[NDArray[np.floating], ...]:
    """Give the nine sums (count,), then maxima and minima (2, count); NaN without pixels."""
    # Without any run bincount gives integers, which hold no NaN.
    sums = np.stack([np.bincount(runs.owner, row, count) for row in runs.sums]).astype(np.float64)
    largest = np.full((2, count), -np.inf, np.float32)
    smallest = np.full((2, count), np.inf, np.float32)
    for stain in range(2):
        np.maximum.at(largest[stain], runs.owner, runs.largest[stain])
        np.minimum.at(smallest[stain], runs.owner, runs.smallest[stain])
    missing = sums[0] == 0
    for table in (sums, largest, smallest):
        table[:, missing] = np.nan
    return *sums, largest, smallest


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
