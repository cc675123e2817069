"""Tables for people: a row is a dict, words stand left, numbers right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from nucliseg_qp.cli.show import UNKNOWN, printable
from nucliseg_qp.quantify.scores import GRADES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nucliseg_qp.batch import ImageOutcome
    from nucliseg_qp.demo import DemoLine
    from nucliseg_qp.doctor import Check
    from nucliseg_qp.qupath.scripts import Script
    from nucliseg_qp.training.convert import ConvertReport

__all__ = [
    "check_table",
    "demo_table",
    "grid",
    "outcome_table",
    "script_table",
    "split_table",
]

_NUMBER = re.compile(rf"[-+]?[\d,.]+|{UNKNOWN}|unknown|")
_CHECK_STYLES = {"ok": "", "warn": "magenta", "fail": "bold red"}


def grid(rows: Sequence[Mapping[str, object]]) -> Table:
    """Give a table whose headings are the keys of the first row.

    Whole numbers get commas and other numbers three decimals. A column of numbers stays in one
    piece however narrow the terminal is; words are folded.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    lines = [[_cell(value) for value in row.values()] for row in rows]
    for place, title in enumerate(rows[0] if rows else ()):
        cells = [line[place].plain for line in lines]
        if place and all(map(_NUMBER.fullmatch, cells)):
            table.add_column(title, justify="right", min_width=max(map(len, cells)))
        else:
            table.add_column(title, overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    if value is None or (isinstance(value, float) and value != value):
        return Text(UNKNOWN)
    if isinstance(value, float):
        return Text(f"{value:.3f}")
    return Text(f"{value:,}" if isinstance(value, int) else printable(str(value)))


def outcome_table(outcomes: Sequence[ImageOutcome]) -> Table:
    """Give the table of a run: an image a line."""
    names = sorted({name for outcome in outcomes for name in outcome.counts}, key=_class_place)
    return grid([_outcome_row(outcome, names) for outcome in outcomes])


def _class_place(name: str) -> tuple[int, str]:
    known = ("Negative", "Positive", *GRADES)
    return known.index(name) if name in known else len(known), name


def _outcome_row(outcome: ImageOutcome, names: Sequence[str]) -> dict[str, object]:
    known = outcome.status != "failed"
    return {
        "image": outcome.path.name,
        "nuclei": outcome.nuclei if known else None,
        **{name: outcome.counts[name] if known else None for name in names},
        "positive %": _percent(outcome.row()["Positive %"]),
        "tissue mm²": outcome.tissue_mm2,
        "seconds": f"{outcome.seconds:.1f}",
        "status": outcome.status,
    }


def _percent(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) and value == value else UNKNOWN


def demo_table(lines: Sequence[DemoLine]) -> Table:
    """Give the table of the demonstration: what was found beside the truth."""
    return grid(
        [
            {
                "image": one.image,
                "nuclei": one.nuclei,
                "truth": "unknown" if one.true_nuclei is None else one.true_nuclei,
                "positive %": _percent(one.positive_percent),
                "truth %": "unknown"
                if one.true_positive_percent is None
                else _percent(one.true_positive_percent),
            }
            for one in lines
        ]
    )


def check_table(checks: Sequence[Check]) -> Table:
    """Give the table of the doctor."""
    return grid(
        [
            {
                "what": one.name,
                "status": Text(one.status, style=_CHECK_STYLES[one.status]),
                "seen": one.seen,
                "what to do": one.fix,
            }
            for one in checks
        ]
    )


def script_table(scripts: Sequence[Script]) -> Table:
    """Give the table of the scripts for QuPath."""
    return grid(
        [
            {"script": one.name.removesuffix(".groovy"), "what it does": one.description}
            for one in scripts
        ]
    )


def split_table(report: ConvertReport) -> Table:
    """Give the table of a conversion: a row a split."""
    return grid(
        [
            {
                "split": split,
                "slides or patients": row["groups"],
                "tiles": row["tiles"],
                "nuclei": row["nuclei"],
            }
            for split, row in report.splits.items()
        ]
    )
