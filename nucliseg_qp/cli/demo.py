"""``nucliseg-qp demo``: see it work, without an image of one's own."""

from __future__ import annotations

from pathlib import Path

from nucliseg_qp.cli.options import AsJson

__all__ = ["demo"]

IMAGES = 2
"""Each is analysed twice: for files, and for a project."""


def demo(folder: Path = Path("nucliseg-qp-demo"), /, *, as_json: AsJson = False) -> int:
    """Find nuclei in a real and a synthetic image and make a QuPath project of them.

    Example: `nucliseg-qp demo`

    Needs no network and no QuPath; where QuPath is found, the project is written through it.

    Parameters
    ----------
    folder
        Where images, results and project go.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.jobs import worst_code
    from nucliseg_qp.cli.progress import BatchView
    from nucliseg_qp.cli.tables import demo_table
    from nucliseg_qp.demo import run_demo

    with BatchView(2 * IMAGES) as view:
        made = run_demo(folder, view)
    content = {"images": made.lines, "pictures": made.pictures, "project": made.project}
    answer(as_json, content, demo_table(made.lines))
    for picture in made.pictures:
        show.note(f"outlines: {picture}")
    show.note(show.project_line(made.project, made.writer))
    return worst_code(made.outcomes)
