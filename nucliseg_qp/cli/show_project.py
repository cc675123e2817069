"""Tables about whole projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.cli import show
from nucliseg_qp.cli.tables import grid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from nucliseg_qp.projects.job import EntryOutcome
    from nucliseg_qp.projects.plan import PlannedImage
    from nucliseg_qp.projects.relink import Move
    from nucliseg_qp.projects.reproduce import Repeated
    from nucliseg_qp.qupath.project_file import ProjectFile

__all__ = ["merge_lines", "move_table", "plan_table", "repeat_table", "warn_of_version"]


def merge_lines(outcomes: Sequence[EntryOutcome]) -> Iterator[str]:
    """Tell what became of nuclei that were there, and which images were done before."""
    earlier = sum(outcome.earlier for outcome in outcomes)
    if earlier:
        yield f"{earlier} of {len(outcomes)} images were done before (--again does them anew)"
    fresh = [outcome.report for outcome in outcomes if not outcome.earlier and outcome.report]
    if not fresh:
        return
    total = {
        name: sum(report.get(name, 0) for report in fresh)
        for name in ("added", "replaced", "reclassified", "moved", "locked", "drawn", "deleted")
    }
    yield (
        f"{total['added']:,} nuclei written, {total['replaced']:,} of an earlier run replaced; "
        f"kept as people left them: {total['reclassified']} reclassified, {total['moved']} moved "
        f"or redrawn, {total['locked']} locked or reviewed, {total['drawn']} added, "
        f"{total['deleted']} deleted"
    )


def plan_table(planned: Sequence[PlannedImage]) -> Table:
    """Give the table of what a run would do."""
    return grid(
        [
            {
                "image": one.name,
                "#": one.entry_id,
                "areas": None if one.problem else one.areas,
                "tissue mm²": None if one.problem else one.area_mm2,
                "tiles": None if one.problem else one.windows,
                "would replace": one.edits.get("untouched", 0),
                "would keep": one.by_hand,
            }
            for one in planned
        ]
    )


def warn_of_version(project: ProjectFile) -> None:
    """Tell in one line when a project is of a version of QuPath that nobody tested."""
    if project.doubt:
        show.warn(project.doubt)


def move_table(moves: Sequence[Move]) -> Table:
    """Give the table of where images were and are."""
    return grid(
        [{"image": one.name, "was": one.old, "is": one.new, "found by": one.how} for one in moves]
    )


def repeat_table(repeated: Sequence[Repeated]) -> Table:
    """Give the table of a run and its repetition."""
    return grid(
        [
            {
                "image": one.name,
                "nuclei then": one.before,
                "nuclei now": one.now,
                "result": one.verdict,
            }
            for one in repeated
        ]
    )
