"""Rectangles and shapes in pixels of the full-resolution image, x to the right and y down.

Coordinates follow QuPath: the corner of the image is (0, 0) and the centre of its first pixel is
(0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nucliseg_qp.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely import Geometry

__all__ = ["RAYS", "Region", "Tile", "made_valid"]

RAYS = 16
"""Directions in which a nucleus's reach is told, in equal steps from that of x towards y."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of whole pixels; ``x_px <= x < x_px + width_px`` lies inside.

    Parameters
    ----------
    x_px, y_px : int
        Top left corner in pixels of the full-resolution image; may be negative for a crop that
        reaches beyond the image.
    width_px, height_px : int
        Size in the same pixels, at least 0.

    Examples
    --------
    >>> from nucliseg_qp import Region
    >>> Region(0, 0, 100, 50).intersection(Region(80, 10, 100, 50))
    Region(x_px=80, y_px=10, width_px=20, height_px=40)
    """

    x_px: int
    y_px: int
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        """Refuse negative sizes."""
        if self.width_px < 0 or self.height_px < 0:
            raise UsageError(
                f"region {self} has a negative size", "Give x,y,width,height in pixels."
            )

    @property
    def right_px(self) -> int:
        """First column to the right of the region."""
        return self.x_px + self.width_px

    @property
    def bottom_px(self) -> int:
        """First row below the region."""
        return self.y_px + self.height_px

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return self.width_px * self.height_px

    @classmethod
    def from_text(cls, text: str) -> Region:
        """Read ``x,y,width,height`` in whole pixels, as written on the command line.

        Raises
        ------
        UsageError
            When the text is not four whole numbers or the size is not positive.
        """
        parts = text.split(",")
        try:
            x, y, width, height = (int(part) for part in parts)
        except ValueError:
            raise UsageError(
                f"region {text!r} is not four whole numbers", "Write --region x,y,width,height."
            ) from None
        if width <= 0 or height <= 0:
            raise UsageError(f"region {text!r} is empty", "Width and height are at least 1 px.")
        return cls(x, y, width, height)

    def expanded(self, margin_px: int) -> Region:
        """Grow by ``margin_px`` on every side."""
        return Region(
            self.x_px - margin_px,
            self.y_px - margin_px,
            self.width_px + 2 * margin_px,
            self.height_px + 2 * margin_px,
        )

    def intersection(self, other: Region) -> Region:
        """Give the common part; its size is 0 when there is none."""
        x, y = max(self.x_px, other.x_px), max(self.y_px, other.y_px)
        right = min(self.right_px, other.right_px)
        bottom = min(self.bottom_px, other.bottom_px)
        return Region(x, y, max(0, right - x), max(0, bottom - y))

    def contains(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for points ``x``, ``y`` of shape (n,) in pixels which lie inside, as (n,) bool.

        A point on the left or top border is inside, one on the right or bottom border is not, so
        that neighbouring regions share no point.
        """
        inside: NDArray[np.bool_] = (
            (x >= self.x_px) & (x < self.right_px) & (y >= self.y_px) & (y < self.bottom_px)
        )
        return inside


@dataclass(frozen=True, slots=True)
class Tile:
    """A piece of work: nuclei with their keypoint in ``core`` are found on the pixels of ``crop``.

    Parameters
    ----------
    core : Region
        Cores of a plan do not overlap and cover what is to be analysed.
    crop : Region
        The core with a halo; may reach beyond the image, where pixels are white.
    """

    core: Region
    crop: Region


def made_valid(shape: Geometry) -> Geometry:
    """Make a shape valid; what is left may be a collection, with lines and points.

    Notes
    -----
    GEOS follows the lines of a shape, and fails at a few that cross many times within a hundredth
    of a pixel; those it builds from their rings.
    """
    import shapely

    try:
        return shapely.make_valid(shape)
    except shapely.GEOSException:
        return shapely.make_valid(shape, method="structure", keep_collapsed=False)
