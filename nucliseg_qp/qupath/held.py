"""What QuPath holds for an image of a project, and what goes back into it: plain data, no Java."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nucliseg_qp.qupath.data_file import DataState

__all__ = ["EditCounts", "EntryResult", "Held", "HeldArea", "Parent", "Written"]

EditCounts = dict[str, int]
"""Number of nuclei by what people did to them: ``untouched``, ``reclassified``, ``moved``, ..."""


@dataclass(frozen=True)
class HeldArea:
    """An annotation with an area.

    Parameters
    ----------
    id : str
        UUID of the object.
    name, class_name : str
        Empty where there is none.
    geometry : dict
        Polygon or MultiPolygon as in GeoJSON, in pixels of the full-resolution image.
    z, t : int
        Its plane.
    ours : bool
        Whether this program made it.
    area_mm2 : float
        As QuPath measures it; NaN without pixel size.
    counts : dict of str to int
        Detections whose centroid lies inside, by class; "" stands for none.
    """

    id: str
    name: str
    class_name: str
    geometry: dict[str, Any]
    z: int = 0
    t: int = 0
    ours: bool = False
    area_mm2: float = float("nan")
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """What QuPath holds for one entry.

    Parameters
    ----------
    entry_id : int
        Number of the image in the project.
    width_px, height_px : int
        Size of the image QuPath shows.
    planes : int
        Slices times time points.
    rgb : bool
        Whether it is 8-bit RGB.
    mpp_x, mpp_y : float or None
        Pixel size in um, None where QuPath has none.
    image_type : str
        QuPath's name of it, such as ``BRIGHTFIELD_H_DAB``.
    stains : dict of str to list of float, or None
        Vectors by name and ``background``.
    areas : tuple of HeldArea
        Annotations with an area.
    counts : dict of str to int
        All detections by class.
    edits : dict of str to int
        What people did to nuclei of an earlier run.
    state : DataState
        Of data.qpdata as it was read.
    """

    entry_id: int
    width_px: int
    height_px: int
    planes: int
    rgb: bool
    mpp_x: float | None
    mpp_y: float | None
    image_type: str
    stains: dict[str, list[float]] | None
    areas: tuple[HeldArea, ...]
    counts: dict[str, int]
    edits: EditCounts
    state: DataState

    def to_json(self) -> dict[str, Any]:
        """Give it in types that JSON knows."""
        return asdict(self)

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> Held:
        """Read what `to_json` gave."""
        areas = tuple(HeldArea(**_no_null(area)) for area in item["areas"])
        return cls(**{**item, "areas": areas, "state": DataState(**item["state"])})


def _no_null(area: dict[str, Any]) -> dict[str, Any]:
    # JSON has no NaN.
    return {name: float("nan") if value is None else value for name, value in area.items()}


@dataclass(frozen=True)
class Parent:
    """The annotation that nuclei go under.

    Parameters
    ----------
    id : str
        UUID; an annotation of that id that is there already is taken.
    name : str
        For a new one.
    geometry : dict
        Polygon or MultiPolygon as in GeoJSON, for a new one.
    """

    id: str
    name: str
    geometry: dict[str, Any]


@dataclass(frozen=True)
class EntryResult:
    """The nuclei of one entry, ready for QuPath.

    Parameters
    ----------
    entry_id : int
        Number of the image in the project.
    state : DataState or None
        What data.qpdata must still be; None takes it as it is.
    parents : tuple of Parent
        Where nuclei go: each under the smallest it lies in.
    parts : tuple of Path
        Files of `save_part`.
    mode : {"replace", "replace-all"}
        Whether people's own changes stay.
    classes : tuple of (str, (int, int, int))
        Names and colours.
    width_px, height_px, mpp, mpp_source
        What was analysed; see `ImageResult`.
    provenance : dict of str to str
        For the manifest.
    """

    entry_id: int
    state: DataState | None
    parents: tuple[Parent, ...]
    parts: tuple[Path, ...]
    mode: str
    classes: tuple[tuple[str, tuple[int, int, int]], ...]
    width_px: int
    height_px: int
    mpp: float
    mpp_source: str
    image: str
    provenance: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give it in types that JSON knows."""
        return {**asdict(self), "parts": [str(part.resolve()) for part in self.parts]}

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> EntryResult:
        """Read what `to_json` gave."""
        state = item["state"]
        changed = {
            "state": None if state is None else DataState(**state),
            "parents": tuple(Parent(**parent) for parent in item["parents"]),
            "parts": tuple(Path(part) for part in item["parts"]),
            "classes": tuple((name, (rgb[0], rgb[1], rgb[2])) for name, rgb in item["classes"]),
        }
        return cls(**{**item, **changed})


@dataclass(frozen=True)
class Written:
    """What became of one entry.

    Parameters
    ----------
    report : dict of str to int
        ``added``, ``replaced``, ``kept`` and what people did: ``reclassified``, ``moved``,
        ``locked``, ``drawn`` and ``deleted``; ``nuclei`` in the image afterwards.
    held : Held
        The image as it was saved.
    builder : dict or None
        QuPath's description of the image, where saving changed it.
    changed : bool
        Whether somebody saved meanwhile, so that nothing was written.
    """

    report: dict[str, int]
    held: Held | None = None
    builder: dict[str, Any] | None = None
    changed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give it in types that JSON knows."""
        held = None if self.held is None else self.held.to_json()
        return {**asdict(self), "held": held}

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> Written:
        """Read what `to_json` gave."""
        held = item["held"]
        return cls(**{**item, "held": None if held is None else Held.from_json(held)})
