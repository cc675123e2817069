"""TIFF and OME-TIFF, tiled or in strips, with or without a pyramid, through tifffile."""

from __future__ import annotations

import logging
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.codestreams import JPEG_2000
from nucliseg_qp.images.segments import REPAIR, FileBytes, RowSource, SegmentCache, SegmentSource
from nucliseg_qp.images.slide import Slide, check_size
from nucliseg_qp.images.tiff_calibration import tiff_calibration
from nucliseg_qp.images.tiff_structure import check_structure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage, TiffPageSeries

    from nucliseg_qp.geometry import Region
    from nucliseg_qp.images.segments import PixelSource

__all__ = ["TiffSlide"]

MAX_SEGMENT_BYTES = 256 << 20
"""A tile or compressed strip is decoded whole; a larger one would not fit a small machine."""

MAX_STRIPPED_PIXELS = 1 << 30
"""Beyond this, compressed strips as wide as the image cost minutes instead of milliseconds."""

_RETILE = "Write it tiled: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --Q 90."
_NEED_RGB = "nucliseg_qp needs 8-bit RGB brightfield: export it as such"

_NONE, _LZW, _JPEG = 1, 5, 7
_COMPRESSIONS = frozenset({_NONE, _LZW, _JPEG, 8, 32773, 32946, 50000}) | JPEG_2000
_RGB, _YCBCR = 2, 6


class TiffSlide(Slide):
    """An image read with tifffile: whatever is 8-bit RGB and not a scanner's own dialect.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        When it is damaged, truncated, or holds anything but 8-bit RGB.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        logging.getLogger("tifffile").addHandler(logging.NullHandler())
        with _damage(path):
            check_structure(path)
        with _damage(path), tifffile.TiffFile(path, _multifile=False) as tiff:
            series = _main_series(path, tiff)
            pages = _level_pages(path, series)
            for page in pages:
                _check_page(path, page)
            size = tuple((page.imagewidth, page.imagelength) for page in pages)
            super().__init__(path, "tifffile", size, tiff_calibration(tiff, pages[0]))
            self._file = FileBytes(path, path.open("rb", buffering=0))
            cache = SegmentCache()
            self._levels = [
                _source(page, level, self._file, cache) for level, page in enumerate(pages)
            ]

    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        return self._levels[level].read(region)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what tifffile raises on a broken structure into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be read ({reason})", "Check the file.") from error
    except (
        ValueError,  # tifffile.TiffFileError is one
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        SyntaxError,  # broken XML
        TypeError,
        struct.error,
    ) as error:
        raise InputError(f"{path} is not a sound TIFF ({error})", REPAIR) from error


def _main_series(path: Path, tiff: TiffFile) -> TiffPageSeries:
    series = list(tiff.series)
    if not series:
        raise InputError(f"{path} is a TIFF without an image", REPAIR)
    return max(series, key=lambda one: one.keyframe.imagewidth * one.keyframe.imagelength)


def _level_pages(path: Path, series: TiffPageSeries) -> list[TiffPage]:
    """Give the pages of the pyramid, refusing stacks, time series and channels."""
    _check_axes(path, series)
    pages = [level.keyframe for level in series.levels]
    width, height = pages[0].imagewidth, pages[0].imagelength
    return [page for page in pages if _same_shape(width, height, page)]


def _same_shape(width: int, height: int, page: TiffPage) -> bool:
    # A label or macro picture that tifffile took for a level has another shape.
    factor = width / page.imagewidth
    return abs(factor * page.imagelength - height) <= 0.02 * height + factor


def _check_axes(path: Path, series: TiffPageSeries) -> None:
    long = {
        axis: size
        for axis, size in zip(series.axes, series.shape, strict=True)
        if size > 1 and axis not in "YXS"
    }
    page = series.keyframe
    bits = f"{page.bitspersample} bit"
    if long:
        names = {"Z": "z planes", "T": "time points", "C": "channels"}
        seen = ", ".join(f"{size} {names.get(axis, 'pages')}" for axis, size in long.items())
        raise InputError(f"{path} holds {seen} of {bits}", f"{_NEED_RGB}, one plane.")
    if page.imagedepth > 1:
        raise InputError(f"{path} holds {page.imagedepth} z planes", f"{_NEED_RGB}, one plane.")


def _check_page(path: Path, page: TiffPage) -> None:
    check_size(path, page.imagewidth, page.imagelength)
    _check_samples(path, page)
    _check_coding(path, page)
    _check_segments(path, page)


def _check_samples(path: Path, page: TiffPage) -> None:
    colour = int(page.photometric)
    kind = getattr(page.photometric, "name", str(colour)).lower()
    if page.dtype != np.uint8 or page.bitspersample != 8:
        seen = f"{page.samplesperpixel} channel(s) of {page.bitspersample} bit ({page.dtype})"
        raise InputError(f"{path} holds {seen}", f"{_NEED_RGB}.")
    if page.samplesperpixel not in (3, 4) or colour not in (_RGB, _YCBCR):
        seen = f"{page.samplesperpixel} channel(s) of 8 bit, colours {kind}"
        raise InputError(f"{path} holds {seen}", f"{_NEED_RGB}.")
    if colour == _YCBCR and int(page.compression) != _JPEG:
        raise InputError(f"{path} holds YCbCr colours without JPEG", f"{_NEED_RGB}.")
    turned = page.tags.valueof(274, default=1)
    if turned not in (0, 1):
        raise InputError(
            f"{path} is stored turned or mirrored (Orientation {int(turned)})",
            "Save it upright: viewers disagree on what its coordinates mean.",
        )


def _check_coding(path: Path, page: TiffPage) -> None:
    compression = int(page.compression)
    name = getattr(page.compression, "name", str(compression))
    if compression not in _COMPRESSIONS:
        raise InputError(f"{path} is compressed with {name}, which is not supported", _RETILE)
    if compression == _JPEG and page.samplesperpixel != 3:
        raise InputError(f"{path} is JPEG with {page.samplesperpixel} channels", f"{_NEED_RGB}.")


def _check_segments(path: Path, page: TiffPage) -> None:
    """Refuse tiles that are too large, too few or end beyond the file."""
    width, height = (
        (page.tilewidth, page.tilelength)
        if page.is_tiled
        else (page.imagewidth, min(page.rowsperstrip, page.imagelength))
    )
    planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
    expected = -(-page.imagewidth // width) * -(-page.imagelength // height) * planes
    offset = np.asarray(page.dataoffsets, np.float64)
    count = np.asarray(page.databytecounts, np.float64)
    if len(offset) < expected or len(count) < expected:
        raise InputError(f"{path} lists {len(offset)} of {expected} tiles", REPAIR)
    size = path.stat().st_size
    if (offset + count).max() > size:
        raise InputError(
            f"{path} is truncated: its pixels end at byte {(offset + count).max():.0f}, the file "
            f"at {size}",
            REPAIR,
        )
    if _has_raw_rows(page):
        return
    if width * height * page.samplesperpixel > MAX_SEGMENT_BYTES:
        raise InputError(f"{path} has tiles or strips of {width} x {height} px", _RETILE)
    if not page.is_tiled and page.imagewidth * page.imagelength > MAX_STRIPPED_PIXELS:
        raise InputError(f"{path} is large and not tiled", _RETILE)


def _has_raw_rows(page: TiffPage) -> bool:
    return (
        not page.is_tiled
        and int(page.compression) == _NONE
        and int(page.predictor) == 1
        and int(page.planarconfig) == 1
        and int(page.fillorder) == 1
    )


def _source(page: TiffPage, level: int, file: FileBytes, cache: SegmentCache) -> PixelSource:
    if not _has_raw_rows(page):
        return SegmentSource(page, level, file, cache)
    offset = np.asarray(page.dataoffsets, np.int64)
    offset[(np.asarray(page.databytecounts) == 0) | (offset == 0)] = -1
    return RowSource(
        file,
        offset,
        page.rowsperstrip,
        page.imagewidth,
        page.samplesperpixel,
        1 in page.extrasamples,
    )
