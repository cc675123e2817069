"""From an annotated image to square tiles, each nucleus in exactly one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nucliseg_qp.geometry import made_valid
from nucliseg_qp.images.resample import read_grid

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.training.sources import AnnotatedImage

__all__ = ["Mode", "Tile", "Tiling", "nuclei_by_area", "tiles_of"]

Mode = Literal["cut", "resize"]

SMALLEST_PX = 32
"""A strip of the image narrower than this, at its right or lower border, is no tile."""

_GLASS = 225


@dataclass(frozen=True)
class Tile:
    """Pixels and what is annotated on them; see `coco.TileRecord`."""

    pixels: NDArray[np.uint8]
    valid_px: tuple[int, int]
    origin_px: tuple[int, int]
    mpp: float
    points: NDArray[np.float64]
    classes: tuple[str | None, ...]
    areas: tuple[NDArray[np.float64], ...] | None


@dataclass(frozen=True)
class Tiling:
    """How an image becomes tiles.

    Attributes
    ----------
    mode : str
        ``cut``: tiles at `mpp`, side by side. ``resize``: the whole image is one tile.
    mpp : float
        um per pixel of tiles that are cut.
    side_px : int
        Side of the tiles; what reaches beyond the image is white.
    """

    mode: Mode
    mpp: float
    side_px: int


def tiles_of(
    slide: Slide, image: AnnotatedImage, how: Tiling, left_out: Counter[str]
) -> Iterator[Tile]:
    """Cut an image at a resolution, or shrink it to one tile.

    Parameters
    ----------
    slide : Slide
        With a pixel size.
    image : AnnotatedImage
        Its annotation, checked.
    how : Tiling
        Resolution and side.
    left_out : Counter
        Gets the number of whatever is in the image and in no tile, by reason.
    """
    own_mpp = slide.mpp.mpp if slide.mpp else 1.0
    resize = how.mode == "resize"
    factor = max(slide.dimensions) / how.side_px if resize else how.mpp / own_mpp
    size = tuple(max(1, round(length / factor)) for length in slide.dimensions)
    points = np.minimum(image.points / factor, np.array(size) - 1e-3)
    area = _area(image, factor)
    inside = _within(area, points)
    left_out["points outside of the annotated areas"] += int((~inside).sum())
    for origin, valid in _windows((size[0], size[1]), how.side_px):
        place = np.floor(points / how.side_px) * how.side_px
        rows = np.flatnonzero(inside & (place == origin).all(axis=1))
        outlines = _outlines(area, origin, valid)
        pixels = _pixels(slide, factor, origin, valid, how.side_px)
        reason = _unwanted(pixels, origin, valid, outlines, len(rows))
        if reason:
            left_out[reason] += len(rows) or 1
            continue
        names = tuple(image.classes[row] for row in rows)
        yield Tile(pixels, valid, origin, own_mpp * factor, points[rows] - origin, names, outlines)


def nuclei_by_area(image: AnnotatedImage) -> list[int]:
    """Count the nuclei in each annotated area of an image, or in all of it when none is named."""
    if image.areas is None:
        return [len(image.points)]
    shapes = [_area(replace(image, areas=(polygon,)), 1.0) for polygon in image.areas]
    return [int(_within(shape, image.points).sum()) for shape in shapes]


def _windows(
    size: tuple[int, int], side_px: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for y in range(0, size[1], side_px):
        for x in range(0, size[0], side_px):
            yield (x, y), (min(side_px, size[0] - x), min(side_px, size[1] - y))


def _pixels(
    slide: Slide, factor: float, origin: tuple[int, int], valid: tuple[int, int], side_px: int
) -> NDArray[np.uint8]:
    pixels = read_grid(slide, factor, *origin, side_px, side_px)
    pixels[valid[1] :] = 255
    pixels[:, valid[0] :] = 255
    return pixels


def _unwanted(
    pixels: NDArray[np.uint8],
    origin: tuple[int, int],
    valid: tuple[int, int],
    outlines: tuple[NDArray[np.float64], ...] | None,
    nuclei: int,
) -> str:
    """Say why a tile is left out; empty when it is kept. The first tile of an image is."""
    if outlines == ():
        return "tiles outside of the annotated areas"
    if origin == (0, 0):
        return ""
    if min(valid) < SMALLEST_PX:
        what = "points" if nuclei else "tiles"
        return f"{what} in border strips under {SMALLEST_PX} px"
    if not nuclei and np.percentile(pixels, 2) > _GLASS:
        return "tiles of empty glass"
    return ""


def _area(image: AnnotatedImage, factor: float) -> Any:  # noqa: ANN401 - shapely is untyped
    import shapely

    if image.areas is None:
        return None
    scaled = [[ring / factor for ring in polygon] for polygon in image.areas]
    shapes = [made_valid(shapely.Polygon(rings[0], rings[1:])) for rings in scaled]
    return shapely.union_all(shapes)


def _within(area: Any, points: NDArray[np.float64]) -> NDArray[np.bool_]:  # noqa: ANN401
    import shapely

    if area is None:
        return np.ones(len(points), bool)
    return np.asarray(shapely.intersects_xy(area, points[:, 0], points[:, 1]), np.bool_)


def _outlines(
    area: Any,  # noqa: ANN401
    origin: tuple[int, int],
    valid: tuple[int, int],
) -> tuple[NDArray[np.float64], ...] | None:
    """Give the annotated part of a tile: None is all, nothing is an empty tuple."""
    import shapely

    if area is None:
        return None
    x, y = origin
    box = shapely.box(x, y, x + valid[0], y + valid[1])
    common = shapely.intersection(area, box)
    if common.area > box.area - 0.5:
        return None
    parts = shapely.get_parts(shapely.get_parts(common))
    polygons = [part for part in parts if part.geom_type == "Polygon" and part.area > 1]
    # Outer rings and holes alike: filled by the even-odd rule they give the area again.
    rings = [ring for part in polygons for ring in (part.exterior, *part.interiors)]
    return tuple(shapely.get_coordinates(ring)[:-1] - (x, y) for ring in rings)
