"""The abstract reader of images, with the method names of openslide-python."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from nucliseg_qp.errors import CalibrationError, InputError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.calibration import Calibration, checked_calibration, user_calibration

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["Calibration", "Opener", "Slide", "check_size", "open_slide"]

MAX_SIDE_PX = 1 << 20
MAX_PIXELS = 400_000_000_000
"""The largest scanners make 1e11 pixels; a header that claims more is broken or hostile."""

LEVEL_TOLERANCE = 0.01
"""A level this much coarser than asked for still serves: real pyramids are inexact."""


class Opener(Protocol):
    """Opens a slide again in another process; equal for the same slide."""

    def __hash__(self) -> int:
        """Give the same number for the same slide."""
        ...

    def __call__(self) -> Slide:
        """Open the slide."""
        ...


class Slide(ABC):
    """An 8-bit RGB image with its pyramid; reads are safe from several threads at once.

    Parameters
    ----------
    path : Path
        The file.
    reader : str
        What reads it, for the provenance, such as ``tifffile`` or ``openslide (aperio)``.
    level_dimensions : tuple of (int, int)
        Width and height in pixels of every level, full resolution first.
    mpp : Calibration or None
        Pixel size the file states.
    """

    def __init__(
        self,
        path: Path,
        reader: str,
        level_dimensions: tuple[tuple[int, int], ...],
        mpp: Calibration | None,
    ) -> None:
        self.path = path
        self.reader = reader
        self.level_dimensions = level_dimensions
        self.level_downsamples = tuple(
            _downsample(level_dimensions[0], size) for size in level_dimensions
        )
        self.mpp = mpp
        self.opener: Opener | None = None

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in pixels at full resolution."""
        return self.level_dimensions[0]

    @property
    def bounds(self) -> Region:
        """The whole image as a region."""
        return Region(0, 0, *self.dimensions)

    @property
    def level_count(self) -> int:
        """Number of levels of the pyramid, at least 1."""
        return len(self.level_dimensions)

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Give the coarsest level that is no coarser than ``downsample`` (within 1 %)."""
        limit = downsample * (1 + LEVEL_TOLERANCE)
        fitting = [
            (factor, level)
            for level, factor in enumerate(self.level_downsamples)
            if factor <= limit
        ]
        return max(fitting)[1] if fitting else 0

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Read a rectangle of one level.

        Parameters
        ----------
        location : (int, int)
            x and y of its top left corner in pixels of the full-resolution image; goes to the
            nearest pixel of the level.
        level : int
            Level of the pyramid, 0 is full resolution.
        size : (int, int)
            Width and height in pixels of that level.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            RGB; white outside of the image and where it is transparent.

        Raises
        ------
        InputError
            When the file turns out to be damaged there.
        """
        factor = self.level_downsamples[level]
        x, y = (math.floor(position / factor + 0.5) for position in location)
        return self.read_level(level, x, y, *size)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a rectangle given in pixels of ``level``; else as `read_region`."""
        wanted = Region(x, y, width, height)
        inside = wanted.intersection(Region(0, 0, *self.level_dimensions[level]))
        if inside == wanted and wanted.area_px:
            return self._read_inside(level, inside)
        image = np.full((height, width, 3), 255, np.uint8)
        if inside.area_px:
            rows = slice(inside.y_px - y, inside.bottom_px - y)
            columns = slice(inside.x_px - x, inside.right_px - x)
            image[rows, columns] = self._read_inside(level, inside)
        return image

    @abstractmethod
    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read a non-empty rectangle inside ``level``, in its pixels, as (height, width, 3)."""

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """Give the whole image, its longest side at most ``max_px``, as uint8 (h, w, 3)."""
        # resample works on slides, so it can only be imported here.
        from nucliseg_qp.images.resample import read_grid

        width, height = self.dimensions
        factor = max(1.0, max(width, height) / max_px)
        size = max(1, math.floor(width / factor)), max(1, math.floor(height / factor))
        return read_grid(self, factor, 0, 0, *size)

    @abstractmethod
    def close(self) -> None:
        """Close the file; the slide cannot be read afterwards."""

    def __enter__(self) -> Self:
        """Give the slide itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def open_slide(
    path: Path | str,
    slide_mpp: float | None = None,
    require_mpp: bool = True,
    crop_to_bounds: bool = True,
) -> Slide:
    """Open an image with the reader its content asks for.

    Parameters
    ----------
    path : Path or str
        A whole-slide image OpenSlide knows, a TIFF or OME-TIFF, a PNG or a JPEG.
    slide_mpp : float, optional
        Pixel size in micrometres to assume whatever the file says.
    require_mpp : bool
        Whether an image without a believable pixel size is an error; else its ``mpp`` is None.
    crop_to_bounds : bool
        Whether the image is the part OpenSlide says was scanned, as in QuPath (which goes by
        ``openslide.bounds-x`` and its kin unless told ``--no-crop``).

    Returns
    -------
    Slide
        A context manager with the names of openslide-python: ``dimensions``, ``read_region``,
        ``level_downsamples`` and so on; pixels come as arrays.

    Raises
    ------
    InputError
        When the file is missing, broken, or not 8-bit RGB.
    CalibrationError
        When the pixel size is missing or cannot be believed.
    UsageError
        When ``slide_mpp`` is out of range.

    Examples
    --------
    >>> from nucliseg_qp import open_slide
    >>> with open_slide("ki67_synthetic/images/low.ome.tif") as slide:
    ...     pixels = slide.read_region((100, 200), 0, (64, 32))
    >>> slide.dimensions, slide.mpp.mpp
    ((768, 768), 0.25)
    >>> pixels.shape, str(pixels.dtype)
    ((32, 64, 3), 'uint8')
    """
    # The readers are made of Slide, so they can only be imported here.
    from nucliseg_qp.images.readers import open_reader

    chosen = None if slide_mpp is None else user_calibration(slide_mpp)
    slide = open_reader(Path(path), crop_to_bounds)
    try:
        slide.mpp = chosen or _calibration(slide, require_mpp)
    except CalibrationError:
        slide.close()
        raise
    slide.opener = FileOpener(Path(path).absolute(), slide_mpp, require_mpp, crop_to_bounds)
    return slide


@dataclass(frozen=True)
class FileOpener:
    """Opens the same file in another process; see `open_slide` for the fields."""

    path: Path
    slide_mpp: float | None
    require_mpp: bool
    crop_to_bounds: bool

    def __call__(self) -> Slide:
        """Open the slide."""
        return open_slide(self.path, self.slide_mpp, self.require_mpp, self.crop_to_bounds)


def _calibration(slide: Slide, required: bool) -> Calibration | None:
    try:
        return checked_calibration(slide.mpp, slide.path)
    except CalibrationError:
        if required:
            raise
        return None


def check_size(path: Path, width_px: int, height_px: int) -> None:
    """Refuse an image that is empty or larger than any scanner makes.

    Raises
    ------
    InputError
        Before anything is allocated.
    """
    if width_px < 1 or height_px < 1:
        raise InputError(f"{path} has no pixels ({width_px} x {height_px})", "Export it again.")
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PIXELS:
        raise InputError(
            f"{path} claims to have {width_px} x {height_px} pixels, more than any scanner makes",
            "The file is damaged: export it again.",
        )


def _downsample(full: tuple[int, int], size: tuple[int, int]) -> float:
    # A side of 1001 halved is 500 or 501, yet each of its pixels covers exactly 2.
    mean = (full[0] / size[0] + full[1] / size[1]) / 2
    whole = round(mean)
    if all(abs(a - whole * b) < whole for a, b in zip(full, size, strict=True)):
        return float(whole)
    return mean
