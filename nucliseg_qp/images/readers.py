"""Which reader an image gets: its content decides, not its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.errors import InputError
from nucliseg_qp.extensions import READERS, extension_names, load_extension

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.images.slide import Slide

__all__ = ["open_reader"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"

_SUPPORTED = (
    "Give a slide OpenSlide reads (svs, ndpi, mrxs, scn, bif, ...), a TIFF or OME-TIFF, a PNG or "
    "a JPEG; QuPath's convert-ome makes an OME-TIFF of the rest."
)


def open_reader(path: Path, crop_to_bounds: bool = True) -> Slide:
    """Open ``path`` with OpenSlide, tifffile or libvips.

    OpenSlide reads the formats of scanners. A plain TIFF it could read too goes to tifffile,
    which gives the same pixels in a quarter of the time. What none of them knows is offered to the
    readers that other packages add.

    Raises
    ------
    InputError
        When the file is missing, unreadable, or no image this package knows.
    """
    start = _first_bytes(path)
    if start.startswith((_PNG, _JPEG)):
        from nucliseg_qp.images.readers_flat import FlatSlide

        return FlatSlide(path, "png" if start.startswith(_PNG) else "jpeg")
    from nucliseg_qp.images.readers_openslide import VendorSlide, slide_vendor

    vendor = slide_vendor(path)
    if vendor not in (None, "generic-tiff"):
        return VendorSlide(path, str(vendor), crop_to_bounds)
    if start.startswith(_TIFF):
        from nucliseg_qp.images.readers_tiff import TiffSlide

        return TiffSlide(path)
    return _added_reader(path, start)


def _added_reader(path: Path, start: bytes) -> Slide:
    for name in extension_names(READERS):
        slide: Slide | None = load_extension(READERS, name)(path, start)
        if slide is not None:
            return slide
    raise InputError(f"{path} is no image of a known kind (it begins with {start!r})", _SUPPORTED)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder", "Give the images in it, as in FOLDER/*.svs.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or device", "Give an image file.")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened ({error})", "Check the path.") from error
    if not start:
        raise InputError(f"{path} is empty", "Copy or export it again.")
    return start
