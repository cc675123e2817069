"""GeoJSON of others and of ours, read with limits: a file is material, not to be trusted."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.qupath.geojson import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Detections", "read_geojson"]

MAX_DOCUMENT_BYTES = 64 << 20
"""Largest text that is held as one JSON tree, which takes ten times as much memory."""
MAX_DOCUMENT_POINTS = 4_000_000
"""Most brackets in such a text: tiny coordinates must not make a huge tree."""
MAX_LINE_BYTES = 4 << 20
"""Largest single feature of a file that has one on every line."""
MAX_FEATURES = 20_000_000
"""More nuclei than any slide has."""
MAX_RING_POINTS = 100_000
"""More vertices than the outline of any nucleus has."""
MAX_MEASUREMENTS = 1000
"""More columns than any table of measurements has."""

SCORE = "Detection probability"


@dataclass(frozen=True)
class Detections:
    """What a GeoJSON file holds.

    Parameters
    ----------
    nuclei : Nuclei
        Its detections; the keypoints are the centroids of the outlines, since GeoJSON keeps none,
        and ``score`` is NaN where the file gives no `Detection probability`.
    ids : tuple of str
        Id of each row, empty where there is none.
    annotations : tuple of dict
        The features that are not detections or cells, as they are.
    """

    nuclei: Nuclei
    ids: tuple[str, ...]
    annotations: tuple[dict[str, Any], ...]


def read_geojson(path: Path) -> Detections:
    """Read ``.geojson`` or ``.geojson.gz`` as written here or by QuPath.

    Of a detection with several parts or holes the largest outer ring is kept.

    Returns
    -------
    Detections
        ``nuclei``, their ``ids``, and ``annotations`` as they are in the file.

    Raises
    ------
    InputError
        When the file is missing, broken, not GeoJSON, holds a coordinate that is not a finite
        number, or is larger than anything a slide gives.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import read_geojson
    >>> found = read_geojson(Path("results/nuclei/low.geojson.gz"))
    >>> len(found.ids) == len(found.nuclei)
    True
    >>> sorted(found.nuclei.counts())
    ['Negative', 'Positive']
    """
    rows: list[_Row] = []
    annotations: list[dict[str, Any]] = []
    for number, feature in enumerate(_features(path)):
        if number >= MAX_FEATURES:
            raise _refused(path, f"holds more than {MAX_FEATURES} features")
        try:
            row = _parse(feature)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise _refused(path, f"feature {number + 1} is not one ({error})") from None
        if row:
            rows.append(row)
        else:
            annotations.append(feature)
    return Detections(_table(path, rows), tuple(row.id for row in rows), tuple(annotations))


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    ring: NDArray[np.float64]
    class_name: str | None
    measured: dict[str, float]


class _Opened:
    """A file, unzipped on the way when it is gzip, whose errors are ours."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> BinaryIO:
        try:
            self._raw = self._path.open("rb")
            magic = self._raw.read(2)
            self._raw.seek(0)
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be read ({error.strerror})", "Check the path."
            ) from None
        zipped = magic == b"\x1f\x8b"
        return gzip.GzipFile(fileobj=self._raw) if zipped else self._raw  # type: ignore[return-value]

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._raw.close()
        if kind and issubclass(kind, OSError | EOFError | zlib.error):
            raise _refused(self._path, f"is damaged ({error})") from None


def _opened(path: Path) -> _Opened:
    return _Opened(path)


def _features(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        first = file.readline(MAX_LINE_BYTES)
        if first.strip() == HEADER:
            yield from _features_by_line(path, file)
        else:
            document = _json(path, _document(path, file, first))
            yield from _features_of(path, document)


def _features_by_line(path: Path, file: BinaryIO) -> Iterator[dict[str, Any]]:
    while (line := file.readline(MAX_LINE_BYTES + 1).strip()) != b"]}":
        if len(line) > MAX_LINE_BYTES:
            raise _refused(path, f"has a feature of more than {MAX_LINE_BYTES >> 20} MiB")
        if not line:
            raise _refused(path, "ends in the middle")
        yield _json(path, line.removesuffix(b","))


def _document(path: Path, file: BinaryIO, first: bytes) -> bytes:
    text = first + file.read(MAX_DOCUMENT_BYTES + 1 - len(first))
    if len(text) > MAX_DOCUMENT_BYTES:
        raise _refused(path, f"is one document of more than {MAX_DOCUMENT_BYTES >> 20} MiB")
    if text.count(b"[") > MAX_DOCUMENT_POINTS:
        raise _refused(path, f"is one document of more than {MAX_DOCUMENT_POINTS} points")
    return text


def _json(path: Path, text: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _refused(path, f"is not JSON ({error})") from None


def _features_of(path: Path, document: object) -> list[dict[str, Any]]:
    if isinstance(document, list):
        return document
    if isinstance(document, dict) and document.get("type") == "Feature":
        return [document]
    if isinstance(document, dict) and isinstance(document.get("features"), list):
        found: list[dict[str, Any]] = document["features"]
        return found
    raise _refused(path, "is JSON but not GeoJSON")


def _parse(feature: dict[str, Any]) -> _Row | None:
    """Read one detection or cell; none for anything else."""
    properties = feature.get("properties") or {}
    if properties.get("objectType") not in ("detection", "cell"):
        return None
    measured = properties.get("measurements") or {}
    if len(measured) > MAX_MEASUREMENTS:
        raise ValueError(f"more than {MAX_MEASUREMENTS} measurements")
    return _Row(
        id=str(feature.get("id") or ""),
        ring=_ring(feature["geometry"]),
        class_name=_class_name(properties.get("classification")),
        measured={str(name): float(value) for name, value in measured.items()},
    )


def _ring(geometry: dict[str, Any]) -> NDArray[np.float64]:
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a detection is a Polygon, not a {kind}")
    rings = [coordinates[0]] if kind == "Polygon" else [part[0] for part in coordinates]
    return max((_vertices(ring) for ring in rings), key=_area)


def _vertices(ring: list[Any]) -> NDArray[np.float64]:
    if len(ring) > MAX_RING_POINTS:
        raise ValueError(f"an outline of {len(ring)} points")
    xy = np.array(ring, dtype=np.float64)[:, :2]
    if xy.shape[1] != 2 or not np.isfinite(xy).all():
        raise ValueError("a coordinate is not a finite number")
    return xy[:-1] if len(xy) > 1 and (xy[0] == xy[-1]).all() else xy


def _area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _class_name(classification: str | dict[str, Any] | None) -> str | None:
    if classification is None or isinstance(classification, str):
        return classification
    return ": ".join(classification.get("names") or [classification["name"]])


def _table(path: Path, rows: list[_Row]) -> Nuclei:
    if not rows:
        return Nuclei.empty()
    classes = tuple(dict.fromkeys(row.class_name for row in rows if row.class_name is not None))
    place = {name: index for index, name in enumerate(classes)} | {None: -1}
    names = tuple(dict.fromkeys(name for row in rows for name in row.measured))
    if len(names) > MAX_MEASUREMENTS:
        raise _refused(path, f"has more than {MAX_MEASUREMENTS} measurements")
    columns = {
        name: np.array([row.measured.get(name, np.nan) for row in rows], np.float32)
        for name in names
    }
    x, y = _centroids([row.ring for row in rows])
    return Nuclei(
        x=x,
        y=y,
        score=columns.get(SCORE, np.full(len(rows), np.nan, np.float32)),
        ring_xy=np.concatenate([row.ring for row in rows]),
        ring_start=np.cumsum([0, *(len(row.ring) for row in rows)]).astype(np.int64),
        class_names=classes,
        class_index=np.array([place[row.class_name] for row in rows], np.int16),
        measurements=columns,
    )


def _centroids(
    rings: list[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import shapely

    centres = shapely.centroid([shapely.MultiPoint(ring).convex_hull for ring in rings])
    return shapely.get_x(centres), shapely.get_y(centres)


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"{path} {reason}", "Export it again as GeoJSON.")
