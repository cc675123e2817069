"""``nucliseg-qp annotate``: images in, a QuPath project out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from nucliseg_qp.cli.options import (
    AsJson,
    Config,
    DryRun,
    Images,
    ProfileFile,
    RegionText,
    SaidSettings,
    SlideMpp,
    WholeProject,
    Within,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nucliseg_qp.batch import ImageOutcome, Job
    from nucliseg_qp.qupath.install import Writer

__all__ = ["annotate"]


def annotate(
    images: Images,
    /,
    *,
    project: Annotated[Path | None, Parameter(name=("--project", "-o"))] = None,
    writer: Literal["auto", "paquo", "files"] = "auto",
    slide_mpp: SlideMpp = None,
    region: RegionText = None,
    within: Within = None,
    config: Config = None,
    profile: ProfileFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    whole: WholeProject | None = None,
    settings: SaidSettings | None = None,
) -> int:
    """Find nuclei and put them into a QuPath project as classified detections.

    Example: `nucliseg-qp annotate slides/*.svs --project ki67_project`

    Example: `nucliseg-qp annotate ki67_project/project.qpproj --scope class:Tumor`

    Given images, those that are not in the project are added. Given a project, its images are
    analysed as QuPath shows them, and a run that was cut off is gone on with. Nuclei of an earlier
    run are replaced, except those that somebody reclassified, moved, redrew, locked, added or left
    in an annotation with the name or class "Reviewed"; those that somebody deleted stay away.

    Parameters
    ----------
    images
        Whole-slide images, TIFF, OME-TIFF, PNG or JPEG; 8-bit RGB brightfield. Or one project:
        its project.qpproj or its folder.
    project
        Folder of the project that images are added to; made if it does not exist.
    writer
        paquo writes through an installed QuPath; files writes a folder that QuPath opens, with a
        script that imports the nuclei; auto takes paquo where QuPath is found.
    """
    from nucliseg_qp.batch import named_images
    from nucliseg_qp.cli import jobs, show
    from nucliseg_qp.cli.annotate_project import annotate_whole, given_project
    from nucliseg_qp.qupath.install import choose_writer

    root = given_project(images, project, (region, within, profile), writer, whole)
    if root is not None or project is None:
        job = jobs.open_job(settings, config, slide_mpp, None, None)
        return annotate_whole(root or Path(), job, whole or WholeProject(), dry_run, as_json)
    images = list(named_images(images).values())
    chosen = choose_writer(writer)
    job = jobs.open_job(settings, config, slide_mpp, region, within, jobs.begin_profile(profile))
    if dry_run:
        return jobs.show_plan(images, job, as_json)
    outcomes = _annotate(images, project, job, chosen)
    jobs.show_outcomes(outcomes, as_json, project=project, writer=chosen)
    if any(outcome.status == "done" for outcome in outcomes):
        show.note(show.project_line(project, chosen))
    jobs.end_profile(profile, job)
    return jobs.worst_code(outcomes)


def _annotate(
    images: list[Path], project: Path, job: Job, writer: Writer
) -> Sequence[ImageOutcome]:
    from nucliseg_qp.annotate import annotate_images
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.progress import BatchView
    from nucliseg_qp.cli.show_project import warn_of_version
    from nucliseg_qp.projects.selection import open_project

    if (project / "project.qpproj").is_file():
        warn_of_version(open_project(project))
    show.engine_line(job.engine)
    with BatchView(len(images)) as view:
        return annotate_images(images, project, job, writer, view)
