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
    flat = labels.reshape(-1)
    where = np.flatnonzero((flat > 0) & (flat <= count))
    runs = _Runs.of(flat.take(where), count)
    pixels = np.ascontiguousarray(rgb).reshape(-1, 3).take(where, axis=0)
    channels = np.ascontiguousarray(stains.concentrations(pixels).T)
    columns = [column for values in channels for column in _statistics(values, runs)]
    named = zip(STAIN_COLUMNS, columns, strict=True)
    measured = {name: column.astype(np.float32) for name, column in named}
    return measured | _colour(pixels, runs)


@dataclass(frozen=True)
class _Runs:
    """Labelled pixels in reading order, cut wherever the label changes.

    A nucleus is a few dozen runs but hundreds of pixels: summing along runs first leaves little to
    sort.
    """

    start: NDArray[np.int64]
    order: NDArray[np.int64]
    group: NDArray[np.int64]
    present: NDArray[np.int64]
    sizes: NDArray[np.float64]
    count: int

    @classmethod
    def of(cls, labels: NDArray[np.int32], count: int) -> _Runs:
        """Cut ``labels`` (all from 1 to ``count``) into runs."""
        start = np.flatnonzero(np.diff(labels, prepend=0))
        order = np.argsort(labels[start], kind="stable")
        owner = labels[start][order].astype(np.int64)
        group = np.flatnonzero(np.diff(owner, prepend=0))
        length = np.diff(start, append=len(labels))
        sizes = _filled(_reduce(np.add, length[order], group), owner[group] - 1, count)
        return cls(start, order, group, owner[group] - 1, sizes, count)

    def reduce(self, operation: np.ufunc, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Fold the values of each nucleus; NaN for nuclei without pixels."""
        partial = _reduce(operation, values, self.start)[self.order]
        return _filled(_reduce(operation, partial, self.group), self.present, self.count)


def _reduce(
    operation: np.ufunc, values: NDArray[np.floating], start: NDArray[np.int64]
) -> NDArray[np.float64]:
    if not len(start):
        return np.empty(0)
    dtype = np.float64 if operation is np.add else None
    folded: NDArray[np.float64] = operation.reduceat(values, start, dtype=dtype)
    return folded


def _filled(
    values: NDArray[np.float64], rows: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    column = np.full(count, np.nan)
    column[rows] = values
    return column


def _statistics(values: NDArray[np.float32], runs: _Runs) -> tuple[NDArray[np.float64], ...]:
    total = runs.reduce(np.add, values)
    squares = runs.reduce(np.add, np.square(values, dtype=np.float64))
    mean = total / runs.sizes
    largest, smallest = runs.reduce(np.maximum, values), runs.reduce(np.minimum, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(squares - total * mean, 0) / (runs.sizes - 1)
    # A constant nucleus has no spread; the subtraction above leaves a rounding error.
    variance[(largest == smallest) & (runs.sizes > 1)] = 0
    return mean, total, np.sqrt(variance), largest, smallest, largest - smallest


def _colour(pixels: NDArray[np.uint8], runs: _Runs) -> dict[str, NDArray[np.float32]]:
    import cv2

    if not len(pixels):
        nothing = np.full(runs.count, np.nan, np.float32)
        return {HUE: nothing, SATURATION: nothing.copy(), VALUE: nothing.copy()}
    # HSV_FULL spreads the hue circle over 256 steps of 1.4 degrees.
    hsv = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV_FULL)[0]
    hue, saturation = np.ascontiguousarray(hsv[:, 0]), hsv[:, 1].astype(np.float32) / 255
    angle = np.arange(256) * (2 * np.pi / 256)
    x = cv2.LUT(hue, np.cos(angle).astype(np.float32)).reshape(-1) * saturation
    y = cv2.LUT(hue, np.sin(angle).astype(np.float32)).reshape(-1) * saturation
    mean_hue = np.degrees(np.arctan2(runs.reduce(np.add, y), runs.reduce(np.add, x))) % 360
    value = runs.reduce(np.add, hsv[:, 2].astype(np.float32) / 255) / runs.sizes
    columns = (mean_hue, runs.reduce(np.add, saturation) / runs.sizes, value)
    named = zip((HUE, SATURATION, VALUE), columns, strict=True)
    return {name: column.astype(np.float32) for name, column in named}
