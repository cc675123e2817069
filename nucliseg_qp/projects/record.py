"""The record of a run: everything needed to repeat it."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.outputs import whole_file
from nucliseg_qp.projects.job import EntryOutcome
from nucliseg_qp.projects.journal import Journal
from nucliseg_qp.projects.numbers import read_numbers
from nucliseg_qp.provenance import engine_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.projects.journal import Record
    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["Begun", "begin_run", "end_run", "last_run", "read_run"]


@dataclass(frozen=True)
class Begun:
    """A run that goes on.

    Parameters
    ----------
    name : str
        Of the run.
    is_new : bool
        Whether it begins now, and was not cut off before.
    """

    name: str
    is_new: bool


def begin_run(folder: ProjectFolder, engine: Engine, analysis: str, scope: str) -> Begun:
    """Begin a run, or go on with the one that was cut off when it asked for the same.

    Raises
    ------
    OutputError
        When its record cannot be written.
    """
    cut_off = last_run(folder)
    if cut_off and cut_off["analysis"] == analysis and not cut_off["finished"]:
        return Begun(cut_off["run"], is_new=False)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    record = {
        "run": name,
        **engine_record(engine),
        "scope": scope,
        "analysis": analysis,
        "finished": False,
        "images": [],
    }
    _write(folder.run(name), record)
    return Begun(name, is_new=True)


def end_run(folder: ProjectFolder, run: Begun, outcomes: Sequence[EntryOutcome]) -> None:
    """Note how the images of a run ended, beside those of the call that was cut off.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    record = read_run(folder.run(run.name))
    if record is None:
        return
    fresh = {one.entry_id for one in outcomes if not one.earlier}
    if run.is_new and not fresh:
        # There was nothing to do.
        folder.run(run.name).unlink()
        return
    rows = {row["entry_id"]: row for row in record["images"]}
    for ended in Journal(folder.journal).of_run(run.name):
        told = rows.get(ended.entry_id, {}).get("status") == ended.status
        if ended.entry_id not in fresh and not told:
            rows[ended.entry_id] = _row_of_cut_off(folder, ended)
    if fresh:
        for one in outcomes:
            # What this very run did before is told better by its own row.
            if not (one.earlier and one.entry_id in rows):
                rows[one.entry_id] = _row(one)
        record["finished"] = all(row["status"] in ("done", "skipped") for row in rows.values())
    record["images"] = list(rows.values())
    _write(folder.run(run.name), record)


def _row(outcome: EntryOutcome) -> dict[str, Any]:
    return {
        "entry_id": outcome.entry_id,
        "name": str(outcome.path),
        "status": outcome.status,
        "problem": outcome.problem,
        "earlier": outcome.earlier,
        "counts": dict(outcome.counts),
        "report": outcome.report,
        "seconds": round(outcome.seconds, 3),
    }


def _row_of_cut_off(folder: ProjectFolder, ended: Record) -> dict[str, Any]:
    """Give the row of an image that the call that was cut off had ended; its time is not known."""
    numbers = read_numbers(folder.result(ended.entry_id))
    name = numbers.name if numbers else ""
    outcome = EntryOutcome(
        Path(name or str(ended.entry_id)), problem=ended.problem, entry_id=ended.entry_id
    )
    if numbers is not None and numbers.run == ended.run:
        outcome.counts, outcome.report = Counter(numbers.counts), numbers.report
    return {**_row(outcome), "status": ended.status}


def last_run(folder: ProjectFolder) -> dict[str, Any] | None:
    """Give the record of the run that began last, None when there is none."""
    paths = sorted(folder.run("x").parent.glob("*.json"))
    return read_run(paths[-1]) if paths else None


def read_run(path: Path) -> dict[str, Any] | None:
    """Read the record of a run; None when it is missing or damaged."""
    try:
        record: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return record if isinstance(record, dict) and "analysis" in record else None


def _write(path: Path, record: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
