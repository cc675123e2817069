"""PNG and JPEG: decoded once, from top to bottom, into an unnamed file of plain rows."""

from __future__ import annotations

import errno
import tempfile
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from nucliseg_qp.errors import InputError, OutputError
from nucliseg_qp.images.rgb import over_white
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

_BAND_PX = 1 << 22

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
        self._rows = RowSource(
            self._file, np.zeros(1, np.int64) + _START, image.height, image.width
        )

    def _read_inside(
        self,
        level: int,  # noqa: ARG002 - there is only one
        region: Region,
    ) -> NDArray[np.uint8]:
        return self._rows.read(region)

    def close(self) -> None:
        """Close the file and free its temporary copy."""
        self._file.close()


_START = 1
"""Where the rows begin in the temporary file; RowSource takes 0 for rows never written."""


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
    if image.width * image.height > MAX_FLAT_PIXELS:
        raise InputError(
            f"{path} claims {image.width} x {image.height} pixels, too many for its format",
            _PYRAMID,
        )


def _plain_rows(image: Image) -> BinaryIO:
    """Write RGB rows one after the other into a temporary file without a name."""
    import pyvips

    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the slide
    try:
        file.write(b"\0" * _START)
        region = pyvips.Region.new(image)
        step = max(1, _BAND_PX // image.width)
        for top in range(0, image.height, step):
            height = min(step, image.height - top)
            data = region.fetch(0, top, image.width, height)
            pixels = np.frombuffer(data, np.uint8).reshape(height, image.width, image.bands)
            file.write((pixels if image.bands == 3 else over_white(pixels)).data)
    except OSError as error:
        file.close()
        raise _no_room(error) from error
    except pyvips.Error:
        file.close()
        raise
    return cast("BinaryIO", file)


def _no_room(error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "is full" if full else f"cannot be written ({error.strerror})"
    return OutputError(
        f"the temporary folder {tempfile.gettempdir()} {reason}", "Set TMPDIR to a larger one."
    )
