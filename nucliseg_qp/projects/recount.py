"""Numbers of images that were saved after the run, counted again by QuPath."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nucliseg_qp.errors import NucliSegError, OutputError
from nucliseg_qp.projects.numbers import ImageNumbers, area_numbers, read_numbers
from nucliseg_qp.projects.selection import open_project
from nucliseg_qp.qupath.data_file import data_since
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.worker import QuPathWorker

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["Recount", "recount"]


@dataclass(frozen=True)
class Recount:
    """What came of counting again.

    Parameters
    ----------
    counted : int
        Number of images that were counted.
    problems : tuple of str
        Why the others could not be; their numbers are as they were.
    """

    counted: int
    problems: tuple[str, ...]


def recount(root: Path) -> Recount:
    """Count again in images that changed since their numbers were taken.

    Raises
    ------
    QuPathError
        When the project cannot be read, another run works on it, or there is no QuPath.
    OutputError
        When the numbers cannot be written.
    """
    project, counted, problems = open_project(root), 0, []
    with locked(project.folder.run_lock), QuPathWorker(root) as worker:
        for entry in project.entries:
            numbers = _outdated(project.folder, entry.id)
            if numbers is None:
                continue
            try:
                _count(worker, numbers).save(project.folder.result(entry.id))
                counted += 1
            except OutputError:
                raise
            except NucliSegError as error:
                problems.append(str(error))
    return Recount(counted, tuple(problems))


def _outdated(folder: ProjectFolder, entry_id: int) -> ImageNumbers | None:
    """Give the numbers of an image with nuclei of ours when they are not those of now."""
    numbers = read_numbers(folder.result(entry_id))
    if numbers is None or numbers.status == "staged" or not folder.manifest(entry_id).is_file():
        return None
    return None if data_since(numbers.data, folder.data(entry_id)) == "same" else numbers


def _count(worker: QuPathWorker, numbers: ImageNumbers) -> ImageNumbers:
    held = worker.read(numbers.entry_id)
    scope = [one.id for one in numbers.areas if one.in_scope]
    areas = area_numbers(held, scope)
    return replace(numbers, counts=held.counts, areas=areas, data=held.state)
