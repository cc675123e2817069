"""The pixel size of an image in micrometres: read from what the file says, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nucliseg_qp.errors import CalibrationError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MAX_MPP",
    "MIN_MPP",
    "Calibration",
    "checked_calibration",
    "length_um",
    "resolution_tag_calibration",
    "user_calibration",
]

MIN_MPP, MAX_MPP = 0.05, 2.5
"""Finer than light can show, and too coarse to see a nucleus."""

MAX_ANISOTROPY = 0.05

# What microscopes' software writes; OME's units and the names ImageJ and others use for them.
_UNIT_UM = {
    "m": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "\u00b5m": 1.0,  # micro sign
    "\u03bcm": 1.0,  # Greek mu
    "\\u00b5m": 1.0,  # as ImageJ escapes it
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "in": 25400.0,
    "inch": 25400.0,
}

_TAG_UNIT_UM = {2: 25400.0, 3: 1e4}


@dataclass(frozen=True, slots=True)
class Calibration:
    """How large a pixel of the full-resolution image is.

    Parameters
    ----------
    mpp_x, mpp_y : float
        Width and height of a pixel in micrometres.
    source : str
        Where the numbers come from, such as ``OME-XML PhysicalSizeX`` or ``--slide-mpp``.
    """

    mpp_x: float
    mpp_y: float
    source: str

    @property
    def mpp(self) -> float:
        """Mean of width and height, in micrometres."""
        return (self.mpp_x + self.mpp_y) / 2


def length_um(value: float, unit: str) -> float | None:
    """Convert a length to micrometres; None when the unit is no length (``pixel``)."""
    scale = _UNIT_UM.get(unit.strip().lower())
    return None if scale is None else value * scale


def resolution_tag_calibration(
    pixels_per_unit_x: float, pixels_per_unit_y: float, resolution_unit: int
) -> Calibration | None:
    """Read TIFF's resolution tags, unless they are a printer's.

    Parameters
    ----------
    pixels_per_unit_x, pixels_per_unit_y : float
        Values of XResolution and YResolution.
    resolution_unit : int
        Value of ResolutionUnit: 2 is inch, 3 is centimetre, anything else no unit at all.

    Returns
    -------
    Calibration or None
        None for 72, 96 or 300 dpi and the like, which every program writes by default.
    """
    unit_um = _TAG_UNIT_UM.get(resolution_unit)
    if unit_um is None or pixels_per_unit_x <= 0 or pixels_per_unit_y <= 0:
        return None
    mpp_x, mpp_y = unit_um / pixels_per_unit_x, unit_um / pixels_per_unit_y
    if not (_believable(mpp_x) and _believable(mpp_y)):
        return None
    return Calibration(mpp_x, mpp_y, "TIFF resolution tag")


def user_calibration(slide_mpp: float) -> Calibration:
    """Take the pixel size the user gave.

    Raises
    ------
    UsageError
        When it is not between 0.05 and 2.5 micrometres.
    """
    if not _believable(slide_mpp):
        raise UsageError(
            f"--slide-mpp {slide_mpp:g} is no pixel size at which nuclei can be seen",
            f"Give micrometres per pixel, {MIN_MPP:g} to {MAX_MPP:g}; 0.25 is usual at 40x.",
        )
    return Calibration(slide_mpp, slide_mpp, "--slide-mpp")


def checked_calibration(found: Calibration | None, path: Path) -> Calibration:
    """Refuse a pixel size that is missing, out of range or not square.

    Raises
    ------
    CalibrationError
        With ``--slide-mpp`` as the way out.
    """
    hint = "Give the true size with --slide-mpp (micrometres per pixel, as in 0.25)."
    if found is None:
        raise CalibrationError(f"{path} has no pixel size", hint)
    if not (_believable(found.mpp_x) and _believable(found.mpp_y)):
        size = f"{found.mpp_x:g} x {found.mpp_y:g} um"
        wrong = "too coarse to see nuclei" if found.mpp > MAX_MPP else "finer than light can show"
        raise CalibrationError(f"{path} has pixels of {size} ({found.source}), {wrong}", hint)
    if abs(found.mpp_x - found.mpp_y) > MAX_ANISOTROPY * min(found.mpp_x, found.mpp_y):
        size = f"{found.mpp_x:g} x {found.mpp_y:g} um"
        raise CalibrationError(f"{path} has pixels of {size}, which are not square", hint)
    return found


def _believable(mpp: float) -> bool:
    return MIN_MPP <= mpp <= MAX_MPP
