"""Where in an image of a project: everywhere, on tissue, or in annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson

from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.geometry import made_valid
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.tissue import find_tissue
from nucliseg_qp.qupath.held import Parent
from nucliseg_qp.qupath.results import ImageResult, analysed_area

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from nucliseg_qp.config import TissueSettings
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.images.tissue import TissueMask
    from nucliseg_qp.qupath.held import Held, HeldArea

__all__ = ["ImageScope", "ProjectScope", "scope_of"]

IGNORED = "Ignore*"
"""QuPath's class for what shall not be looked at."""

TISSUE_NAME = "NucliSeg QP tissue"


@dataclass(frozen=True)
class ProjectScope:
    """What is analysed in every image.

    Parameters
    ----------
    kind : {"image", "tissue", "annotations"}
        The whole image; the tissue on it; annotations that people drew.
    class_name, name : str
        Only annotations of this class, or with this name; empty takes all.
    """

    kind: Literal["image", "tissue", "annotations"] = "image"
    class_name: str = ""
    name: str = ""

    @classmethod
    def from_text(cls, text: str) -> ProjectScope:
        """Read ``image``, ``tissue``, ``annotations``, ``class:NAME`` or ``name:NAME``.

        Raises
        ------
        UsageError
            When it is something else.
        """
        key, sign, value = text.partition(":")
        if sign and value and key == "class":
            return cls("annotations", class_name=value)
        if sign and value and key == "name":
            return cls("annotations", name=value)
        if text == "image":
            return cls("image")
        if text == "tissue":
            return cls("tissue")
        if text == "annotations":
            return cls("annotations")
        raise UsageError(
            f"--scope {text!r} is not known",
            "Give image, tissue, annotations, class:NAME or name:NAME.",
        )

    def __str__(self) -> str:
        """Give the text it was read from."""
        if self.class_name:
            return f"class:{self.class_name}"
        return f"name:{self.name}" if self.name else self.kind


@dataclass(frozen=True)
class ImageScope:
    """Where in one image, and what the nuclei go under.

    Parameters
    ----------
    scope : Scope
        For the analysis.
    parents : tuple of Parent
        Annotations; none when there is nothing to do in this image.
    """

    scope: Scope
    parents: tuple[Parent, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Give it in types that JSON knows."""
        whole = self.scope.within is None
        return [
            {"id": one.id, "name": one.name, "geometry": one.geometry, "whole": whole}
            for one in self.parents
        ]

    @classmethod
    def from_json(cls, items: list[dict[str, Any]]) -> ImageScope:
        """Read what `to_json` gave."""
        parents = tuple(Parent(one["id"], one["name"], one["geometry"]) for one in items)
        if any(one["whole"] for one in items):
            return cls(Scope(), parents)
        return cls(Scope(within=_union([one["geometry"] for one in items])), parents)


def scope_of(wanted: ProjectScope, held: Held, slide: Slide, tissue: TissueSettings) -> ImageScope:
    """Give the scope of one image.

    Parameters
    ----------
    wanted : ProjectScope
        What is asked for.
    held : Held
        What QuPath holds: its annotations.
    slide : Slide
        The image, as QuPath shows it.
    tissue : TissueSettings
        How tissue is found.

    Raises
    ------
    InputError
        When an annotation lies on another plane than the first, or there is no tissue.
    """
    if wanted.kind == "annotations":
        return _annotations(wanted, held, slide)
    geometry = None if wanted.kind == "image" else _tissue(slide, tissue)
    size, mpp = slide.dimensions, slide.mpp
    area = analysed_area(
        ImageResult(slide.path, *size, mpp.mpp if mpp else 1.0, "", (), geometry=geometry)
    )
    name = area.name if geometry is None else TISSUE_NAME
    within = None if geometry is None else _union([dict(area.geometry)])
    return ImageScope(Scope(within=within), (Parent(area.id, name, dict(area.geometry)),))


def _annotations(wanted: ProjectScope, held: Held, slide: Slide) -> ImageScope:
    areas = [one for one in held.areas if _is_wanted(wanted, one)]
    for one in areas:
        if one.z or one.t:
            raise InputError(
                f"{slide.path}: annotation {one.name or one.id} lies on plane z={one.z} t={one.t}",
                "Only the first plane can be analysed: draw it there.",
            )
    parents = tuple(Parent(one.id, one.name, one.geometry) for one in areas)
    if not parents:
        return ImageScope(Scope(), ())
    return ImageScope(Scope(within=_union([one.geometry for one in areas])), parents)


def _is_wanted(wanted: ProjectScope, area: HeldArea) -> bool:
    if area.ours or area.class_name == IGNORED:
        return False
    return wanted.class_name in ("", area.class_name) and wanted.name in ("", area.name)


def _union(geometries: list[dict[str, Any]]) -> BaseGeometry:
    import shapely
    from shapely.geometry import shape

    valid = [made_valid(shape(geometry)) for geometry in geometries]
    pieces = [part for one in valid for part in shapely.get_parts(shapely.get_parts(one))]
    return shapely.union_all([part for part in pieces if part.geom_type == "Polygon"])


def _tissue(slide: Slide, settings: TissueSettings) -> dict[str, Any]:
    import shapely

    found = find_tissue(slide, settings.model_copy(update={"find": True}))
    whole = shapely.box(0, 0, *slide.dimensions)
    shape = shapely.intersection(_outline(found), whole)
    if shape.is_empty:
        raise InputError(f"{slide.path} holds no tissue", "Use --scope image.")
    geometry: dict[str, Any] = orjson.loads(shapely.to_geojson(shape))
    return geometry


def _outline(tissue: TissueMask) -> BaseGeometry:
    """Give the outlines of a mask along the edges of its pixels, holes included."""
    import shapely

    boxes = []
    for row, line in enumerate(tissue.mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.view(np.uint8), [0]])))
        for left, right in edges.reshape(-1, 2).tolist():
            corners = np.array([left, row, right, row + 1]) * tissue.downsample
            boxes.append(shapely.box(*corners))
    return shapely.union_all(boxes)
