"""Pixels of one TIFF level: only the tiles, strips or rows a rectangle touches are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.codestreams import claimed_pixels
from nucliseg_qp.images.rgb import over_white

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray
    from tifffile import TiffPage

    from nucliseg_qp.geometry import Region

__all__ = ["CACHE_BYTES", "FileBytes", "PixelSource", "RowSource", "SegmentCache", "SegmentSource"]

CACHE_BYTES = 64 << 20
"""Decoded tiles kept per slide: enough for the halo a tile shares with its neighbours."""

REPAIR = "The file is damaged: copy or export it again."


class PixelSource(Protocol):
    """Something that gives RGB pixels of a rectangle inside the image."""

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Give the pixels as uint8 of shape (height, width, 3)."""


class FileBytes:
    """A file read at any place by several threads; a lock guards each seek with its reads."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Give ``count`` bytes from ``offset``.

        Raises
        ------
        InputError
            When the file ends before or cannot be read.
        """
        with self._lock:
            try:
                self._file.seek(offset)
                data = self._file.read(count)
            except OSError as error:
                raise self._unreadable(error) from error
        if len(data) != count:
            raise InputError(f"{self.path} is truncated", REPAIR)
        return data

    def read_rows(self, offsets: list[int], rows: NDArray[np.uint8]) -> None:
        """Fill each of ``rows``, uint8 of shape (n, ...), with the bytes from its offset."""
        with self._lock:
            try:
                for offset, row in zip(offsets, rows, strict=True):
                    self._file.seek(offset)
                    if self._file.readinto(row.data) != row.nbytes:  # type: ignore[attr-defined]
                        raise InputError(f"{self.path} is truncated", REPAIR)
            except OSError as error:
                raise self._unreadable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unreadable(self, error: OSError) -> InputError:
        return InputError(f"{self.path} cannot be read ({error.strerror or error})", "Check it.")


class SegmentCache:
    """The most recently used decoded tiles, bounded in bytes and shared by a slide's levels."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, key: tuple[int, int, int], decode: Callable[[], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """Give the tile of ``key`` (level, row, column), decoding it when it is not held."""
        with self._lock:
            held = self._tiles.get(key)
            if held is not None:
                self._tiles.move_to_end(key)
                return held
        tile = decode()
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._held_bytes += tile.nbytes
            while self._held_bytes > self._limit_bytes:
                self._held_bytes -= self._tiles.popitem(last=False)[1].nbytes
        return tile


@dataclass(frozen=True)
class RowSource:
    """Uncompressed rows of interleaved samples, wherever they lie in the file.

    Parameters
    ----------
    file : FileBytes
        The file.
    strip_offset : ndarray of int64, shape (strips,)
        Where each strip of rows begins; -1 for a strip that was never written.
    rows_per_strip, width : int
        Rows of a strip and pixels of a row.
    samples : int
        3 for RGB, 4 for RGB with opacity.
    premultiplied : bool
        As in `over_white`.
    """

    file: FileBytes
    strip_offset: NDArray[np.int64]
    rows_per_strip: int
    width: int
    samples: int = 3
    premultiplied: bool = False

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Give the pixels as uint8 of shape (height, width, 3)."""
        shape = (region.height_px, region.width_px, self.samples)
        row = np.arange(region.y_px, region.bottom_px)
        strip = self.strip_offset[row // self.rows_per_strip]
        within = (row % self.rows_per_strip * self.width + region.x_px) * self.samples
        written = strip >= 0
        if written.all():
            pixels = np.empty(shape, np.uint8)
            self.file.read_rows((strip + within).tolist(), pixels)
        else:
            pixels = np.full(shape, 255, np.uint8)
            part = np.empty((int(written.sum()), *shape[1:]), np.uint8)
            self.file.read_rows((strip + within)[written].tolist(), part)
            pixels[written] = part
        return pixels if self.samples == 3 else over_white(pixels, self.premultiplied)


class SegmentSource:
    """Tiles or compressed strips, decoded one by one and kept for a while.

    Parameters
    ----------
    page : TiffPage
        The level's page, from which tifffile knows how to decode.
    level : int
        Its number, the first part of the cache's key.
    file : FileBytes
        The same file.
    cache : SegmentCache
        Shared with the other levels.
    """

    def __init__(self, page: TiffPage, level: int, file: FileBytes, cache: SegmentCache) -> None:
        self._level, self._file, self._cache = level, file, cache
        self._decode_bytes = page.decode
        self._jpegtables = page.jpegtables
        self._compression = int(page.compression)
        self._offset = np.asarray(page.dataoffsets, np.int64)
        self._count = np.asarray(page.databytecounts, np.int64)
        tiled = page.is_tiled
        self._width = page.tilewidth if tiled else page.imagewidth
        self._height = page.tilelength if tiled else min(page.rowsperstrip, page.imagelength)
        self._columns = -(-page.imagewidth // self._width)
        self._rows = -(-page.imagelength // self._height)
        self._samples = page.samplesperpixel
        self._planes = self._samples if int(page.planarconfig) == 2 else 1
        self._premultiplied = 1 in page.extrasamples

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Give the pixels as uint8 of shape (height, width, 3)."""
        image = np.empty((region.height_px, region.width_px, 3), np.uint8)
        for row in range(region.y_px // self._height, (region.bottom_px - 1) // self._height + 1):
            for column in range(
                region.x_px // self._width, (region.right_px - 1) // self._width + 1
            ):
                self._paste(image, region, row, column)
        return image

    def _paste(self, image: NDArray[np.uint8], region: Region, row: int, column: int) -> None:
        tile = self._cache.get((self._level, row, column), lambda: self._decode(row, column))
        x, y = column * self._width - region.x_px, row * self._height - region.y_px
        right = min(x + self._width, region.width_px)
        bottom = min(y + self._height, region.height_px)
        left, top = max(x, 0), max(y, 0)
        image[top:bottom, left:right] = tile[top - y : bottom - y, left - x : right - x]

    def _decode(self, row: int, column: int) -> NDArray[np.uint8]:
        first = row * self._columns + column
        step = self._rows * self._columns
        planes = [self._decode_one(first + plane * step) for plane in range(self._planes)]
        pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
        if pixels.shape[2] == 4:
            return over_white(pixels, self._premultiplied)
        return pixels

    def _decode_one(self, index: int) -> NDArray[np.uint8]:
        """Decode a tile or strip to uint8 (height, width, samples of its plane)."""
        samples = self._samples // self._planes
        offset, count = int(self._offset[index]), int(self._count[index])
        if offset == 0 or count == 0:
            return np.full((self._height, self._width, samples), 255, np.uint8)
        data = self._file.read(offset, count)
        claimed = claimed_pixels(data, self._compression)
        if claimed is not None and claimed > 4 * self._height * self._width:
            raise self._damaged(index, f"it claims {claimed} pixels")
        try:
            pixels = self._decode_bytes(data, index, jpegtables=self._jpegtables)[0]
        # Every codec's own error is a RuntimeError, tifffile's are ValueErrors.
        except (RuntimeError, ValueError, MemoryError, OverflowError) as error:
            raise self._damaged(index, str(error)) from error
        if pixels is None or pixels.dtype != np.uint8 or pixels.shape[3] != samples:
            raise self._damaged(index, "it is not 8-bit RGB")
        return np.asarray(pixels[0], np.uint8)

    def _damaged(self, index: int, reason: str) -> InputError:
        return InputError(
            f"{self._file.path} is damaged: tile {index} of level {self._level} cannot be read"
            f" ({reason})",
            REPAIR,
        )
