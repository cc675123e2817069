"""The picture of an image with the outlines of its nuclei in the colours of their classes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError, OutputError
from nucliseg_qp.images.resample import read_grid
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.pictures.outlines import Outlines, line_px

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Region
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.palette.classes import PathClass

__all__ = ["Preview", "save_picture"]

LARGEST_SCALE = 2.0
"""Small images are enlarged by at most this, so that outlines can be seen."""
BLOCK_PX = 256
UNREADABLE_GREY = 160
JPEG_QUALITY = 90


class Preview:
    """A picture that nuclei are drawn on as they are found.

    Parameters
    ----------
    slide : Slide
        The image.
    region : Region
        Part shown, in full-resolution pixels.
    classes : sequence of PathClass
        In the order of ``Nuclei.class_index``.
    longest_px : int
        Longest side of the picture.
    """

    def __init__(
        self, slide: Slide, region: Region, classes: Sequence[PathClass], longest_px: int
    ) -> None:
        longest = max(region.width_px, region.height_px)
        self._scale = min(LARGEST_SCALE, longest_px / longest)
        self._region = region
        self._line_px = line_px(slide.mpp.mpp / self._scale) if slide.mpp else 1
        # The picture begins at a whole pixel of its own, a little before the region.
        x, y = int(region.x_px * self._scale), int(region.y_px * self._scale)
        colours = [one.color_rgb for one in classes]
        corner_px = x / self._scale, y / self._scale
        self._outlines = Outlines(self._read(slide), colours, corner_px, self._scale)

    def _read(self, slide: Slide) -> NDArray[np.uint8]:
        region, scale = self._region, self._scale
        width = max(1, int(region.width_px * scale))
        height = max(1, int(region.height_px * scale))
        image = np.full((height, width, 3), UNREADABLE_GREY, np.uint8)
        corner = int(region.x_px * scale), int(region.y_px * scale)
        for top in range(0, height, BLOCK_PX):
            for left in range(0, width, BLOCK_PX):
                block = image[top : top + BLOCK_PX, left : left + BLOCK_PX]
                # A damaged place stays grey: it must not cost the rest of the image.
                with suppress(InputError):
                    block[:] = read_grid(
                        slide,
                        1 / scale,
                        corner[0] + left,
                        corner[1] + top,
                        block.shape[1],
                        block.shape[0],
                    )
        return image

    def add(self, nuclei: Nuclei) -> None:
        """Draw nuclei given in full-resolution pixels."""
        self._outlines.add(nuclei)

    def save(self, path: Path) -> None:
        """Write the picture as JPEG.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        save_picture(path, self.picture())

    def picture(self) -> NDArray[np.uint8]:
        """Give the picture with the outlines drawn so far, RGB (h, w, 3)."""
        return self._outlines.picture(self._line_px)


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image of shape (h, w, 3) as JPEG or PNG, by the suffix of ``path``.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    import cv2

    # Colour at full resolution: thin lines of one colour pale otherwise.
    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *full_colour]
    done, data = cv2.imencode(
        path.suffix, image[:, :, ::-1], options if path.suffix == ".jpg" else []
    )
    if not done:
        raise OutputError(f"{path} cannot be encoded", "Use .jpg or .png.")
    with whole_file(path) as partial:
        partial.write_bytes(data.tobytes())
