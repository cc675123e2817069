"""Views of a slide: a part of it, turned or mirrored, as QuPath shows it.

A view keeps only those levels of the pyramid whose pixels lie on the view's own grid, so that a
nucleus found on any of them has its exact place; very coarse levels, good for finding tissue, may
be off by less than a pixel of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.calibration import Calibration
from nucliseg_qp.images.slide import Slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Region

__all__ = ["CroppedSlide", "Orientation", "TurnedSlide"]

COARSE_DOWNSAMPLE = 16.0
"""From here on a level serves only to find tissue and to draw thumbnails."""

_GRID_TOLERANCE = 0.02


@dataclass(frozen=True)
class Orientation:
    """A turn by a multiple of 90 degrees, perhaps mirrored.

    First the picture is mirrored along x and y as told, then rows and columns change places.

    Parameters
    ----------
    flip_x, flip_y : bool
        Mirror left and right, top and bottom.
    swap : bool
        Whether x becomes y and y becomes x afterwards.
    """

    flip_x: bool = False
    flip_y: bool = False
    swap: bool = False

    @classmethod
    def clockwise(cls, quarters: int) -> Orientation:
        """Give the turn by ``quarters`` times 90 degrees clockwise."""
        # A quarter: (x, y) becomes (height - y, x).
        return (cls(), cls(False, True, True), cls(True, True), cls(True, False, True))[
            quarters % 4
        ]


class TurnedSlide(Slide):
    """A slide turned or mirrored.

    Parameters
    ----------
    base : Slide
        Closed with this one.
    orientation : Orientation
        How it is turned.
    """

    def __init__(self, base: Slide, orientation: Orientation) -> None:
        self._base, self._turn = base, orientation
        self._levels = [level for level in range(base.level_count) if self._is_exact(level)]
        sizes = tuple(self._turned(base.level_dimensions[level]) for level in self._levels)
        super().__init__(base.path, base.reader, sizes, self._calibration())
        self.level_downsamples = tuple(base.level_downsamples[level] for level in self._levels)

    def _is_exact(self, level: int) -> bool:
        factor = self._base.level_downsamples[level]
        width, height = self._base.dimensions
        flipped = [width] * self._turn.flip_x + [height] * self._turn.flip_y
        return factor >= COARSE_DOWNSAMPLE or all(_on_grid(side, factor) for side in flipped)

    def _turned(self, size: tuple[int, int]) -> tuple[int, int]:
        return (size[1], size[0]) if self._turn.swap else size

    def _calibration(self) -> Calibration | None:
        mpp = self._base.mpp
        if mpp is None or not self._turn.swap:
            return mpp
        return Calibration(mpp.mpp_y, mpp.mpp_x, mpp.source)

    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        width, height = self._base.level_dimensions[self._levels[level]]
        x, y = region.x_px, region.y_px
        size = region.width_px, region.height_px
        if self._turn.swap:
            x, y, size = y, x, (size[1], size[0])
        if self._turn.flip_x:
            x = width - x - size[0]
        if self._turn.flip_y:
            y = height - y - size[1]
        image = self._base.read_level(self._levels[level], x, y, *size)
        image = image[:: -1 if self._turn.flip_y else 1, :: -1 if self._turn.flip_x else 1]
        return np.ascontiguousarray(image.swapaxes(0, 1) if self._turn.swap else image)

    def close(self) -> None:
        """Close the file."""
        self._base.close()


class CroppedSlide(Slide):
    """A rectangle of a slide.

    Parameters
    ----------
    base : Slide
        Closed with this one.
    region : Region
        In pixels of the full-resolution image.

    Raises
    ------
    InputError
        When it does not lie inside of the image.
    """

    def __init__(self, base: Slide, region: Region) -> None:
        if region.intersection(base.bounds) != region or not region.area_px:
            raise InputError(f"the crop {region} lies outside of {base.path}", "Crop it again.")
        self._base, self._region = base, region
        self._levels = [level for level in range(base.level_count) if self._is_exact(level)]
        factors = [base.level_downsamples[level] for level in self._levels]
        sizes = tuple(
            (max(1, int(region.width_px / factor)), max(1, int(region.height_px / factor)))
            for factor in factors
        )
        super().__init__(base.path, base.reader, sizes, base.mpp)
        # The sizes are cut to whole pixels; the factors are known exactly.
        self.level_downsamples = tuple(factors)

    def _is_exact(self, level: int) -> bool:
        factor = self._base.level_downsamples[level]
        corner = self._region.x_px, self._region.y_px
        return factor >= COARSE_DOWNSAMPLE or all(_on_grid(side, factor) for side in corner)

    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        factor = self.level_downsamples[level]
        x = round(self._region.x_px / factor) + region.x_px
        y = round(self._region.y_px / factor) + region.y_px
        return self._base.read_level(self._levels[level], x, y, region.width_px, region.height_px)

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def _on_grid(position_px: int, factor: float) -> bool:
    cell = position_px / factor
    return abs(cell - round(cell)) < _GRID_TOLERANCE
