"""PNG and JPEG: decoded once, from top to bottom, into an unnamed file of plain rows."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from nucliseg_qp.errors import InputError, OutputError
from nucliseg_qp.images.segments import FileBytes, RowSource
from nucliseg_qp.images.slide import Slide, check_size

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pyvips import Image

    from nucliseg_qp.geometry import Region

__all__ = ["FlatSlide"]

MAX_FLAT_PIXELS = 1_000_000_000
"""3 GB of plain rows; a picture that claims more is a bomb or belongs into a pyramid."""

MAX_INTERLACED_PIXELS = 100_000_000
"""Progressive pictures are decoded in memory as a whole."""

_PYRAMID = "Write it as a pyramid: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg."
_NEED_RGB = "nucliseg_qp needs 8-bit RGB brightfield: export it as such."


class FlatSlide(Slide):
    """A PNG or JPEG; neither format can be read from the middle.

    Palettes become RGB. Memory stays small, the temporary folder must have room for 3 bytes a
    pixel while the image is open; nothing is left there.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        ``png`` or ``jpeg``, as its first bytes say.

    Raises
    ------
    InputError
        When it is damaged, too large, or not 8-bit RGB.
    OutputError
        When the temporary folder is full.
    """

    def __init__(self, path: Path, kind: str) -> None:
        import pyvips

        try:
            image = _open_image(path, kind)
            check_size(path, image.width, image.height)
            _check_kind(path, image)
            rows = _plain_rows(image)
        except pyvips.Error as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path} is a damaged {kind.upper()} ({reason})", "Copy or export it again."
            ) from error
        super().__init__(path, f"pyvips ({kind})", ((image.width, image.height),), None)
        self._file = FileBytes(path, rows)
        self._rows = RowSource(self._file, np.zeros(1, np.int64), image.height, image.width)

    def _read_inside(
        self,
        level: int,  # noqa: ARG002 - there is only one
        region: Region,
    ) -> NDArray[np.uint8]:
        return self._rows.read(region)

    def close(self) -> None:
        """Close the file and free its temporary copy."""
        self._file.close()


def _open_image(path: Path, kind: str) -> Image:
    import pyvips

    # The loader is named, so that no content can pick another one of libvips' many; a stale
    # image of the same name must not come out of its cache.
    load = pyvips.Image.pngload if kind == "png" else pyvips.Image.jpegload
    return load(str(path), access="sequential", fail_on="error", revalidate=True)


def _check_kind(path: Path, image: Image) -> None:
    if image.interpretation == "cmyk":
        raise InputError(f"{path} has printing colours (CMYK)", _NEED_RGB)
    if image.format != "uchar" or image.bands not in (3, 4):
        seen = f"{image.bands} channel(s) of type {image.format}"
        raise InputError(f"{path} holds {seen}", _NEED_RGB)
    if image.get_typeof("orientation") and image.get("orientation") not in (0, 1):
        raise InputError(
            f"{path} is stored turned or mirrored (EXIF orientation {image.get('orientation')})",
            "Save it upright: viewers disagree on what its coordinates mean.",
        )
    interlaced = image.get_typeof("interlaced") and image.get("interlaced")
    if image.width * image.height > (MAX_INTERLACED_PIXELS if interlaced else MAX_FLAT_PIXELS):
        raise InputError(
            f"{path} claims {image.width} x {image.height} pixels, too many for its format",
            _PYRAMID,
        )


def _plain_rows(image: Image) -> BinaryIO:
    """Write RGB rows one after the other into a temporary file without a name."""
    import pyvips

    _check_room(image.width * image.height * 3)
    opaque = image.flatten(background=[255, 255, 255]) if image.bands == 4 else image
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the slide
    try:
        opaque.rawsave_target(pyvips.Target.new_to_descriptor(file.fileno()))
    except pyvips.Error:
        file.close()
        raise
    return cast("BinaryIO", file)


def _check_room(needed_bytes: int) -> None:
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OutputError(
            f"the temporary folder {folder} has no room for {needed_bytes / 1e9:.1f} GB of pixels",
            "Set TMPDIR to a larger one.",
        )
