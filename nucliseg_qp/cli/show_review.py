"""What the verbs of `review` show: tables, and what a person should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.cli.tables import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from nucliseg_qp.review.agreement import Agreement
    from nucliseg_qp.review.apply import Applied
    from nucliseg_qp.review.calibrate import Calibration
    from nucliseg_qp.review.compare import Comparison, Conflict
    from nucliseg_qp.review.finetune import FineTuned
    from nucliseg_qp.review.folder import Review
    from nucliseg_qp.review.report import AgainstEngine, WorthANucleus

__all__ = [
    "LISTED",
    "applied_table",
    "calibration_notes",
    "calibration_table",
    "collected_rows",
    "conflict_table",
    "confusion_table",
    "engine_table",
    "next_table",
    "people_table",
    "tuned_table",
]

LISTED = 20
"""Rows of a long list that a person is shown; all of them are in the file."""


def collected_rows(found: Review) -> list[dict[str, object]]:
    """Give what was decided, a row an image."""
    rows: list[dict[str, object]] = []
    for one in found.images:
        looked = len(one) - one.counts["added"]
        left = one.nuclei_of_run - looked
        rows.append(
            {"image": one.name, **one.counts, "areas": len(one.areas), "not looked at": left}
        )
    return rows


def calibration_table(found: Calibration) -> Table:
    """Give the figures before and after."""
    return grid(
        [
            {
                "palette": name,
                "nuclei": one.nuclei,
                "accuracy": one.accuracy,
                "kappa": one.kappa,
                "positive % off": one.positive_error,
                "H-score off": one.h_error,
            }
            for name, one in ((found.before.name, found.old), (found.palette.name, found.new))
        ]
    )


def confusion_table(found: Agreement) -> Table:
    """Give the confusion matrix: rows are the person's classes."""
    rows: list[dict[str, object]] = [
        {"person \\ palette": name, **dict(zip(found.names, counts, strict=True))}
        for name, counts in zip(found.names, found.confusion, strict=True)
    ]
    return grid(rows)


def calibration_notes(found: Calibration) -> list[str]:
    """Give what a person should know before the palette is used."""
    notes = []
    if found.held_out == "nuclei":
        notes.append("only one slide: judged on nuclei of the same slide, which flatters")
    if not found.changed:
        notes.append("nothing that was tried beats the old rule: the new palette is the old one")
    if found.new.accuracy < found.old.accuracy:
        notes.append("on held-out slides the new palette is worse: look before you use it")
    if found.left_out:
        notes.append(f"{found.left_out} nuclei of other classes or without measurements left out")
    return notes


def applied_table(done: Sequence[Applied]) -> Table:
    """Give what became of each image."""
    return grid(
        [
            {
                "image": one.image,
                "given a class": one.given,
                "changed": one.changed,
                "kept as people left them": one.kept,
                "status": "failed" if one.problem else "done",
            }
            for one in done
        ]
    )


def tuned_table(found: FineTuned) -> Table:
    """Give F1 before and after."""
    return grid(
        [
            {"data": name, "F1 before": before, "F1 after": found.after[name]}
            for name, before in found.before.items()
        ]
    )


def engine_table(rows: Sequence[AgainstEngine]) -> Table:
    """Give each review against the engine."""
    return grid(
        [
            {
                "reviewer": one.reviewer,
                "collected": one.collected,
                "looked at": one.looked_at,
                "not": one.not_looked_at,
                "class accuracy": one.classes.accuracy,
                "kappa": one.classes.kappa,
                "precision": one.precision,
                "recall": one.recall,
            }
            for one in rows
        ]
    )


def people_table(rows: Sequence[Comparison]) -> Table:
    """Give each two reviews."""
    return grid(
        [
            {
                "reviewers": f"{one.first}, {one.second}",
                "both": one.common,
                "agreed": one.agreed,
                "conflicts": len(one.conflicts),
                "only first": one.only_first,
                "only second": one.only_second,
                "class accuracy": one.classes.accuracy,
                "kappa": one.classes.kappa,
            }
            for one in rows
        ]
    )


def conflict_table(rows: Sequence[Conflict]) -> Table:
    """Give the first conflicts."""
    return grid(
        [
            {
                "image": one.image,
                "nucleus": one.id[:8],
                "x": round(one.x),
                "y": round(one.y),
                "first": one.first,
                "second": one.second,
            }
            for one in rows[:LISTED]
        ]
    )


def next_table(rows: Sequence[WorthANucleus]) -> Table:
    """Give the nuclei most worth a look."""
    return grid(
        [
            {
                "image": one.image,
                "x": round(one.x),
                "y": round(one.y),
                "class": one.class_name,
                "margin": one.margin,
                "doubt": one.doubt,
                "worth": one.worth,
            }
            for one in rows[:LISTED]
        ]
    )
