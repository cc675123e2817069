"""``nucliseg-qp annotate``: images in, a QuPath project out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nucliseg_qp.cli.options import Config, DryRun, Images, RegionText, SlideMpp, Within
from nucliseg_qp.config import Settings

__all__ = ["annotate"]


def annotate(
    images: Images,
    /,
    *,
    project: Annotated[Path, Parameter(name=("--project", "-o"))],
    writer: Literal["auto", "paquo", "files"] = "auto",
    slide_mpp: SlideMpp = None,
    region: RegionText = None,
    within: Within = None,
    config: Config = None,
    dry_run: DryRun = False,
    settings: Settings | None = None,
) -> int:
    """Find nuclei and put them into a QuPath project as classified detections.

    Example: `nucliseg-qp annotate slides/*.svs --project ki67_project`

    Images that are not in the project are added. Nuclei of an earlier run are replaced, except
    those that somebody reclassified, locked or redrew.

    Parameters
    ----------
    images
        Whole-slide images, TIFF, OME-TIFF, PNG or JPEG; 8-bit RGB brightfield.
    project
        Folder of the project; made if it does not exist.
    writer
        paquo writes through an installed QuPath; files writes a folder that QuPath opens, with a
        script that imports the nuclei; auto takes paquo where QuPath is found.
    """
    from nucliseg_qp.annotate import annotate_images
    from nucliseg_qp.batch import named_images
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.jobs import open_job, plan_lines, worst_code
    from nucliseg_qp.qupath.install import choose_writer

    images = list(named_images(images).values())
    chosen = choose_writer(writer)
    job = open_job(settings, config, slide_mpp, region, within)
    if dry_run:
        for line in plan_lines(images, job):
            show.result(line)
        return 0
    show.engine_line(job.engine)
    with show.BatchView(len(images)) as view:
        outcomes = annotate_images(images, project, job, chosen, view)
    show.result(show.outcome_table(outcomes))
    if any(outcome.status == "done" for outcome in outcomes):
        show.note(show.project_line(project, chosen))
    return worst_code(outcomes)
