"""Fields of an image in a list of tiles, checked: a list may have been written by other hands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AGAIN", "ImageFields", "checked_fields"]

AGAIN = "Convert the data again"

_SMALLEST_MPP, _LARGEST_MPP = 0.01, 10.0
_FURTHEST_PX = 1e6


@dataclass(frozen=True)
class ImageFields:
    """What a list says of one image.

    Attributes
    ----------
    size_px, valid_px : tuple of int
        Width and height of the file, and of the part that shows the image.
    mpp : float
        um per pixel.
    trusted : NDArray[np.bool_] or None
        (h, w) of the valid part, where the annotation counts; None is everywhere.
    """

    size_px: tuple[int, int]
    valid_px: tuple[int, int]
    mpp: float
    trusted: NDArray[np.bool_] | None


def checked_fields(where: str, image: dict[str, Any]) -> ImageFields:
    """Read size, pixel size and areas of an image.

    Raises
    ------
    InputError
        Beginning with `where`, when one of them makes no sense.
    """
    size_px = (int(image["width"]), int(image["height"]))
    valid_px = _valid(where, image["valid_px"], size_px)
    mpp = float(image["mpp"])
    if not _SMALLEST_MPP <= mpp <= _LARGEST_MPP:
        limits = f"{_SMALLEST_MPP:g} to {_LARGEST_MPP:g}"
        raise InputError(f"{where}: mpp {mpp:g} is not {limits} um per pixel", AGAIN)
    return ImageFields(size_px, valid_px, mpp, _trusted(where, image.get("areas"), valid_px))


def _valid(where: str, value: object, size_px: tuple[int, int]) -> tuple[int, int]:
    whole = isinstance(value, list) and len(value) == 2 and all(type(x) is int for x in value)
    if not whole or not all(1 <= x <= most for x, most in zip(value, size_px, strict=True)):  # type: ignore[call-overload]
        seen = f"{size_px[0]} x {size_px[1]} px"
        raise InputError(f"{where}: valid_px {value} is no part of {seen}", AGAIN)
    return value[0], value[1]  # type: ignore[index]


def _trusted(where: str, areas: object, size_px: tuple[int, int]) -> NDArray[np.bool_] | None:
    import cv2

    if areas is None:
        return None
    if not isinstance(areas, list) or not areas:
        raise InputError(f"{where}: areas {areas} are neither null nor outlines", AGAIN)
    mask = np.zeros((size_px[1], size_px[0]), np.uint8)
    # The centre of pixel (0, 0) is (0.5, 0.5) for us and (0, 0) for OpenCV.
    rings = [np.round((_ring(where, ring) - 0.5) * 16).astype(np.int32) for ring in areas]
    cv2.fillPoly(mask, rings, 1, shift=4)
    return mask > 0


def _ring(where: str, ring: object) -> NDArray[np.float64]:
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        raise InputError(f"{where}: an area is {ring}, not three corners or more", AGAIN)
    if not all(type(x) in (int, float) and math.isfinite(x) for x in ring):
        raise InputError(f"{where}: an area has a corner that is no number", AGAIN)
    if max(abs(x) for x in ring) > _FURTHEST_PX:
        raise InputError(f"{where}: an area reaches far beyond the image", AGAIN)
    return np.array(ring, np.float64).reshape(-1, 2)
