"""Tables about whole projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from nucliseg_qp.cli.show import outcome_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nucliseg_qp.projects.job import EntryOutcome
    from nucliseg_qp.projects.plan import PlannedImage
    from nucliseg_qp.projects.relink import Move
    from nucliseg_qp.projects.reproduce import Repeated

__all__ = ["entry_table", "merge_lines", "move_table", "plan_table", "repeat_table"]


def entry_table(outcomes: Sequence[EntryOutcome]) -> Table:
    """Give the table of a run over a project: an image a line."""
    return outcome_table(outcomes)


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
        f"or redrawn, {total['locked']} locked, {total['drawn']} added, {total['deleted']} deleted"
    )


def plan_table(planned: Sequence[PlannedImage]) -> Table:
    """Give the table of what a run would do."""
    grid = _table("image", "#", "areas", "tissue mm²", "tiles", "would replace", "would keep")
    for one in planned:
        grid.add_row(
            escape(one.name),
            str(one.entry_id),
            *(("–", "–", "–") if one.problem else _sizes(one)),
            f"{one.edits.get('untouched', 0):,}",
            f"{one.by_hand:,}",
        )
    return grid


def _sizes(one: PlannedImage) -> tuple[str, str, str]:
    return str(one.areas), f"{one.area_mm2:.3f}", f"{one.windows:,}"


def move_table(moves: Sequence[Move]) -> Table:
    """Give the table of where images were and are."""
    grid = _table("image", "was", "is", "found by")
    for one in moves:
        grid.add_row(escape(one.name), escape(str(one.old)), escape(str(one.new or "–")), one.how)
    return grid


def repeat_table(repeated: Sequence[Repeated]) -> Table:
    """Give the table of a run and its repetition."""
    grid = _table("image", "nuclei then", "nuclei now", "result")
    for one in repeated:
        grid.add_row(escape(one.name), str(one.before), str(one.now), escape(one.verdict))
    return grid


def _table(*titles: str) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        grid.add_column(title, overflow="fold")
    return grid
