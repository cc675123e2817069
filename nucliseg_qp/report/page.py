"""One HTML file that holds everything: it can be filed, mailed and opened without a network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.projects.entry import DAB_BINS
from nucliseg_qp.qupath.data_file import data_since
from nucliseg_qp.report.figures import class_bar, dab_histogram, thumbnail
from nucliseg_qp.report.outliers import find_outliers
from nucliseg_qp.report.tables import annotation_rows, image_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.projects.numbers import ImageNumbers
    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["write_page"]

FEW_NUCLEI = 200
"""With fewer scored nuclei a percentage is uncertain by several points."""


def write_page(
    path: Path,
    folder: ProjectFolder,
    images: Sequence[ImageNumbers],
    run: dict[str, Any] | None,
) -> None:
    """Write the page.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("nucliseg_qp.report", "."), autoescape=True, trim_blocks=True
    )
    environment.filters["shown"] = _shown
    rows, colours = image_rows(images), _colours(folder)
    text = environment.get_template("page.html.jinja").render(
        title=folder.root.resolve().name,
        version=__version__,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        images=[_image(folder, one, colours) for one in images],
        tables=[
            ("Images", "images", rows, ("run", "entry")),
            ("Annotations", "annotations", annotation_rows(images), ("id", "entry")),
        ],
        warnings=_warnings(folder, images),
        outliers=find_outliers(rows),
        colours=colours,
        all_dab=dab_histogram(_sum_dab(images), colours, 640, 160),
        run=run,
        settings="" if run is None else orjson.dumps(run, option=orjson.OPT_INDENT_2).decode(),
    )
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _image(folder: ProjectFolder, one: ImageNumbers, colours: dict[str, str]) -> dict[str, Any]:
    [row] = image_rows([one])
    return {
        "name": one.name,
        "status": one.status,
        "row": row,
        "thumbnail": thumbnail(folder.thumbnail(one.entry_id)),
        "bar": class_bar(one.counts, colours),
        "dab": dab_histogram(one.dab, colours, 160, 48),
    }


def _sum_dab(images: Sequence[ImageNumbers]) -> dict[str, list[int]]:
    total: dict[str, list[int]] = {}
    for one in images:
        for name, bins in one.dab.items():
            before = total.get(name, [0] * (len(DAB_BINS) - 1))
            total[name] = [a + b for a, b in zip(before, bins, strict=True)]
    return total


def _warnings(folder: ProjectFolder, images: Sequence[ImageNumbers]) -> list[str]:
    found = []
    for one in images:
        found += one.warnings
        if one.problem:
            found.append(one.problem)
        if one.status == "done" and data_since(one.data, folder.data(one.entry_id)) == "changed":
            found.append(
                f"{one.name} was saved after its nuclei were counted: run nucliseg-qp report "
                "--refresh"
            )
        nuclei = sum(one.counts.values())
        if one.status == "done" and nuclei < FEW_NUCLEI:
            found.append(f"{one.name} holds {nuclei} nuclei: few for a percentage")
    return found


def _colours(folder: ProjectFolder) -> dict[str, str]:
    try:
        listed = orjson.loads(folder.classes.read_bytes())["pathClasses"]
        return {one["name"]: f"#{one['color'] & 0xFFFFFF:06x}" for one in listed}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return {}


def _shown(value: object) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
