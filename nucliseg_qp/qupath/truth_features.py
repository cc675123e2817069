"""What an annotation of a GeoJSON file is: nuclei, an area in which they are complete, or neither.

People mark a missed nucleus with the points tool or the brush, so an outline may be a nucleus; a
nucleus that was taken for an area, or dropped, would be taught as background.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import made_valid
from nucliseg_qp.quantify.scores import GRADES, last_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Polygon = tuple[NDArray[np.float64], ...]
    Mark = tuple[tuple[float, float], str | None]

__all__ = ["Sorted", "is_ignored", "sort_features"]

_OF_NUCLEI = {name.casefold() for name in ("Negative", "Positive", *GRADES)}


@dataclass
class Sorted:
    """The annotations of one file.

    Attributes
    ----------
    marks : list of Mark
        x and y of each nucleus, in pixels, and the name of its class.
    areas : list of Polygon
        Each as its outer ring and its holes, (m, 2).
    left_out : Counter
        What is neither, by reason.
    """

    marks: list[Mark]
    areas: list[Polygon] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def sort_features(
    file: Path, features: Sequence[dict[str, Any]], marks: list[Mark], wanted: str | None
) -> Sorted:
    """Tell nuclei from areas.

    Parameters
    ----------
    file : Path
        For messages.
    features : sequence of dict
        Annotations, as they are in the file.
    marks : list of Mark
        Nuclei that are known from detections.
    wanted : str, optional
        Only annotations with this name or class are areas; without, all that are not nuclei.

    Raises
    ------
    InputError
        When a coordinate is not a finite number, or an outline has fewer than three points.
    """
    found = Sorted(list(marks))
    outlines: list[tuple[str | None, list[Polygon]]] = []
    for feature in features:
        kind, label = (feature.get("geometry") or {}).get("type"), _label(feature)
        if kind in ("Point", "MultiPoint"):
            found.marks += _points(file, feature)
        elif kind not in ("Polygon", "MultiPolygon"):
            found.left_out[f"annotations that are a {kind}"] += 1
        elif _is_area(feature, label, wanted):
            found.areas += _polygons(file, feature)
        else:
            outlines.append((label, _polygons(file, feature)))
    _add_outlined(found, outlines)
    return found


def is_ignored(label: str | None) -> bool:
    """Tell whether a class ends in a star, as one of QuPath's for what is not to be counted."""
    return (label or "").strip().endswith("*")


def _key(name: str | None) -> str:
    return (name or "").strip().casefold()


def _is_area(feature: dict[str, Any], label: str | None, wanted: str | None) -> bool:
    if wanted is None:
        return not is_ignored(label) and _key(last_part(label or "")) not in _OF_NUCLEI
    name = (feature.get("properties") or {}).get("name")
    return _key(wanted) in (_key(name), _key(label))


def _add_outlined(found: Sorted, outlines: list[tuple[str | None, list[Polygon]]]) -> None:
    """Take outlines of a class that nuclei have, each of their parts as a nucleus."""
    known = {_key(label) for _, label in found.marks if label}
    before = np.array([xy for xy, _ in found.marks], np.float64).reshape(-1, 2)
    for label, polygons in outlines:
        if label and (_key(last_part(label)) in _OF_NUCLEI or _key(label) in known):
            for polygon in polygons:
                _add_nucleus(found, label, polygon, before)
        else:
            of_class = f"of class {label}" if label else "without a class"
            found.left_out[f"annotations {of_class}, neither area nor nucleus"] += 1


def _add_nucleus(found: Sorted, label: str, polygon: Polygon, before: NDArray[np.float64]) -> None:
    import shapely

    shape = made_valid(shapely.Polygon(polygon[0]))
    inside = int(shapely.contains_xy(shape, before[:, 0], before[:, 1]).sum())
    if inside:
        what = "several nuclei" if inside > 1 else "a nucleus that is marked already"
        found.left_out[f"outlines of class {label} around {what}"] += 1
        return
    found.marks.append(((shape.centroid.x, shape.centroid.y), label))


def _points(file: Path, feature: dict[str, Any]) -> list[Mark]:
    geometry, label = feature["geometry"], _label(feature)
    rows = geometry["coordinates"]
    return [(_xy(file, row), label) for row in ([rows] if geometry["type"] == "Point" else rows)]


def _xy(file: Path, row: object) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in row[:2])  # type: ignore[index]
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError("not a finite number")
    except (TypeError, ValueError) as error:
        raise InputError(f"{file} has a point {row!r} ({error})", "Export it again") from None
    return x, y


def _label(feature: dict[str, Any]) -> str | None:
    found = (feature.get("properties") or {}).get("classification")
    if isinstance(found, dict):
        names = found.get("names") or [found.get("name")]
        return ": ".join(str(name) for name in names)
    return found if isinstance(found, str) else None


def _polygons(file: Path, feature: dict[str, Any]) -> list[Polygon]:
    geometry = feature["geometry"]
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    return [tuple(_ring(file, ring) for ring in polygon) for polygon in polygons]


def _ring(file: Path, ring: Sequence[object]) -> NDArray[np.float64]:
    if len(ring) < 3:
        raise InputError(f"{file} has an outline of {len(ring)} points", "Export it again")
    return np.array([_xy(file, row) for row in ring])
