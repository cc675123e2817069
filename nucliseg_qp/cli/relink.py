"""``nucliseg-qp relink``: a project whose images moved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.cli.options import AsJson

__all__ = ["relink"]


def relink(
    project: Path,
    /,
    *,
    search: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=False)] = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> int:
    """Mend the paths in a QuPath project that was moved, or whose images were.

    Example: `nucliseg-qp relink ki67_project --search /slides --dry-run`

    Images are looked for where they lay relative to the project, then by name and size. Exits with
    5 while an image is missing.

    Parameters
    ----------
    project
        project.qpproj or its folder.
    search
        Folder to look through, with all below it; may be repeated.
    dry_run
        Show what would be changed, and change nothing.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.show_project import move_table, warn_of_version
    from nucliseg_qp.errors import QuPathError
    from nucliseg_qp.projects.relink import relink_project
    from nucliseg_qp.projects.selection import open_project, project_root

    root = project_root(project) or project
    warn_of_version(open_project(root))
    moves = relink_project(root, search or [], dry_run=dry_run)
    answer(as_json, {"moves": moves}, *([move_table(moves)] if moves else []))
    if not moves:
        show.note("all images are where the project says")
    missing = sum(one.new is None for one in moves)
    if missing:
        show.error(f"{missing} of {len(moves)} images were not found. Name folders with --search.")
    return QuPathError.exit_code if missing else 0
