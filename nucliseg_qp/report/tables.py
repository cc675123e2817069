"""A row an image, and a row an annotation: counts, and scores as QuPath computes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nucliseg_qp.outputs import whole_file
from nucliseg_qp.quantify.scores import GRADES, last_part, score_counts
from nucliseg_qp.quantify.table import write_summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nucliseg_qp.projects.numbers import ImageNumbers
    from nucliseg_qp.quantify.table import SummaryRow

__all__ = ["annotation_rows", "image_rows", "write_rows"]


def image_rows(images: Sequence[ImageNumbers]) -> list[SummaryRow]:
    """Give a row an image; only one that is done has scores."""
    names = _class_names(images)
    return [
        {
            "image": one.name,
            "entry": one.entry_id,
            "status": one.status,
            **_numbers(one.counts, names, one.tissue_mm2 or None, one.status),
            "reclassified": one.report.get("reclassified", 0),
            "moved": one.report.get("moved", 0),
            "locked": one.report.get("locked", 0),
            "drawn": one.report.get("drawn", 0),
            "deleted": one.report.get("deleted", 0),
            "mpp": one.facts.get("mpp"),
            "run": one.run,
            "problem": one.problem,
        }
        for one in images
    ]


def annotation_rows(images: Sequence[ImageNumbers]) -> list[SummaryRow]:
    """Give a row an annotation; one the run did not analyse has no scores."""
    names = _class_names(images)
    return [
        {
            "image": image.name,
            "entry": image.entry_id,
            "annotation": area.name,
            "class": area.class_name,
            "id": area.id,
            "analysed": "yes" if area.in_scope else "no",
            **_numbers(
                area.counts, names, area.area_mm2, image.status if area.in_scope else "skipped"
            ),
        }
        for image in images
        for area in image.areas
    ]


def write_rows(csv: Path, parquet: Path, rows: Sequence[SummaryRow]) -> None:
    """Write rows as CSV and as Parquet.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    write_summary(csv, rows)
    columns = list(rows[0]) if rows else ["image"]
    table = pa.table({name: [_plain(row[name]) for row in rows] for name in columns})
    with whole_file(parquet) as partial:
        pq.write_table(table, partial)


def _plain(value: str | float | None) -> str | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _class_names(images: Sequence[ImageNumbers]) -> list[str]:
    found = dict.fromkeys(name for one in images for name in [*one.found, *sorted(one.counts)])
    found.update(dict.fromkeys(n for i in images for a in i.areas for n in sorted(a.counts)))
    return [name for name in found if name]


def _numbers(
    counts: Mapping[str, int], names: Sequence[str], area_mm2: float | None, status: str
) -> SummaryRow:
    nuclei, done = sum(counts.values()), status == "done"
    scores = score_counts(counts, area_mm2)
    graded = any(last_part(name) in GRADES for name in names)
    return {
        "nuclei": nuclei,
        **{f"Num {name}": counts.get(name, 0) for name in names},
        "Num unclassified": counts.get("", 0),
        "Positive %": scores.positive_percent if done else None,
        "H-score": scores.h_score if done and graded else None,
        "Allred proportion": scores.allred_proportion if done else None,
        "Allred intensity": scores.allred_intensity if done else None,
        "Allred score": scores.allred_score if done else None,
        "Num Positive per mm^2": scores.positive_per_mm2 if done else None,
        "area_mm2": area_mm2,
        "nuclei_per_mm2": nuclei / area_mm2 if done and area_mm2 else None,
    }
