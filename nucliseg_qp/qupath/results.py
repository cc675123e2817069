"""What the pipeline hands over for one image, and what comes back when it is in QuPath."""

from __future__ import annotations

import uuid
import zipfile
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import made_valid
from nucliseg_qp.nuclei import ID_NAMESPACE, Nuclei
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.qupath.rings import GRID_PX, usable_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely import Geometry

__all__ = [
    "Area",
    "ImageResult",
    "WrittenImage",
    "analysed_area",
    "load_part",
    "save_part",
    "save_parts",
]

AREA_NAME = "NucliSeg QP"
"""Name of the locked annotation that holds the nuclei of a run."""


@dataclass(frozen=True)
class Area:
    """The locked annotation that becomes the parent of the nuclei.

    Parameters
    ----------
    id : str
        UUID by which a later run finds it again.
    name : str
        Shown in QuPath's annotation list.
    geometry : mapping
        Valid Polygon or MultiPolygon as in GeoJSON, in pixels of the full-resolution image.
    """

    id: str
    name: str
    geometry: Mapping[str, Any]


@dataclass(frozen=True)
class ImageResult:
    """The nuclei of one image, ready for QuPath.

    Parameters
    ----------
    image_path : Path
        The image file.
    width_px, height_px : int
        Size of the full-resolution image as it was analysed; QuPath must see the same.
    mpp : float
        Pixel size in um.
    mpp_source : str
        Where the pixel size came from.
    parts : tuple of Path
        Files of `save_part`, so that memory stays bounded however many nuclei there are.
    provenance : mapping of str to str
        Becomes metadata of the image's entry in the project.
    geometry : mapping, optional
        What was analysed, as Polygon or MultiPolygon; none is the whole image.
    """

    image_path: Path
    width_px: int
    height_px: int
    mpp: float
    mpp_source: str
    parts: tuple[Path, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    geometry: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class WrittenImage:
    """What became of one image in a project.

    Parameters
    ----------
    image_path : Path
        The image file.
    entry_id : str
        Its number in the project, empty when it did not get one.
    added, replaced, kept, deleted : int
        Nuclei added; of an earlier run removed to make room; left alone because somebody changed
        them; and not added again because somebody deleted them.
    nuclei : int
        Detections the image holds afterwards; for a project written as files, those to import.
    problem : str
        Why the image was left as it was; empty when all is well.
    """

    image_path: Path
    entry_id: str = ""
    added: int = 0
    replaced: int = 0
    kept: int = 0
    deleted: int = 0
    nuclei: int = 0
    problem: str = ""


def analysed_area(result: ImageResult) -> Area:
    """Give the annotation that holds the nuclei; the same area of an image keeps its id.

    Raises
    ------
    InputError
        When the geometry covers no area.
    """
    import shapely

    whole = shapely.box(0, 0, result.width_px, result.height_px)
    shape = whole if result.geometry is None else _polygons(result.geometry)
    if shape.is_empty:
        raise InputError(f"the area analysed in {result.image_path} is empty", "Draw another one.")
    shape = shapely.normalize(shape)
    key = f"{result.image_path.name}/area/{shapely.to_wkb(shape, hex=True)}"
    geometry = orjson.loads(shapely.to_geojson(shape))
    return Area(str(uuid.uuid5(ID_NAMESPACE, key)), AREA_NAME, geometry)


def _polygons(geometry: Mapping[str, Any]) -> Geometry:
    """Give the polygons of a geometry as QuPath accepts them: valid, on its grid."""
    import shapely
    from shapely.geometry import shape

    valid = shapely.set_precision(made_valid(shape(dict(geometry))), GRID_PX)
    pieces = shapely.get_parts(shapely.get_parts(valid))
    return shapely.union_all([piece for piece in pieces if piece.geom_type == "Polygon"])


def save_part(path: Path, nuclei: Nuclei, ids: Iterable[str]) -> None:
    """Write some nuclei with their ids to a ``.npz`` file.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    columns = list(nuclei.measurements.values())
    values = np.stack(columns) if columns else np.empty((0, len(nuclei)), np.float32)
    with whole_file(path, lasting=False) as partial, partial.open("wb") as file:
        np.savez(
            file,
            x=nuclei.x,
            y=nuclei.y,
            score=nuclei.score,
            ring_xy=nuclei.ring_xy,
            ring_start=nuclei.ring_start,
            class_names=np.array(nuclei.class_names, dtype=np.str_),
            class_index=nuclei.class_index,
            names=np.array(list(nuclei.measurements), dtype=np.str_),
            values=values.astype(np.float32),
            ids=_id_bytes(ids),
        )


def save_parts(
    folder: Path, stem: str, parts: Iterable[tuple[Nuclei, Iterable[str]]]
) -> tuple[Path, ...]:
    """Write tables one after the other to ``<stem>.<number>.npz``; see `save_part`."""
    paths = []
    for number, (nuclei, ids) in enumerate(parts):
        paths.append(folder / f"{stem}.{number:05d}.npz")
        save_part(paths[-1], nuclei, ids)
    return tuple(paths)


def load_part(path: Path) -> tuple[Nuclei, list[str]]:
    """Read a file of `save_part`.

    Returns
    -------
    tuple
        The nuclei, their outlines good for QuPath (see `usable_rows`), and their ids.

    Raises
    ------
    InputError
        When it is missing, altered or not one of ours.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = dict(file)
        nuclei, ids = _table(columns), _id_texts(columns["ids"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} does not hold nuclei of this program ({error})", "Run the image again."
        ) from None
    nuclei, kept = usable_rows(nuclei)
    return (nuclei, ids) if kept.all() else (nuclei.take(kept), list(compress(ids, kept.tolist())))


def _table(columns: dict[str, NDArray[Any]]) -> Nuclei:
    names = [str(name) for name in columns["names"]]
    return Nuclei(
        x=columns["x"],
        y=columns["y"],
        score=columns["score"],
        ring_xy=columns["ring_xy"],
        ring_start=columns["ring_start"],
        class_names=tuple(str(name) for name in columns["class_names"]),
        class_index=columns["class_index"],
        measurements=dict(zip(names, columns["values"], strict=True)),
    )


def _id_bytes(ids: Iterable[str]) -> NDArray[np.uint8]:
    raw = bytes.fromhex("".join(ids).replace("-", ""))
    return np.frombuffer(raw, np.uint8).reshape(-1, 16)


def _id_texts(raw: NDArray[np.uint8]) -> list[str]:
    text = raw.tobytes().hex()
    pieces = (text[at : at + 32] for at in range(0, len(text), 32))
    return [f"{p[:8]}-{p[8:12]}-{p[12:16]}-{p[16:20]}-{p[20:]}" for p in pieces]
