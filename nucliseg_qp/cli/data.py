"""``nucliseg-qp data``: training data from annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

__all__ = ["data"]

data = App(name="data", help="Make training data from annotations.")


@data.command
def convert(
    sources: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    name: str | None = None,
    kind: Annotated[
        Literal["endonuke", "points", "masks", "geojson", "qupath"] | None,
        Parameter(name="--from"),
    ] = None,
    images: Path | None = None,
    mode: Literal["cut", "resize"] = "cut",
    mpp: float = 0.5,
    slide_mpp: float | None = None,
    image_um: float | None = None,
    tile_px: int = 256,
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    group_by: str = "auto",
    splits: Path | None = None,
    seed: int = 0,
    areas: str | None = None,
    experts: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    allow_empty: Annotated[bool, Parameter(negative=())] = False,
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
    out
        Folder to make.
    name
        Name of the data set; the folder's own when not given.
    kind
        Format of the sources; told from what lies there when not given.
    images
        Folder of the images, if they are not beside their annotations.
    mode
        cut makes tiles at --mpp; resize makes one tile of each image, whatever its resolution.
    mpp
        Pixel size in um of the tiles.
    slide_mpp
        Pixel size in um to assume whatever the images say.
    image_um
        Width of every image in um, instead.
    tile_px
        Side of a tile in pixels.
    shares
        Shares of train, validation and test.
    group_by
        auto, image, a CSV with the columns image and group, or a regular expression that finds
        the slide or patient in an image's name.
    splits
        splits.json of an earlier conversion: slides known there stay where they are.
    seed
        Of the splits.
    areas
        Only annotations with this name or class are areas in which every nucleus is annotated.
    experts
        Of EndoNuke, only these people, such as ptg1 ptg2 ptg3.
    allow_empty
        Images without any nucleus are meant so.
    """
    from itertools import chain

    from nucliseg_qp.cli import show_training as show
    from nucliseg_qp.convert import read_source
    from nucliseg_qp.training.convert import ConvertSettings
    from nucliseg_qp.training.convert import convert as make

    settings = ConvertSettings(
        out=out,
        name=name or out.name,
        mode=mode,
        mpp=mpp,
        tile_px=tile_px,
        shares=shares,
        seed=seed,
        group_by=group_by,
        splits=splits,
        image_mpp=slide_mpp,
        width_um=image_um,
        allow_empty=allow_empty,
    )
    read = chain.from_iterable(
        read_source(source, kind, images, experts or (), areas) for source in sources
    )
    with show.CountView("converting") as view:
        report = make(read, settings, view.advance)
    show.convert_report(report, out)
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
