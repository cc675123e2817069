"""The record of a run: everything needed to repeat it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.outputs import whole_file
from nucliseg_qp.provenance import engine_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.projects.job import EntryOutcome
    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["begin_run", "end_run", "last_run", "read_run"]


def begin_run(folder: ProjectFolder, engine: Engine, analysis: str, scope: str) -> str:
    """Give the name of a run: the one that was cut off when it asked for the same, or a new one.

    Raises
    ------
    OutputError
        When its record cannot be written.
    """
    cut_off = last_run(folder)
    if cut_off and cut_off["analysis"] == analysis and not cut_off["finished"]:
        name: str = cut_off["run"]
        return name
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
    return name


def end_run(folder: ProjectFolder, name: str, outcomes: Sequence[EntryOutcome]) -> None:
    """Note how the images of a run ended.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    record = read_run(folder.run(name))
    if record is None:
        return
    if not record["images"] and all(one.earlier for one in outcomes):
        # There was nothing to do.
        folder.run(name).unlink()
        return
    record["finished"] = all(one.status in ("done", "skipped") for one in outcomes)
    record["images"] = [
        {
            "entry_id": one.entry_id,
            "name": str(one.path),
            "status": one.status,
            "problem": one.problem,
            "earlier": one.earlier,
            "counts": dict(one.counts),
            "report": one.report,
            "seconds": round(one.seconds, 3),
        }
        for one in outcomes
    ]
    _write(folder.run(name), record)


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
