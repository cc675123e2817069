"""Find the keypoints of a whole slide, window by window.

The windows lie on one grid fixed to the slide, whatever tiles the outlines are made in: the
network sees the same pixels in every run, so the keypoints do not depend on tiling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import RAYS
from nucliseg_qp.images.ahead import read_ahead
from nucliseg_qp.images.resample import read_grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Region, Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.keypoints.runtime import KeypointRunner

__all__ = ["RADII", "Keypoints", "find_keypoints"]

RADII = np.float16
"""Radii are good to a thousandth: a slide with a million nuclei holds 16 million of them."""


@dataclass(frozen=True)
class Keypoints:
    """Centres of nuclei in reading order, in pixels of the full-resolution image.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        Positions.
    score : ndarray of float32, shape (n,)
        Probability, 0 to 1.
    radii : ndarray of float16, shape (n, 16)
        How far each nucleus reaches, see `nucliseg_qp.keypoints.radii`.
    wanted : ndarray of bool, shape (n,)
        Whether it becomes a nucleus; the others only hold their ground against those.
    failed : tuple of Tile
        Windows (in network pixels) that could not be read.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    score: NDArray[np.float32]
    radii: NDArray[np.float16]
    wanted: NDArray[np.bool_]
    failed: tuple[Tile, ...] = ()

    def __len__(self) -> int:
        """Give the number of keypoints."""
        return len(self.x)

    def take(self, chosen: NDArray[np.bool_] | slice) -> Keypoints:
        """Give the chosen keypoints, by a mask of shape (n,) or a slice."""
        return replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            score=self.score[chosen],
            radii=self.radii[chosen],
            wanted=self.wanted[chosen],
        )

    def inside(self, region: Region) -> Keypoints:
        """Give the keypoints inside a region; quick, since ``y`` is sorted."""
        first, last = np.searchsorted(self.y, [region.y_px, region.bottom_px])
        near = self.take(slice(int(first), int(last)))
        return near.take(region.contains(near.x, near.y))

    def with_wanted(self, wanted: NDArray[np.bool_]) -> Keypoints:
        """Give the keypoints with another choice of those that become nuclei."""
        return replace(self, wanted=wanted)

    @classmethod
    def none(cls) -> Keypoints:
        """Give a table without rows."""
        place, score, wanted = np.empty(0), np.empty(0, np.float32), np.empty(0, np.bool_)
        return cls(place, place, score, np.empty((0, RAYS), RADII), wanted)

    @classmethod
    def concatenate(cls, parts: Sequence[Keypoints]) -> Keypoints:
        """Put keypoints of several pieces of a slide together, in reading order again."""
        x, y, score, radii, wanted = (
            np.concatenate([getattr(part, name) for part in parts or [cls.none()]])
            for name in ("x", "y", "score", "radii", "wanted")
        )
        order = np.lexsort((x, y))
        failed = tuple(window for part in parts for window in part.failed)
        return cls(x[order], y[order], score[order], radii[order], wanted[order], failed)


def find_keypoints(
    slide: Slide,
    windows: Sequence[Tile],
    downsample: float,
    runner: KeypointRunner,
    batch_size: int,
) -> Keypoints:
    """Run the network on windows and collect what it finds in their cores.

    Parameters
    ----------
    slide : Slide
        The image.
    windows : sequence of Tile
        In network pixels, sides of the crops multiples of 8, cores without overlap.
    downsample : float
        Full-resolution pixels per network pixel.
    runner : KeypointRunner
        The network on its device.
    batch_size : int
        Windows handed to a GPU at once; a CPU takes one after the other, and holds no others.
    """
    parts: list[Keypoints] = []
    failed: list[Tile] = []
    at_once = 1 if runner.device.is_cpu else batch_size
    for batch in _batches(_read_windows(slide, windows, downsample), at_once):
        good = [(window, image) for window, image in batch if not isinstance(image, InputError)]
        failed += [window for window, image in batch if isinstance(image, InputError)]
        if good:
            found = runner.find(np.stack([image for _, image in good]))
            parts += [
                _owned(table, window, downsample)
                for table, (window, _) in zip(found, good, strict=True)
            ]
    return replace(Keypoints.concatenate(parts), failed=tuple(failed))


def _read_windows(
    slide: Slide, windows: Sequence[Tile], downsample: float
) -> Iterator[tuple[Tile, NDArray[np.uint8] | InputError]]:
    def read(window: Tile) -> NDArray[np.uint8]:
        crop = window.crop
        return read_grid(slide, downsample, crop.x_px, crop.y_px, crop.width_px, crop.height_px)

    return read_ahead(read, windows)


def _batches(
    pairs: Iterable[tuple[Tile, NDArray[np.uint8] | InputError]], size: int
) -> Iterator[list[tuple[Tile, NDArray[np.uint8] | InputError]]]:
    # Windows at the border of the image are smaller; a batch holds one size.
    for _, alike in groupby(pairs, key=lambda pair: _size(pair[0])):
        while batch := list(islice(alike, size)):
            yield batch


def _size(window: Tile) -> tuple[int, int]:
    return window.crop.width_px, window.crop.height_px


def _owned(table: NDArray[np.float64], window: Tile, downsample: float) -> Keypoints:
    moved = table[:, :2] + (window.crop.x_px, window.crop.y_px)
    owned = window.core.contains(moved[:, 0], moved[:, 1])
    # On the 0.01 px grid of the ids: two runs that agree there agree everywhere.
    x, y = np.rint(moved[owned].T * downsample * 100) / 100
    radii = np.rint(table[owned, 3:] * downsample * 100) / 100
    score = table[owned, 2].astype(np.float32)
    return Keypoints(x, y, score, radii.astype(RADII), np.ones(len(x), bool))
