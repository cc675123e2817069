"""An outline drawn in QuPath that limits the work: ``--within FILE.geojson``."""

from __future__ import annotations

import gzip
import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import made_valid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry


__all__ = ["points_within", "read_within"]

MAX_FILE_BYTES = 200_000_000
"""Of the document, after decompression."""

MAX_LISTS = 3_000_000
MAX_VALUES = 10_000_000
"""Of opening brackets and of commas: they bound what parsing can allocate to about 1 GB."""

MAX_RING_VERTICES = 1_000_000
MAX_POLYGONS = 10_000
MAX_CROSSINGS = 1_000_000
MAX_COORDINATE_PX = 1e9

_EXPORT = "Export annotations from QuPath as GeoJSON (File > Export objects as GeoJSON)."
_SIMPLIFY = "Simplify the annotation in QuPath (Objects > Annotations > Simplify shape)."


def read_within(path: Path) -> BaseGeometry:
    """Read the polygons of a GeoJSON file as one area.

    Parameters
    ----------
    path : Path
        ``.geojson`` or ``.json``, plain or gzipped: a FeatureCollection, a Feature, a list of
        features or a bare geometry. Points and lines have no area and are passed over.

    Returns
    -------
    shapely Polygon or MultiPolygon
        Valid, in pixels of the full-resolution image.

    Raises
    ------
    InputError
        When the file is missing, too large, no GeoJSON, holds no polygon, or coordinates that are
        no numbers.
    """
    document = _parse(path, _read_bytes(path))
    rings = list(_polygons(path, document))
    if not rings:
        raise InputError(f"{path} holds no polygon", _EXPORT)
    area = _one_area(path, rings)
    if area.is_empty or area.area == 0:
        raise InputError(f"{path} holds only polygons without an area", _EXPORT)
    return area


def points_within(
    geometry: BaseGeometry, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Tell for points ``x``, ``y`` of shape (n,) which lie in ``geometry``, border included."""
    import shapely

    shapely.prepare(geometry)
    return np.asarray(shapely.intersects_xy(geometry, x, y), np.bool_)


# --- from bytes to a document --------------------------------------------------------------------


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(2)
        with gzip.open(path) if start == b"\x1f\x8b" else path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read ({reason})", "Check --within.") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path} holds over {MAX_FILE_BYTES // 1_000_000} MB of JSON", _SIMPLIFY)
    return data


def _parse(path: Path, data: bytes) -> object:
    import orjson

    if data.count(b"[") > MAX_LISTS or data.count(b",") > MAX_VALUES:
        raise InputError(f"{path} holds over {MAX_LISTS} vertices", _SIMPLIFY)
    try:
        # Refuses NaN, infinities and more than 1024 levels of nesting.
        document: object = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is not GeoJSON ({error})", _EXPORT) from error
    return document


# --- from a document to rings --------------------------------------------------------------------

_MEMBER = {
    "FeatureCollection": "features",
    "GeometryCollection": "geometries",
    "Feature": "geometry",
    **dict.fromkeys(("Polygon", "MultiPolygon", "Point", "MultiPoint"), "coordinates"),
    **dict.fromkeys(("LineString", "MultiLineString"), "coordinates"),
}


def _polygons(path: Path, document: object) -> Iterator[list[NDArray[np.float64]]]:
    """Give each polygon as its rings, the outer one first, each closed and of shape (k, 2)."""
    number = 0
    for geometry in _geometries(path, document):
        coordinates = geometry.get("coordinates")
        if geometry["type"] == "Polygon":
            coordinates = [coordinates]
        for polygon in _listed(path, coordinates):
            number += 1
            if number > MAX_POLYGONS:
                raise InputError(f"{path} holds over {MAX_POLYGONS} polygons", _SIMPLIFY)
            yield _rings(path, polygon)


def _geometries(path: Path, document: object) -> Iterator[dict[str, object]]:
    """Give the Polygon and MultiPolygon geometries of a document."""
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item))
            continue
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(kind, str) or kind not in _MEMBER:
            raise InputError(f"{path} is not GeoJSON (an object of type {kind!r})", _EXPORT)
        if kind in ("Polygon", "MultiPolygon"):
            yield item
        elif kind == "Feature":
            waiting.extend([item["geometry"]] if item.get("geometry") is not None else [])
        elif kind in ("FeatureCollection", "GeometryCollection"):
            waiting.extend(reversed(_listed(path, item.get(_MEMBER[kind]))))


def _listed(path: Path, value: object) -> list[object]:
    if not isinstance(value, list):
        raise InputError(f"{path} is not GeoJSON (a list is missing)", _EXPORT)
    return value


def _rings(path: Path, coordinates: object) -> list[NDArray[np.float64]]:
    """Check one polygon with the geojson package's model and give its rings."""
    import geojson

    longest = max((len(_listed(path, ring)) for ring in _listed(path, coordinates)), default=0)
    if longest > MAX_RING_VERTICES:
        raise InputError(f"{path} has a ring of {longest} vertices", _SIMPLIFY)
    try:
        polygon = geojson.Polygon(coordinates)
        error = polygon.errors()
        rings = [np.array(ring, np.float64) for ring in polygon["coordinates"]]
    except (TypeError, ValueError, OverflowError, RecursionError) as caught:
        error, rings = str(caught)[:80], []
    if error or not rings:
        raise InputError(f"{path} has a broken polygon ({error or 'no rings'})", _EXPORT)
    for ring in rings:
        flat = ring.ndim == 2 and ring.shape[1] in (2, 3)
        if not flat or not (np.abs(ring) <= MAX_COORDINATE_PX).all():
            raise InputError(f"{path} has a vertex that is no point of an image", _EXPORT)
    return [ring[:, :2] for ring in rings]


# --- from rings to an area -----------------------------------------------------------------------


def _one_area(path: Path, polygons: list[list[NDArray[np.float64]]]) -> BaseGeometry:
    import shapely

    _check_crossings(path, polygons)
    shapes = []
    for outer, *holes in polygons:
        shape = made_valid(shapely.Polygon(outer, holes))
        # make_valid may leave lines where a ring touches itself.
        shapes += [part for part in shapely.get_parts(shape) if part.area > 0]
    flat = shapely.get_parts(shapely.get_parts(shapes))
    return shapely.union_all([part for part in flat if part.geom_type == "Polygon"])


def _check_crossings(path: Path, polygons: list[list[NDArray[np.float64]]]) -> None:
    """Refuse what would take hours to make valid: rings that cross millions of times.

    The number is estimated from up to 256 of the segments.
    """
    import shapely

    rings = [ring for polygon in polygons for ring in polygon]
    pairs = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    segments = shapely.linestrings(pairs[(pairs[:, 0] != pairs[:, 1]).any(axis=1)])
    sample = segments[:: max(1, math.ceil(len(segments) / 256))]
    # Each segment meets itself and two neighbours; each crossing is met from both sides.
    allowed = len(sample) * (3 + 2 * MAX_CROSSINGS / max(1, len(segments)))
    tree = shapely.STRtree(segments)
    met = 0
    for segment in sample:
        met += len(tree.query(segment, predicate="intersects"))
        if met > allowed:
            raise InputError(f"{path} has outlines that cross millions of times", _SIMPLIFY)
