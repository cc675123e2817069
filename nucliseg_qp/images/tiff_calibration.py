"""The pixel size a TIFF states: OME-XML first, then ImageJ's words, then the resolution tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from nucliseg_qp.images.calibration import Calibration, length_um, resolution_tag_calibration

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

__all__ = ["tiff_calibration"]

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296


def tiff_calibration(tiff: TiffFile, page: TiffPage) -> Calibration | None:
    """Give the pixel size of the full-resolution ``page``; None when the file states none."""
    return _ome(tiff, page) or _imagej(tiff, page) or _tags(page)


def _ome(tiff: TiffFile, page: TiffPage) -> Calibration | None:
    text = tiff.ome_metadata
    if not text:
        return None
    size = str(page.imagewidth), str(page.imagelength)
    # expat stops at entities that multiply, and tifffile has parsed this text before.
    for element in ElementTree.fromstring(text).iter():  # noqa: S314
        if element.tag.rpartition("}")[2] != "Pixels":
            continue
        if (element.get("SizeX"), element.get("SizeY")) == size:
            return _physical_size(element.attrib)
    return None


def _physical_size(attribute: dict[str, str]) -> Calibration | None:
    mpp = [
        length_um(
            float(attribute.get(f"PhysicalSize{axis}", 0)),
            attribute.get(f"PhysicalSize{axis}Unit", "\u00b5m"),
        )
        for axis in "XY"
    ]
    if not mpp[0] or not mpp[1]:
        return None
    return Calibration(mpp[0], mpp[1], "OME-XML PhysicalSizeX")


def _imagej(tiff: TiffFile, page: TiffPage) -> Calibration | None:
    metadata = tiff.imagej_metadata
    x, y = _resolution(page, _X_RESOLUTION), _resolution(page, _Y_RESOLUTION)
    if not metadata or x <= 0 or y <= 0:
        return None
    unit = str(metadata.get("unit", ""))
    mpp_x, mpp_y = length_um(1 / x, unit), length_um(1 / y, unit)
    if mpp_x is None or mpp_y is None:
        return None
    return Calibration(mpp_x, mpp_y, f"ImageJ unit {unit}")


def _tags(page: TiffPage) -> Calibration | None:
    unit = page.tags.valueof(_RESOLUTION_UNIT, default=1)
    return resolution_tag_calibration(
        _resolution(page, _X_RESOLUTION), _resolution(page, _Y_RESOLUTION), int(unit)
    )


def _resolution(page: TiffPage, tag: int) -> float:
    value: Any = page.tags.valueof(tag, default=(0, 1))
    numerator, denominator = value
    return float(numerator / denominator) if denominator else 0.0
