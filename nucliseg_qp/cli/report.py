"""``nucliseg-qp report``: the numbers of a project, as tables and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["report"]


def report(project: Path, /, *, refresh: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Write the numbers of a project that was annotated: CSV, Parquet and one HTML page.

    Example: `nucliseg-qp report ki67_project --refresh`

    Parameters
    ----------
    project
        project.qpproj or its folder.
    refresh
        Count again, through QuPath, in images that were saved since.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.projects.recount import recount
    from nucliseg_qp.projects.selection import open_project, project_root
    from nucliseg_qp.report import write_report

    root = project_root(project) or project
    open_project(root)
    if refresh:
        show.note(f"{recount(root)} images counted again")
    show.result(str(write_report(root)))
    return 0
