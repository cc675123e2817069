"""Numbers of images that were saved after the run, counted again by QuPath."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nucliseg_qp.projects.numbers import area_numbers, read_numbers
from nucliseg_qp.projects.selection import open_project
from nucliseg_qp.qupath.data_file import data_since
from nucliseg_qp.qupath.worker import QuPathWorker

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["recount"]


def recount(root: Path) -> int:
    """Count again in images that changed since their numbers were taken; give how many.

    Raises
    ------
    QuPathError
        When the project or an image cannot be read.
    OutputError
        When the numbers cannot be written.
    """
    project, counted = open_project(root), 0
    with QuPathWorker(root) as worker:
        for entry in project.entries:
            path = project.folder.result(entry.id)
            numbers = read_numbers(path)
            if numbers is None or numbers.status != "done":
                continue
            if data_since(numbers.data, project.folder.data(entry.id)) == "same":
                continue
            held = worker.read(entry.id)
            scope = [one.id for one in numbers.areas if one.in_scope]
            areas = area_numbers(held, scope)
            replace(numbers, counts=held.counts, areas=areas, data=held.state).save(path)
            counted += 1
    return counted
