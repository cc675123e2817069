"""Which part of an image is analysed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.within import points_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from nucliseg_qp.images.tissue import TissueMask

__all__ = ["Scope"]

_AREA_SAMPLES_PX = 1024
"""Points a side at which an area without a tissue mask is sampled."""

_POINTS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Scope:
    """A rectangle, polygons, both or (with neither) the whole image.

    Parameters
    ----------
    region : Region, optional
        In full-resolution pixels.
    within : shapely geometry, optional
        Polygons in full-resolution pixels.

    Examples
    --------
    >>> import numpy as np
    >>> import shapely
    >>> from nucliseg_qp import Region, Scope
    >>> scope = Scope(Region(0, 0, 500, 500), shapely.Point(300, 300).buffer(100))
    >>> scope.contains(np.array([300.0, 450.0]), np.array([350.0, 350.0])).tolist()
    [True, False]
    """

    region: Region | None = None
    within: BaseGeometry | None = None

    @classmethod
    def from_geometry(cls, geometry: Mapping[str, Any] | None) -> Scope:
        """Read what `geometry` gave."""
        import shapely
        from shapely.geometry import shape

        if geometry is None:
            return cls()
        within = shape(geometry)
        if within.is_empty:
            return cls(Region(0, 0, 0, 0))
        around = _rectangle(within)
        # A rectangle's right and lower border belong to its neighbours, a polygon's to itself.
        is_region = within.equals(shapely.box(*within.bounds)) and around.area_px == within.area
        return cls(around) if is_region else cls(within=within)

    def bounds(self, image: Region) -> Region:
        """Give the smallest rectangle of ``image`` that holds the scope.

        Raises
        ------
        InputError
            When the scope lies outside of the image.
        """
        bounds = image if self.region is None else image.intersection(self.region)
        if self.within is not None:
            bounds = bounds.intersection(_rectangle(self.within))
        if not bounds.area_px:
            raise InputError(
                f"the region lies outside of the image of {image.width_px} x {image.height_px} px",
                "Give --region and --within in pixels of the full-resolution image.",
            )
        return bounds

    def grown(self, margin_px: int) -> Scope:
        """Give the scope with a rim of ``margin_px``."""
        return Scope(
            None if self.region is None else self.region.expanded(margin_px),
            None if self.within is None else self.within.buffer(margin_px),
        )

    def geometry(self, image: Region) -> Mapping[str, Any] | None:
        """Give the scope inside of ``image`` as a GeoJSON geometry, None for the whole image."""
        import shapely

        if self.region is None and self.within is None:
            return None
        bounds = self.bounds(image)
        shape = shapely.box(bounds.x_px, bounds.y_px, bounds.right_px, bounds.bottom_px)
        if self.within is not None:
            shape = shape.intersection(self.within)
        return dict(shapely.geometry.mapping(shape))

    def contains(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell for points of shape (n,) in full-resolution pixels which are in scope."""
        inside = np.ones(len(x), bool)
        if self.region is not None:
            inside &= self.region.contains(x, y)
        if self.within is not None:
            inside &= points_within(self.within, x, y)
        return inside

    def area_mm2(self, image: Region, tissue: TissueMask | None, mpp: float) -> float:
        """Give the area of the tissue in scope, or of the scope where ``tissue`` is None."""
        bounds = self.bounds(image)
        step = (
            max(1.0, max(bounds.width_px, bounds.height_px) / _AREA_SAMPLES_PX)
            if tissue is None
            else tissue.downsample
        )
        x = _samples(bounds.x_px, bounds.width_px, step)
        y = _samples(bounds.y_px, bounds.height_px, step)
        # Row by row at most so many points: a mask has millions.
        strips = np.array_split(y, math.ceil(len(x) * len(y) / _POINTS_AT_ONCE))
        inside = sum(self._count(x, strip, tissue) for strip in strips)
        return inside / (len(x) * len(y)) * bounds.area_px * mpp**2 / 1e6

    def _count(
        self, columns: NDArray[np.float64], rows: NDArray[np.float64], tissue: TissueMask | None
    ) -> int:
        x, y = np.tile(columns, len(rows)), np.repeat(rows, len(columns))
        inside = self.contains(x, y)
        if tissue is not None:
            inside &= tissue.contains(x, y)
        return int(np.count_nonzero(inside))


def _samples(start_px: int, size_px: int, step: float) -> NDArray[np.float64]:
    number = max(1, math.ceil(size_px / step))
    return np.asarray(start_px + (np.arange(number) + 0.5) * (size_px / number), np.float64)


def _rectangle(geometry: BaseGeometry) -> Region:
    left, top, right, bottom = geometry.bounds
    x, y = math.floor(left), math.floor(top)
    return Region(x, y, math.ceil(right) - x, math.ceil(bottom) - y)
