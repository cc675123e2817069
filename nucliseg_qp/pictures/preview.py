"""The picture of an image with the outlines of its nuclei in the colours of their classes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError, OutputError
from nucliseg_qp.images.resample import read_grid
from nucliseg_qp.outputs import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Region
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.palette.classes import PathClass

__all__ = ["Preview", "draw_outlines", "save_picture"]

LARGEST_SCALE = 2.0
"""Small images are enlarged by at most this, so that outlines can be seen."""
BLOCK_PX = 256
UNREADABLE_GREY = 160
FRACTION_BITS = 4
JPEG_QUALITY = 90
UNCLASSIFIED_RGB = (0, 0, 0)


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
        self._colours = [one.color_rgb for one in classes]
        self.image = self._read(slide)

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
        # The picture begins at a whole pixel of its own, a little before the region.
        x, y = int(self._region.x_px * self._scale), int(self._region.y_px * self._scale)
        corner = x / self._scale, y / self._scale
        draw_outlines(self.image, nuclei, self._colours, corner, self._scale)

    def save(self, path: Path) -> None:
        """Write the picture as JPEG.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        save_picture(path, self.image)


def draw_outlines(
    image: NDArray[np.uint8],
    nuclei: Nuclei,
    colours: Sequence[tuple[int, int, int]],
    corner_px: tuple[float, float],
    scale: float,
) -> None:
    """Draw outlines on an RGB image of shape (h, w, 3), in place.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        Changed.
    nuclei : Nuclei
        Outlines in full-resolution pixels.
    colours : sequence of (int, int, int)
        RGB of each class.
    corner_px : (float, float)
        Full-resolution position of the image's corner, x before y.
    scale : float
        Picture pixels per full-resolution pixel.
    """
    import cv2

    # OpenCV counts from the centre of the first pixel, QuPath from its corner.
    xy = ((nuclei.ring_xy - corner_px) * scale - 0.5) * (1 << FRACTION_BITS)
    points = np.rint(xy).astype(np.int32)
    rings = np.split(points, nuclei.ring_start[1:-1]) if len(nuclei) else []
    for index in np.unique(nuclei.class_index).tolist():
        chosen = [rings[row] for row in np.flatnonzero(nuclei.class_index == index).tolist()]
        colour = colours[index] if index >= 0 else UNCLASSIFIED_RGB
        cv2.polylines(
            image,
            chosen,
            True,
            colour,
            lineType=cv2.LINE_AA,
            shift=FRACTION_BITS,
            thickness=2 if scale >= LARGEST_SCALE else 1,
        )


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image of shape (h, w, 3) as JPEG or PNG, by the suffix of ``path``.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, image[:, :, ::-1], quality)
    if not done:
        raise OutputError(f"{path} cannot be encoded", "Use .jpg or .png.")
    with whole_file(path) as partial:
        partial.write_bytes(data.tobytes())
