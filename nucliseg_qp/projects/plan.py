"""What a run over a project would do, before it does anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nucliseg_qp.errors import NucliSegError
from nucliseg_qp.pipeline import Analysis
from nucliseg_qp.projects.entry import open_held
from nucliseg_qp.projects.selection import choose_entries, open_project
from nucliseg_qp.qupath.worker import QuPathWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nucliseg_qp.projects.job import ProjectJob
    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.qupath.held import Held

__all__ = ["BY_HAND", "PlannedImage", "plan_project"]

BY_HAND = ("reclassified", "redrawn", "confirmed", "drawn", "deleted")
"""What people do to nuclei: "redrawn" is also moved, "confirmed" is locked."""


@dataclass(frozen=True)
class PlannedImage:
    """What would be done to one image.

    Parameters
    ----------
    entry_id, name
        Of the entry.
    areas : int
        Annotations that nuclei would go under.
    area_mm2 : float
        Tissue in the scope.
    windows : int
        Windows the network would look at.
    edits : dict of str to int
        Nuclei that are there: ``untouched`` ones would be replaced, those of `BY_HAND` kept.
    problem : str
        Why it could not be done.
    warnings : list of str
        What deserves a second look.
    """

    entry_id: int
    name: str
    areas: int = 0
    area_mm2: float = 0.0
    windows: int = 0
    edits: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def by_hand(self) -> int:
        """Number of nuclei that people changed, drew or deleted."""
        return sum(self.edits.get(name, 0) for name in BY_HAND)


def plan_project(job: ProjectJob) -> Iterator[PlannedImage]:
    """Give what a run would do, image by image; nothing is written.

    Raises
    ------
    UsageError
        When no image is chosen.
    QuPathError
        When the project cannot be used.
    """
    project = open_project(job.root)
    with QuPathWorker(job.root) as worker:
        for entry in choose_entries(project, job.selection):
            try:
                yield _planned(job, entry, worker.read(entry.id), project.builder(entry.id))
            except NucliSegError as error:
                yield PlannedImage(entry.id, entry.name, problem=str(error))


def _planned(job: ProjectJob, entry: Entry, held: Held, builder: dict[str, object]) -> PlannedImage:
    opened = open_held(builder, held, entry.name, job.engine, job.scope, job.slide_mpp)
    with opened.slide:
        if not opened.scope.parents:
            return PlannedImage(entry.id, entry.name, edits=held.edits, warnings=opened.warnings)
        facts = Analysis(opened.slide, opened.engine, opened.scope.scope).plan_facts()
        return PlannedImage(
            entry_id=entry.id,
            name=entry.name,
            areas=len(opened.scope.parents),
            area_mm2=facts["tissue_mm2"],
            windows=facts["windows"],
            edits=held.edits,
            warnings=opened.warnings,
        )
