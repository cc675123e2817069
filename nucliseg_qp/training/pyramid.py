"""Write a picture that arrives in strips as a tiled, pyramidal OME-TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Rgb = NDArray[np.uint8]

_SMALLEST_SIDE_PX = 1024


@dataclass(frozen=True)
class Level:
    """One level of a pyramid as raw RGB rows in a file."""

    path: Path
    width_px: int
    height_px: int

    def strips(self, rows: int) -> Iterator[Rgb]:
        """Yield the level from top to bottom, `rows` at a time, (rows, width, 3) uint8."""
        with self.path.open("rb") as file:
            for y in range(0, self.height_px, rows):
                count = min(rows, self.height_px - y)
                strip = np.fromfile(file, np.uint8, count * self.width_px * 3)
                yield strip.reshape(count, self.width_px, 3)

    def halved(self) -> Level:
        """Return the next level, half as wide and high (rounded up), not yet written."""
        path = self.path.with_name(f"{int(self.path.stem) + 1}.rgb")
        return Level(path, (self.width_px + 1) // 2, (self.height_px + 1) // 2)


def build_levels(first: Level, strips: Iterable[Rgb]) -> list[Level]:
    """Write the strips as level 0 and, from each level, the next one below 1024 px.

    Parameters
    ----------
    first
        Size of the picture and file for its rows, named 0.rgb.
    strips
        (rows, width, 3) uint8 from top to bottom; all but the last with an even number of rows.
    """
    levels = [first]
    _append(first.path, strips)
    while max(levels[-1].width_px, levels[-1].height_px) > _SMALLEST_SIDE_PX:
        smaller = levels[-1].halved()
        _append(smaller.path, (_half(strip) for strip in levels[-1].strips(1024)))
        levels.append(smaller)
    return levels


def _append(path: Path, strips: Iterable[Rgb]) -> None:
    with path.open("wb") as file:
        for strip in strips:
            file.write(np.ascontiguousarray(strip).data)


def _half(strip: Rgb) -> Rgb:
    """Average 2 x 2 pixels; an odd last row or column counts twice."""
    height, width = strip.shape[:2]
    even = cv2.copyMakeBorder(strip, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = ((width + 1) // 2, (height + 1) // 2)
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_pyramid(
    path: Path, levels: list[Level], mpp: float, tile_px: int, jpeg_quality: int, name: str
) -> None:
    """Write an OME-TIFF whose smaller levels are SubIFDs of the first.

    Parameters
    ----------
    path
        File to write.
    levels
        From full resolution down, each about half as large as the one before.
    mpp
        Pixel size in um, written as PhysicalSizeX and Y and as TIFF resolution.
    tile_px
        Side of the tiles, a multiple of 16.
    jpeg_quality
        1 to 100, or 0 for lossless deflate.
    name
        The file's UUID in the OME-XML, without which tifffile draws a random one.
    """
    import tifffile

    big = 3 * levels[0].width_px * levels[0].height_px > 2**31
    with tifffile.TiffWriter(path, bigtiff=big, ome=True) as writer:
        for number, level in enumerate(levels):
            options = _options(tile_px, jpeg_quality)
            if number == 0:
                options["subifds"] = len(levels) - 1
                options["metadata"] = _metadata(mpp, name)
            else:
                options["subfiletype"] = 1
                options["metadata"] = None
            per_cm = 1e4 / (mpp * 2**number)
            writer.write(
                _tiles(level, tile_px),
                shape=(level.height_px, level.width_px, 3),
                dtype=np.uint8,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                **options,
            )


def _options(tile_px: int, jpeg_quality: int) -> dict[str, Any]:
    # Told "rgb", tifffile stores JPEG as YCbCr with the tags that other readers need.
    options: dict[str, Any] = {"tile": (tile_px, tile_px), "photometric": "rgb", "maxworkers": 1}
    if jpeg_quality > 0:
        jpeg = {"compression": "jpeg", "compressionargs": {"level": jpeg_quality}}
        return {**options, **jpeg}
    return {**options, "compression": "zlib", "predictor": True}


def _metadata(mpp: float, name: str) -> dict[str, Any]:
    sizes = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    units = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    return {"axes": "YXS", "UUID": name, **sizes, **units}


def _tiles(level: Level, tile_px: int) -> Iterator[Rgb]:
    """Yield full tiles row by row; beyond the picture its last pixels repeat."""
    for strip in level.strips(tile_px):
        below = tile_px - strip.shape[0]
        right = -strip.shape[1] % tile_px
        full = cv2.copyMakeBorder(strip, 0, below, 0, right, cv2.BORDER_REPLICATE)
        for x in range(0, full.shape[1], tile_px):
            yield np.ascontiguousarray(full[:, x : x + tile_px], dtype=np.uint8)
