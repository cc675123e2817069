"""``nucliseg-qp reproduce``: a run again, from its own record."""

from __future__ import annotations

from pathlib import Path

from nucliseg_qp.cli.options import AsJson

__all__ = ["reproduce"]


def reproduce(record: Path, /, *, as_json: AsJson = False) -> int:
    """Repeat a run from its record and compare the nuclei.

    Example: `nucliseg-qp reproduce ki67_project`

    Nothing is written. Exits with 1 when an image gives other nuclei.

    Parameters
    ----------
    record
        A project (its last run), a file of its nucliseg/runs, or the run.json of detect.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import BatchView
    from nucliseg_qp.cli.show_project import repeat_table
    from nucliseg_qp.projects.reproduce import open_record

    repetition = open_record(record)
    for text in repetition.warnings:
        show.warn(text)
    show.engine_line(repetition.engine)
    with BatchView(len(repetition.images)) as view:
        repeated = repetition.repeat(view)
    content = {"images": repeated, "warnings": repetition.warnings}
    answer(as_json, content, repeat_table(repeated))
    return int(not all(one.is_same for one in repeated))
