"""The numbers of one image, kept beside the project for reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.outputs import whole_file
from nucliseg_qp.qupath.data_file import DataState, noted_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.qupath.held import Held

__all__ = ["AreaNumbers", "ImageNumbers", "area_numbers", "read_numbers"]


@dataclass(frozen=True)
class AreaNumbers:
    """One annotation: its area and the detections whose centroid lies inside.

    Parameters
    ----------
    id, name, class_name : str
        Of the annotation.
    area_mm2 : float or None
        As QuPath measures it; None without pixel size.
    counts : dict of str to int
        By class, "" for none.
    in_scope : bool
        Whether the run analysed it: only then the counts are complete.
    """

    id: str
    name: str
    class_name: str
    area_mm2: float | None
    counts: dict[str, int]
    in_scope: bool


@dataclass(frozen=True)
class ImageNumbers:
    """One image after a run.

    Parameters
    ----------
    entry_id, name
        Of the entry.
    run : str
        Name of the run whose nuclei these are.
    status : str
        ``done``, ``incomplete``, ``failed``, ``staged`` or ``skipped``: how the image ended last.
        When it failed or was skipped, the numbers are still those of the run before.
    problem : str
        What went wrong.
    counts : dict of str to int
        All detections in the image by class, also those that people changed or drew.
    tissue_mm2 : float
        Area that was analysed.
    areas : list of AreaNumbers
        Annotations.
    dab : dict of str to list of int
        Histogram of mean DAB densities by class as the run found them.
    report : dict of str to int
        What was added, replaced, kept.
    warnings : list of str
        What deserves a second look.
    facts : dict
        Size, pixel size and its source, tiles.
    description : dict
        All that is needed to open the image again.
    found : dict of str to int
        What the run found, before anybody's changes.
    digest : str
        Of the ids and classes found: equal for equal nuclei.
    data : DataState
        Of data.qpdata as it was left.
    """

    entry_id: int
    name: str
    run: str
    status: str
    problem: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    tissue_mm2: float = 0.0
    areas: list[AreaNumbers] = field(default_factory=list)
    dab: dict[str, list[int]] = field(default_factory=dict)
    report: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    data: DataState = field(default_factory=DataState)

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        with whole_file(path) as partial:
            partial.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))


def read_numbers(path: Path) -> ImageNumbers | None:
    """Read what `ImageNumbers.save` wrote; None when it is missing or of another version."""
    try:
        item = orjson.loads(path.read_bytes())
        item["areas"] = [AreaNumbers(**one) for one in item["areas"]]
        item["data"] = noted_state(item["data"])
        # What another version noted besides is no matter.
        known = [one.name for one in fields(ImageNumbers) if one.name in item]
        return ImageNumbers(**{name: item[name] for name in known})
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError):
        return None


def area_numbers(held: Held, in_scope: Sequence[str]) -> list[AreaNumbers]:
    """Give the numbers of all annotations of an image as QuPath counts them."""
    return [
        AreaNumbers(
            id=one.id,
            name=one.name,
            class_name=one.class_name,
            area_mm2=one.area_mm2 if one.area_mm2 == one.area_mm2 else None,
            counts=one.counts,
            in_scope=one.id in in_scope,
        )
        for one in held.areas
    ]
