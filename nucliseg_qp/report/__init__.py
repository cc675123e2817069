"""The numbers of a project that was annotated: tables for programs, one page for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.projects.numbers import read_numbers
from nucliseg_qp.projects.record import last_run
from nucliseg_qp.projects.selection import open_project
from nucliseg_qp.report.page import write_page
from nucliseg_qp.report.tables import annotation_rows, image_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.projects.numbers import ImageNumbers
    from nucliseg_qp.quantify.table import SummaryRow
    from nucliseg_qp.qupath.project_file import ProjectFile

__all__ = ["project_rows", "read_images", "write_report"]


def project_rows(images: Sequence[ImageNumbers]) -> dict[str, list[SummaryRow]]:
    """Give the tables of the report by their names: ``images`` and ``annotations``."""
    return {"images": image_rows(images), "annotations": annotation_rows(images)}


def read_images(project: ProjectFile) -> list[ImageNumbers]:
    """Give the numbers of each image of a project that was analysed."""
    known = [read_numbers(project.folder.result(entry.id)) for entry in project.entries]
    return [one for one in known if one is not None]


def write_report(root: Path) -> Path:
    """Write ``nucliseg/report``: images and annotations as CSV and Parquet, and a page.

    Parameters
    ----------
    root : Path
        Folder of a project that was annotated.

    Returns
    -------
    Path
        The page, which needs no other file.

    Raises
    ------
    QuPathError
        When the project cannot be read.
    OutputError
        When the report cannot be written.
    """
    project = open_project(root)
    folder = project.folder
    images = read_images(project)
    for name, rows in project_rows(images).items():
        write_rows(folder.report(f"{name}.csv"), folder.report(f"{name}.parquet"), rows)
    page = folder.report("report.html")
    write_page(page, folder, images, last_run(folder))
    return page
