"""``nucliseg-qp report``: the numbers of a project, as tables and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.cli.options import AsJson

__all__ = ["report"]


def report(
    project: Path,
    /,
    *,
    refresh: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> int:
    """Write the numbers of a project that was annotated: CSV, Parquet and one HTML page.

    Example: `nucliseg-qp report ki67_project --refresh`

    Parameters
    ----------
    project
        project.qpproj or its folder.
    refresh
        Count again, through QuPath, in images that were saved since. Exits with 1 when one of
        them cannot be read.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.show_project import warn_of_version
    from nucliseg_qp.projects.recount import recount
    from nucliseg_qp.projects.selection import open_project, project_root
    from nucliseg_qp.report import project_rows, read_images, write_report

    root = project_root(project) or project
    opened = open_project(root)
    warn_of_version(opened)
    problems: tuple[str, ...] = ()
    if refresh:
        again = recount(root)
        problems = again.problems
        show.note(f"{again.counted} images counted again")
    page = write_report(root)
    rows = project_rows(read_images(opened))
    answer(as_json, {"report": page, **rows, "problems": problems}, str(page))
    for text in problems:
        show.error(text)
    return int(bool(problems))
