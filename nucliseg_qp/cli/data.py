"""``nucliseg-qp data``: training data from annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from nucliseg_qp.cli.options import AsJson
from nucliseg_qp.training.convert_settings import ConvertSettings

__all__ = ["data"]

data = App(name="data", help="Make training data from annotations.")


@data.command
def convert(
    sources: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    kind: Annotated[
        Literal["endonuke", "points", "masks", "geojson", "qupath"] | None,
        Parameter(name="--from"),
    ] = None,
    images: Path | None = None,
    areas: str | None = None,
    experts: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    as_json: AsJson = False,
    settings: Annotated[ConvertSettings, Parameter(name="*")],
) -> int:
    """Turn annotations into 256 x 256 tiles with keypoints (COCO), split by slide or patient.

    Example: `nucliseg-qp data convert my_project/project.qpproj -o my_data --areas reviewed`

    Reads a QuPath project, GeoJSON, point lists (CSV or points.json), instance masks, and the
    EndoNuke release. Writes `images/`, `train.json`, `validation.json`, `test.json`,
    `splits.json` and `report.json`, which says what was left out and why.

    Parameters
    ----------
    sources
        Files or folders with annotations.
    kind
        Format of the sources; told from what lies there when not given.
    images
        Folder of the images, if they are not beside their annotations.
    areas
        Only annotations with this name or class are areas in which every nucleus is annotated.
    experts
        Of EndoNuke, only these people, such as ptg1 ptg2 ptg3.
    """
    from itertools import chain

    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import CountView
    from nucliseg_qp.cli.tables import split_table
    from nucliseg_qp.convert import each_once, read_source
    from nucliseg_qp.training.convert import convert as make

    read = chain.from_iterable(
        read_source(source, kind, images, experts or (), areas) for source in sources
    )
    with CountView("converting") as view:
        report = make(each_once(read), settings, view.advance)
    answer(as_json, {"out": settings.out, "report": report}, split_table(report))
    for reason, number in report.left_out.items():
        show.note(f"left out: {number:,} {reason}")
    for text in report.notes:
        show.warn(text)
    show.note(
        f"{report.images} images, {report.tiles} tiles, {report.nuclei:,} nuclei in {settings.out}"
    )
    return 0


@data.command
def script() -> int:
    """Print the Groovy script that exports annotated nuclei from a QuPath project.

    Example: `nucliseg-qp data script > export_annotated.groovy`

    Run it in QuPath's script editor with "Run for project"; then `data convert` reads the project.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.qupath.scripts import groovy_source
    from nucliseg_qp.qupath.truth import EXPORT_ANNOTATED

    show.plain(groovy_source(EXPORT_ANNOTATED))
    return 0
