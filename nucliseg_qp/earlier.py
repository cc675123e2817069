"""Records of earlier runs in an output folder: each stays as long as a file that it tells about."""

from __future__ import annotations

import csv
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from nucliseg_qp.outputs import image_stem, move_file

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from nucliseg_qp.outputs import OutputFolder

__all__ = ["MADE_NOW", "drop_records", "set_records_aside"]

MADE_NOW = "this run"
"""What a summary says of the files that its own run made."""

_RECORD = re.compile(r"(?:summary|run)(?:\.(\d+))?\.(?:csv|json)")


def set_records_aside(out: OutputFolder) -> None:
    """Move summary and run of the run before to ``earlier``, beside those that lie there.

    Raises
    ------
    OutputError
        When they cannot be moved.
    """
    number = 1 + max(_numbers(out.earlier), default=0)
    for path, target in zip((out.summary, out.run), _records(out.earlier, number), strict=True):
        if path.is_file():
            move_file(path, target)


def drop_records(out: OutputFolder, done: Container[str]) -> None:
    """Remove the records in ``earlier`` that nobody needs any more.

    Parameters
    ----------
    out : OutputFolder
        Where a run just ended.
    done : container of str
        Stems of the images whose files are of that run.
    """
    told: set[str] = set()
    for number in sorted(_numbers(out.earlier), reverse=True):
        paths = _records(out.earlier, number)
        news = {stem for stem in _stems(paths[0]) - told if _is_earlier(out, stem, done)}
        told |= news
        for path in [] if news else paths:
            with suppress(OSError):
                path.unlink()


def _numbers(folder: OutputFolder) -> set[int]:
    if not folder.root.is_dir():
        return set()
    found = (_RECORD.fullmatch(path.name) for path in folder.root.iterdir())
    return {int(one[1] or 1) for one in found if one}


def _records(folder: OutputFolder, number: int) -> tuple[Path, Path]:
    if number == 1:
        return folder.summary, folder.run
    return folder.root / f"summary.{number}.csv", folder.root / f"run.{number}.json"


def _stems(summary: Path) -> set[str]:
    """Give the images whose files a run made."""
    try:
        with summary.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()
    return {image_stem(row["image"]) for row in rows if row.get("files") == MADE_NOW}


def _is_earlier(out: OutputFolder, stem: str, done: Container[str]) -> bool:
    return _is_there(out.earlier, stem) or (stem not in done and _is_there(out, stem))


def _is_there(out: OutputFolder, stem: str) -> bool:
    return any(map(os.path.isfile, (out.table(stem), out.preview(stem), out.nuclei(stem))))
