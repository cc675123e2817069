"""Scanners' own formats, through OpenSlide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.calibration import Calibration
from nucliseg_qp.images.rgb import over_white
from nucliseg_qp.images.slide import Slide, check_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from openslide import OpenSlide

__all__ = ["VendorSlide", "slide_vendor"]

_BLOCK_PX = 512
"""Side of the blocks in which a level is read whose downsample is not whole."""

_LARGEST_TILE_PX = 1 << 29

_REPAIR = "The file is damaged or incomplete: copy or export it again, with all its parts."


def slide_vendor(path: Path) -> str | None:
    """Give the name OpenSlide has for the scanner's format, None when it knows none.

    Raises
    ------
    InputError
        When the file looks like a format of OpenSlide's but is broken.
    """
    import openslide

    try:
        vendor: str | None = openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError as error:
        raise InputError(f"{path} cannot be read ({error})", _REPAIR) from error
    return vendor


class VendorSlide(Slide):
    """A slide read by OpenSlide.

    Parameters
    ----------
    path : Path
        The file.
    vendor : str
        OpenSlide's name for its format.
    crop_to_bounds : bool
        Whether the image is the scanned part only, as in QuPath: then x and y count from its
        corner. Applies when the file has all four ``openslide.bounds-*`` properties.

    Raises
    ------
    InputError
        When it is damaged.
    """

    def __init__(self, path: Path, vendor: str, crop_to_bounds: bool = True) -> None:
        import openslide

        try:
            self._slide: OpenSlide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise InputError(f"{path} cannot be read ({error})", _REPAIR) from error
        self._failure = openslide.OpenSlideError
        # OpenSlide places a level by its own downsample, which need not be whole.
        self._inner_downsamples = tuple(float(one) for one in self._slide.level_downsamples)
        scanned = _bounds(self._slide.properties) if crop_to_bounds else None
        self._bounds = scanned or Region(0, 0, *self._slide.dimensions)
        try:
            _check_tiles(path, self._slide.properties, self._slide.level_count)
            check_size(path, self._bounds.width_px, self._bounds.height_px)
        except InputError:
            self._slide.close()
            raise
        sizes = self._level_sizes()
        super().__init__(path, f"openslide ({vendor})", sizes, _mpp(self._slide.properties))

    def _level_sizes(self) -> tuple[tuple[int, int], ...]:
        if self._bounds == Region(0, 0, *self._slide.dimensions):
            return tuple(
                (int(width), int(height)) for width, height in self._slide.level_dimensions
            )
        width, height = self._bounds.width_px, self._bounds.height_px
        return tuple(
            (max(1, round(width / factor)), max(1, round(height / factor)))
            for factor in self._inner_downsamples
        )

    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        if self._inner_downsamples[level].is_integer():
            return self._read_exactly(level, region)
        # OpenSlide takes whole full-resolution pixels only, so such a level is shifted by a
        # fraction of its pixel that depends on the corner asked for. Fixed blocks keep a pixel
        # the same whatever rectangle it is read in.
        image = np.empty((region.height_px, region.width_px, 3), np.uint8)
        for block in _blocks(region):
            part = block.intersection(region)
            rows = slice(part.y_px - region.y_px, part.bottom_px - region.y_px)
            columns = slice(part.x_px - region.x_px, part.right_px - region.x_px)
            tile = self._read_exactly(level, block)
            x, y = part.x_px - block.x_px, part.y_px - block.y_px
            image[rows, columns] = tile[y : y + part.height_px, x : x + part.width_px]
        return image

    def _read_exactly(self, level: int, region: Region) -> NDArray[np.uint8]:
        factor = self._inner_downsamples[level]
        location = (
            self._bounds.x_px + round(region.x_px * factor),
            self._bounds.y_px + round(region.y_px * factor),
        )
        try:
            image = self._slide.read_region(location, level, (region.width_px, region.height_px))
        except self._failure as error:
            raise InputError(f"{self.path} is damaged ({error})", _REPAIR) from error
        return over_white(np.asarray(image))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _check_tiles(path: Path, properties: Mapping[str, str], levels: int) -> None:
    """Refuse tiles that nobody writes: OpenSlide ends the process where it lacks memory for one."""
    for level in range(levels):
        name = f"openslide.level[{level}].tile-"
        width, height = (int(properties.get(name + side, 0)) for side in ("width", "height"))
        if width * height > _LARGEST_TILE_PX:
            raise InputError(f"{path} is damaged (it has tiles of {width} x {height} px)", _REPAIR)


def _blocks(region: Region) -> list[Region]:
    return [
        Region(column * _BLOCK_PX, row * _BLOCK_PX, _BLOCK_PX, _BLOCK_PX)
        for row in range(region.y_px // _BLOCK_PX, (region.bottom_px - 1) // _BLOCK_PX + 1)
        for column in range(region.x_px // _BLOCK_PX, (region.right_px - 1) // _BLOCK_PX + 1)
    ]


def _bounds(properties: Mapping[str, str]) -> Region | None:
    names = [f"openslide.bounds-{name}" for name in ("x", "y", "width", "height")]
    if not all(name in properties for name in names):
        return None
    return Region(*(int(properties[name]) for name in names))


def _mpp(properties: Mapping[str, str]) -> Calibration | None:
    try:
        mpp_x, mpp_y = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    return Calibration(mpp_x, mpp_y, "openslide.mpp-x")
