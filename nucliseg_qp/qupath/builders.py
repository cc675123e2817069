"""The image an entry of a project shows, opened as QuPath opens it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nucliseg_qp.errors import InputError, QuPathError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.calibration import Calibration, checked_calibration
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.images.transformed import CroppedSlide, Orientation, TurnedSlide
from nucliseg_qp.qupath.entries import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nucliseg_qp.images.slide import Slide

__all__ = ["EntryImage", "builder_paths", "check_builder", "open_entry"]

_QUARTERS = {"ROTATE_NONE": 0, "ROTATE_90": 1, "ROTATE_180": 2, "ROTATE_270": 3}
_FLIPS = {
    "NONE": Orientation(),
    "HORIZONTAL": Orientation(flip_x=True),
    "VERTICAL": Orientation(flip_y=True),
    "BOTH": Orientation(flip_x=True, flip_y=True),
}
_MEND = "Add the image to the project as the file it is, or export this view as OME-TIFF."


@dataclass
class EntryImage:
    """An opened image of a project.

    Parameters
    ----------
    slide : Slide
        As QuPath shows it: x and y are QuPath's.
    warnings : list of str
        What is not quite as in QuPath.
    """

    slide: Slide
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EntryOpener:
    """Opens the same image in another process; see `open_entry` for the fields."""

    builder_json: str
    size_px: tuple[int, int]
    mpp: Calibration | None
    name: str

    def __call__(self) -> Slide:
        """Open the image."""
        return open_entry(json.loads(self.builder_json), self.size_px, self.mpp, self.name).slide


def builder_paths(builder: Mapping[str, Any]) -> list[Path]:
    """Give the files behind a (nested) server builder of project.qpproj."""
    inner = builder.get("builder")
    if isinstance(inner, dict):
        return builder_paths(inner)
    path = local_path(str(builder.get("uri", "")))
    return [] if path is None else [path]


def check_builder(builder: Mapping[str, Any], name: str) -> None:
    """Refuse an image of a kind that cannot be opened.

    Raises
    ------
    QuPathError
        With the name of the kind.
    """
    if builder.get("builderType") != "uri":
        _turn(builder, name)
        check_builder(_inner(builder, name), name)


def open_entry(
    builder: Mapping[str, Any],
    size_px: tuple[int, int],
    mpp: Calibration | None,
    name: str,
) -> EntryImage:
    """Open the image that a server builder of project.qpproj describes.

    Parameters
    ----------
    builder : mapping
        ``serverBuilder`` of the entry: a file, a crop, a turn, a mirror image, or one of another.
    size_px : (int, int)
        Width and height QuPath sees.
    mpp : Calibration or None
        Pixel size QuPath holds; None takes the file's own.
    name : str
        Of the image, for messages.

    Raises
    ------
    InputError
        When the file is missing or broken, QuPath sees another size, or there is no pixel size.
    QuPathError
        When the builder is of another kind; the message names it.
    """
    warnings: list[str] = []
    slide = _open(builder, warnings, name)
    try:
        if slide.dimensions != size_px:
            raise QuPathError(
                f"{name}: QuPath sees {size_px[0]} x {size_px[1]} px, the file gives "
                f"{slide.dimensions[0]} x {slide.dimensions[1]} px",
                "Tell us about this format.",
            )
        slide.mpp = checked_calibration(mpp or slide.mpp, slide.path)
        slide.opener = EntryOpener(json.dumps(builder), size_px, mpp, name)
    except (InputError, QuPathError):
        slide.close()
        raise
    return EntryImage(slide, warnings)


def _open(builder: Mapping[str, Any], warnings: list[str], name: str) -> Slide:
    kind = str(builder.get("builderType"))
    if kind == "uri":
        return _open_file(builder, warnings, name)
    orientation, region = _turn(builder, name), _crop(builder) if kind == "cropped" else None
    base = _open(_inner(builder, name), warnings, name)
    try:
        return TurnedSlide(base, orientation) if region is None else CroppedSlide(base, region)
    except InputError:
        base.close()
        raise


def _open_file(builder: Mapping[str, Any], warnings: list[str], name: str) -> Slide:
    path = local_path(str(builder.get("uri", "")))
    if path is None or not path.is_file():
        raise QuPathError(
            f"{name}: {path or builder.get('uri')} is not there",
            "Connect the drive, or run nucliseg-qp relink on the project.",
        )
    arguments = [str(one) for one in builder.get("args") or []]
    if "--icc-profile" in arguments:
        warnings.append(
            f"{name}: QuPath applies the scanner's ICC profile, the analysis takes the colours as "
            "they are stored; stains and thresholds may differ"
        )
    slide = open_slide(path, None, False, "--no-crop" not in arguments)
    # A scanner's file holds one slide besides its label and overview, other files may hold many.
    if _series(arguments) != "0" and not slide.reader.startswith("openslide"):
        slide.close()
        raise QuPathError(f"{name} is image {_series(arguments)} of its file (--series)", _MEND)
    return slide


def _series(arguments: list[str]) -> str:
    after = arguments[arguments.index("--series") + 1 :] if "--series" in arguments else []
    return after[0] if after else "0"


def _inner(builder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = builder.get("builder")
    if not isinstance(inner, dict):
        raise QuPathError(f"{name} has a broken server builder", "Add the image again.")
    return inner


def _crop(builder: Mapping[str, Any]) -> Region:
    region = builder["region"]
    return Region(*(int(region[key]) for key in ("x", "y", "width", "height")))


def _turn(builder: Mapping[str, Any], name: str) -> Orientation:
    kind = str(builder.get("builderType"))
    if kind == "cropped":
        return Orientation()
    if kind == "rotated" and builder.get("rotation") in _QUARTERS:
        return Orientation.clockwise(_QUARTERS[builder["rotation"]])
    if kind == "flipped" and builder.get("flip") in _FLIPS:
        return _FLIPS[builder["flip"]]
    if kind == "affine":
        return _affine(builder, name)
    raise QuPathError(f"{name} is an image of the kind '{kind}', which is not supported", _MEND)


def _affine(builder: Mapping[str, Any], name: str) -> Orientation:
    """Read turns and mirror images out of an affine transform; QuPath drops its shift."""
    matrix = builder.get("transform") or {}
    xx, xy, yx, yy = (round(float(matrix.get(key, 0)), 9) for key in ("m00", "m01", "m10", "m11"))
    if xy == yx == 0 and abs(xx) == abs(yy) == 1:
        return Orientation(flip_x=xx < 0, flip_y=yy < 0)
    if xx == yy == 0 and abs(xy) == abs(yx) == 1:
        return Orientation(flip_x=yx < 0, flip_y=xy < 0, swap=True)
    raise QuPathError(f"{name} is scaled, sheared or turned by another angle ('affine')", _MEND)
