"""``nucliseg-qp sample``: small projects with known truth, to try things on."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from nucliseg_qp.cli.options import AsJson

__all__ = ["sample"]

sample = App(name="sample", help="Unpack a small QuPath project with known truth, or list them.")


@sample.command(name="list")
def list_(*, as_json: AsJson = False) -> int:
    """List the sample projects.

    Example: `nucliseg-qp sample list`
    """
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.tables import grid
    from nucliseg_qp.projects.samples import list_samples

    found = list_samples()
    rows = [
        {
            "sample": one.name,
            "images": one.images,
            "MB": f"{one.size_bytes / 1e6:.1f}",
            "what it is": one.description,
        }
        for one in found
    ]
    answer(as_json, {"samples": found}, grid(rows))
    return 0


@sample.command
def copy(name: str, folder: Path | None = None, /, *, as_json: AsJson = False) -> int:
    """Unpack a sample project. QuPath opens it at once, without a run and without a network.

    Example: `nucliseg-qp sample copy er_scores`

    The folder holds images, the project, what to expect, and a README with things to try.

    Parameters
    ----------
    name
        One of `nucliseg-qp sample list`.
    folder
        New or empty folder; one with the name of the sample when left out.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.projects.samples import copy_sample

    project = copy_sample(name, folder or Path(name))
    answer(as_json, {"sample": name, "project": project}, str(project))
    show.note(f"open it in QuPath; {project.parents[1] / 'README.md'} tells what to try")
    return 0
