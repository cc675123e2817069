"""Colour statistics of a whole slide, so that no two of its tiles are judged differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.ahead import read_ahead
from nucliseg_qp.images.resample import read_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Region, Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.images.tissue import TissueMask

__all__ = [
    "SAMPLE_PX",
    "SlideStatistics",
    "histogram_of",
    "otsu_threshold",
    "sample_statistics",
    "three_class_otsu",
]

SAMPLE_PX = 512
"""Side of the windows the statistics are taken from, at the resolution of the masks."""
SAMPLES = 24
"""Their number at most: 6 million pixels."""

RED = 0
WHITE_SHARE = 0.995
DARK_SHARE = 0.02
BIN_PX = 2
"""Grey levels in one bin of the three-class search: a quarter of the work, threshold within 1."""


@dataclass(frozen=True)
class SlideStatistics:
    """What the mask step has to know of the slide as a whole.

    Parameters
    ----------
    white : tuple of float
        Red, green and blue of the brightest tissue pixels; the colour adjustment divides by it.
    threshold : float
        Border between foreground and background in the adjusted red channel (0 to 255), where
        both haematoxylin and DAB absorb.
    background : float
        Mean adjusted red of what is brighter than the threshold.
    """

    white: tuple[float, float, float]
    threshold: float
    background: float

    @classmethod
    def from_histogram(cls, histogram: NDArray[np.int64]) -> SlideStatistics:
        """Gather the statistics from counts of shape (3, 256): channel, grey level."""
        if not histogram.any():
            return cls((255.0, 255.0, 255.0), 128.0, 255.0)
        white = tuple(float(max(1, _quantile(row, WHITE_SHARE))) for row in histogram)
        red = _stretch(histogram[RED], white[RED])
        threshold = three_class_otsu(red)
        bright = np.arange(256) >= threshold
        total = red[bright].sum()
        background = float((red * np.arange(256))[bright].sum() / total) if total else 255.0
        return cls((white[0], white[1], white[2]), threshold, background)

    def adjust(self, image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Give an RGB image (h, w, 3) as planes with the slide's white stretched to 255."""
        import cv2

        planes = [np.asarray(plane, np.uint8) for plane in cv2.split(image)]
        return [_brightened(one, white) for one, white in zip(planes, self.white, strict=True)]


def sample_statistics(
    slide: Slide, windows: Sequence[Tile], downsample: float, tissue: TissueMask | None
) -> SlideStatistics:
    """Gather the statistics of a slide from windows spread evenly over its tissue.

    Parameters
    ----------
    slide : Slide
        The image.
    windows : sequence of Tile
        All windows of the slide, in pixels of the grid of ``downsample``; at most 24 of them are
        read.  Those that cannot be read are left out.
    downsample : float
        Full-resolution pixels per grid pixel.
    tissue : TissueMask, optional
        Pixels of glass do not count.
    """

    def read(window: Tile) -> NDArray[np.int64]:
        core = window.core
        image = read_grid(slide, downsample, core.x_px, core.y_px, core.width_px, core.height_px)
        return histogram_of(image, _counted(core, downsample, slide.bounds, tissue))

    index = np.linspace(0, len(windows) - 1, min(SAMPLES, len(windows))).round().astype(int)
    histogram = np.zeros((3, 256), np.int64)
    for _, counts in read_ahead(read, [windows[i] for i in index.tolist()]):
        if not isinstance(counts, InputError):
            histogram += counts
    return SlideStatistics.from_histogram(histogram)


def histogram_of(
    image: NDArray[np.uint8], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Count the grey levels of an RGB image, (3, 256), of all pixels or those that count."""
    import cv2

    mask = None if counted is None else counted.astype(np.uint8)
    rows = [cv2.calcHist([image], [channel], mask, [256], [0, 256]) for channel in range(3)]
    return np.stack([row.reshape(-1) for row in rows]).astype(np.int64)


def _counted(
    core: Region, downsample: float, bounds: Region, tissue: TissueMask | None
) -> NDArray[np.bool_] | None:
    """Tell which pixels count, None where all do."""
    x = (np.arange(core.x_px, core.right_px) + 0.5) * downsample
    y = (np.arange(core.y_px, core.bottom_px) + 0.5) * downsample
    inside = y < bounds.bottom_px, x < bounds.right_px
    if tissue is None:
        return None if inside[0].all() and inside[1].all() else np.outer(*inside)
    row = np.minimum(y // tissue.downsample, tissue.mask.shape[0] - 1).astype(int)
    column = np.minimum(x // tissue.downsample, tissue.mask.shape[1] - 1).astype(int)
    part = tissue.mask[row[0] : row[-1] + 1, column[0] : column[-1] + 1]
    if part.all() and inside[0].all() and inside[1].all():
        return None
    return np.outer(*inside) & part[np.ix_(row - row[0], column - column[0])]


def otsu_threshold(counts: NDArray[np.int64]) -> float:
    """Give the grey level that best splits a histogram of shape (256,) in two (Otsu 1979)."""
    share, moment = _cumulative(counts)
    total = moment[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total * share - moment) ** 2 / (share * (1 - share))
    return float(np.nanargmax(np.where(np.isfinite(between), between, -1.0)) + 1)


def three_class_otsu(counts: NDArray[np.int64]) -> float:
    """Give the upper threshold of the best split in dark, pale and bright.

    With two classes the almost black DAB nuclei of a Ki-67 slide make a class of their own and
    pale blue nuclei fall to the background.  The multi-level criterion of Liao et al. (J. Inf.
    Sci. Eng. 17, 2001) gives them a class.  Where the darkest class has under 2 % of the pixels
    the plain threshold is returned.  On a slide without dark nuclei the upper threshold may lie
    inside of the background: that is as good, since every nucleus also ends by its own contrast.

    Parameters
    ----------
    counts : ndarray, shape (256,)
        Histogram of a grey channel.
    """
    share, moment = _cumulative(counts.reshape(-1, BIN_PX).sum(axis=1))
    total = moment[-1]
    low, high = np.triu_indices(len(share) - 1, k=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (
            moment[low] ** 2 / share[low]
            + (moment[high] - moment[low]) ** 2 / (share[high] - share[low])
            + (total - moment[high]) ** 2 / (1 - share[high])
        )
    best = int(np.argmax(np.where(np.isfinite(between), between, -1.0)))
    if share[low[best]] < DARK_SHARE:
        return otsu_threshold(counts)
    return float((high[best] + 1) * BIN_PX)


def _cumulative(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    density = counts / counts.sum()
    return np.cumsum(density), np.cumsum(density * np.arange(len(counts)))


def _quantile(counts: NDArray[np.int64], share: float) -> int:
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum()))


def _brightened(levels: NDArray[np.uint8], white: float) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.convertScaleAbs(levels, alpha=255.0 / white), np.uint8)


def _stretch(counts: NDArray[np.int64], white: float) -> NDArray[np.int64]:
    levels = _brightened(np.arange(256, dtype=np.uint8), white).reshape(-1)
    return np.bincount(levels, weights=counts, minlength=256).astype(np.int64)
