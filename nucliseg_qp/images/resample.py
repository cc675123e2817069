"""The one way pixels are brought to another resolution: the same pixels however it is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.images.slide import Slide

__all__ = ["read_grid"]

BLOCK_PX = 2048
"""Side of the largest piece of a level read at once: an image without a pyramid stays small."""

_STEPS = 32
"""OpenCV's table of interpolation weights has this many steps a pixel."""


def read_grid(
    slide: Slide, downsample: float, x: int, y: int, width: int, height: int
) -> NDArray[np.uint8]:
    """Read a window of the global grid whose pixels are ``downsample`` wide.

    Grid pixel (i, j) covers ``i * downsample <= x < (i + 1) * downsample`` of the full-resolution
    image, and the same in y. Whole factors are averaged over exactly these pixels; the rest of a
    factor is linear interpolation at the pixel's centre, good to 1/64 pixel. A pixel has the same
    value whatever window it is read in.

    Parameters
    ----------
    slide : Slide
        The image.
    downsample : float
        Full-resolution pixels per grid pixel; below 1 the image is enlarged.
    x, y : int
        Top left corner of the window in grid pixels; may lie outside of the image.
    width, height : int
        Size of the window in grid pixels.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB, white outside of the image.

    Raises
    ------
    InputError
        When the file turns out to be damaged there.
    """
    level = slide.get_best_level_for_downsample(downsample)
    factor = _snapped(downsample / slide.level_downsamples[level])
    if factor == 1:
        return slide.read_level(level, x, y, width, height)
    step = max(1, int(BLOCK_PX / max(factor, 1.0)))
    if width <= step and height <= step:
        return _read_block(slide, level, factor, (x, y), (width, height))
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        for left in range(0, width, step):
            part = image[top : top + step, left : left + step]
            corner, size = (x + left, y + top), (part.shape[1], part.shape[0])
            part[:] = _read_block(slide, level, factor, corner, size)
    return image


def _snapped(factor: float) -> float:
    # 0.5 / 0.1 is not 5 in floating point; over the widest slide this moves less than 0.1 px.
    whole = round(factor)
    return float(whole) if abs(factor - whole) < 1e-7 else factor


def _read_block(
    slide: Slide, level: int, factor: float, corner: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    whole = max(1, int(factor))
    ratio = factor / whole
    if ratio == 1:
        return _read_reduced(slide, level, whole, corner, size)
    first_x, weight_x = _positions(corner[0], size[0], ratio)
    first_y, weight_y = _positions(corner[1], size[1], ratio)
    origin = int(first_x[0]), int(first_y[0])
    extent = int(first_x[-1]) + 2 - origin[0], int(first_y[-1]) + 2 - origin[1]
    source = _read_reduced(slide, level, whole, origin, extent)
    return _interpolate(source, first_x - origin[0], first_y - origin[1], weight_x, weight_y)


def _read_reduced(
    slide: Slide, level: int, whole: int, corner: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Average ``whole`` x ``whole`` pixels of the level, counted from its origin."""
    import cv2

    x, y = corner[0] * whole, corner[1] * whole
    image = slide.read_level(level, x, y, size[0] * whole, size[1] * whole)
    if whole == 1:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _positions(start: int, count: int, ratio: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Rounded to OpenCV's steps here, in coordinates of the whole image: OpenCV itself would round
    # relative to the window, and a pixel would depend on the window it is read in.
    centre = (start + np.arange(count) + 0.5) * ratio - 0.5
    position = np.rint(centre * _STEPS).astype(np.int64)
    return position // _STEPS, position % _STEPS


def _interpolate(
    source: NDArray[np.uint8],
    first_x: NDArray[np.int64],
    first_y: NDArray[np.int64],
    weight_x: NDArray[np.int64],
    weight_y: NDArray[np.int64],
) -> NDArray[np.uint8]:
    import cv2

    # OpenCV wants pairs of 16 bits, x before y: made as one number of 32 in one pass.
    pairs = first_x.astype("<i4") | (first_y.astype("<i4") << 16)[:, None]
    first = pairs.view("<i2").reshape(*pairs.shape, 2).astype(np.int16, copy=False)
    weight = (weight_y * _STEPS).astype(np.uint16)[:, None] + weight_x.astype(np.uint16)
    image = cv2.remap(source, first, weight, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(image, np.uint8)
