"""``nucliseg-qp annotate PROJECT.qpproj``: from options to a run over a whole project."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nucliseg_qp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.batch import Job
    from nucliseg_qp.cli.options import WholeProject
    from nucliseg_qp.projects.job import ProjectJob
    from nucliseg_qp.projects.plan import PlannedImage

__all__ = ["annotate_whole", "given_project"]


def given_project(
    images: Sequence[Path],
    project: Path | None,
    places: tuple[object, ...],
    writer: str,
    whole: WholeProject | None,
) -> Path | None:
    """Give the project that stands where images could stand, None when images do.

    Raises
    ------
    UsageError
        When options contradict each other, or images come without ``--project``.
    """
    from nucliseg_qp.projects.selection import project_root

    whole_project = next(filter(project_root, images), None)
    if project is not None and whole_project is not None:
        raise UsageError(
            f"{whole_project} is a project: it takes no --project",
            "Give images to add, or the project alone.",
        )
    root = project_root(images[0]) if len(images) == 1 and project is None else None
    if root is None and project is None:
        raise UsageError(
            "images need --project", "Give the folder of a project, or one project as the image."
        )
    if root is None and whole is not None:
        raise UsageError(
            "--scope, --image, --metadata, --again, --replace-all, --apply-staged want a project",
            "Give project.qpproj in place of the images.",
        )
    if root is not None and (any(one is not None for one in places) or writer == "files"):
        raise UsageError(
            "a whole project takes no --region, --within, --profile or --writer files",
            "Say where with --scope.",
        )
    return root


def annotate_whole(root: Path, job: Job, whole: WholeProject, dry_run: bool, as_json: bool) -> int:
    """Run over a project and show what became of it; give the exit code."""
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.jobs import show_outcomes, worst_code
    from nucliseg_qp.cli.progress import BatchView
    from nucliseg_qp.cli.show_project import merge_lines, warn_of_version
    from nucliseg_qp.projects.late import apply_staged
    from nucliseg_qp.projects.run import annotate_project
    from nucliseg_qp.projects.selection import choose_entries, open_project
    from nucliseg_qp.report import write_report

    wanted = _project_job(root, job, whole)
    project = open_project(root)
    count = len(choose_entries(project, wanted.selection))
    warn_of_version(project)
    if dry_run:
        _answer_plan(wanted, as_json)
        return 0
    if whole.replace_all and not whole.yes and not _wants_to_lose(wanted):
        return 0
    with BatchView(count) as view:
        if whole.apply_staged:
            outcomes = apply_staged(root, wanted.selection, view)
        else:
            show.engine_line(job.engine)
            outcomes = annotate_project(wanted, view)
    for text in (text for outcome in outcomes for text in outcome.warnings):
        show.warn(text)
    if outcomes and all(outcome.status == "skipped" for outcome in outcomes):
        raise UsageError(
            f"no chosen image has anything for --scope {wanted.scope}",
            "Check the name; upper and lower case differ. The numbers of earlier runs stay.",
        )
    page = write_report(root)
    if outcomes or as_json:
        show_outcomes(outcomes, as_json, project=root, report=page)
    for line in merge_lines(outcomes):
        show.note(line)
    show.note(f"report: {page}")
    return worst_code(outcomes) if outcomes else 0


def _project_job(root: Path, job: Job, whole: WholeProject) -> ProjectJob:
    from nucliseg_qp.projects.job import ProjectJob
    from nucliseg_qp.projects.scope import ProjectScope
    from nucliseg_qp.projects.selection import Selection

    return ProjectJob(
        root=root,
        engine=job.engine,
        scope=ProjectScope.from_text(whole.scope),
        selection=Selection(tuple(whole.image), tuple(whole.metadata)),
        slide_mpp=job.slide_mpp,
        mode="replace-all" if whole.replace_all else "replace",
        again=whole.again,
    )


def _answer_plan(job: ProjectJob, as_json: bool) -> None:
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.show_project import plan_table
    from nucliseg_qp.projects.plan import plan_project

    planned = list(plan_project(job))
    settings = job.engine.settings
    content = {"settings": settings.model_dump(mode="json"), "plan": planned}
    answer(as_json, content, settings.model_dump_json(indent=2), plan_table(planned))
    _warn(planned)


def _wants_to_lose(job: ProjectJob) -> bool:
    """Show what would be replaced; give whether that is nothing, or somebody wants it."""
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.show_project import plan_table
    from nucliseg_qp.projects.plan import plan_project

    planned = list(plan_project(job))
    lost = sum(one.by_hand for one in planned)
    if not lost:
        return True
    question = f"--replace-all loses the work on {lost} nuclei that people changed or drew"
    if not sys.stdin.isatty():
        raise UsageError(question, "Add --yes to do it without being asked.")
    show.result(plan_table(planned))
    _warn(planned)
    show.warn(f"{question}. Type yes to go on:")
    return sys.stdin.readline().strip().lower() == "yes"


def _warn(planned: Sequence[PlannedImage]) -> None:
    from nucliseg_qp.cli import show

    for one in planned:
        for text in [*one.warnings, *([one.problem] if one.problem else [])]:
            show.warn(text)
