"""How an image ended, noted in the project, in its numbers and, last, in the journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nucliseg_qp.projects.journal import Journal, Record
from nucliseg_qp.projects.notes import note_entry
from nucliseg_qp.projects.numbers import ImageNumbers, area_numbers, read_numbers
from nucliseg_qp.provenance import entry_metadata
from nucliseg_qp.qupath.data_file import DataState

if TYPE_CHECKING:
    from nucliseg_qp.projects.entry import Findings, OpenedEntry
    from nucliseg_qp.projects.job import EntryOutcome, ProjectJob
    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.qupath.held import Written
    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["Closing", "Seen"]


@dataclass(frozen=True)
class Seen:
    """How far an image got.

    Parameters
    ----------
    fingerprint : str
        Of everything its nuclei depend on; empty when it was not opened.
    opened : OpenedEntry, optional
        The image.
    found : Findings, optional
        What the analysis gave.
    written : Written, optional
        What became of it in QuPath.
    """

    fingerprint: str = ""
    opened: OpenedEntry | None = None
    found: Findings | None = None
    written: Written | None = None


@dataclass(frozen=True)
class Closing:
    """Notes how the images of one run end.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    job : ProjectJob
        What is asked for.
    journal : Journal
        Of the project.
    run, analysis : str
        Name of the run and fingerprint of its settings.
    """

    folder: ProjectFolder
    job: ProjectJob
    journal: Journal
    run: str
    analysis: str

    def close(self, entry: Entry, outcome: EntryOutcome, seen: Seen) -> None:
        """Note how an image ended.

        Raises
        ------
        OutputError, QuPathError
            When it cannot be written.
        """
        builder = None if seen.written is None else seen.written.builder
        note_entry(self.folder, entry.id, self._texts(outcome), builder)
        held = None if seen.written is None else seen.written.held
        # As it was written: what somebody saves from then on is noticed.
        data = DataState() if held is None or outcome.status != "done" else held.state
        self._numbers(entry, outcome, seen, data).save(self.folder.result(entry.id))
        self.journal.add(
            Record(
                entry_id=entry.id,
                run=self.run,
                status=outcome.status,
                analysis=self.analysis,
                fingerprint=seen.fingerprint,
                problem=outcome.problem,
                exit_code=outcome.exit_code,
                data=data,
            )
        )

    def restore(self, entry: Entry, numbers: ImageNumbers) -> None:
        """Note again that an image is done, which a later run with another scope skipped.

        Raises
        ------
        OutputError, QuPathError
            When it cannot be written.
        """
        texts = {"NucliSeg status": "done", "NucliSeg problem": "", "NucliSeg run": numbers.run}
        note_entry(self.folder, entry.id, texts)
        again = replace(numbers, status="done", problem="", warnings=[])
        again.save(self.folder.result(entry.id))

    def _numbers(
        self, entry: Entry, outcome: EntryOutcome, seen: Seen, data: DataState
    ) -> ImageNumbers:
        before = read_numbers(self.folder.result(entry.id))
        if outcome.status not in ("done", "staged") and before and before.data != DataState():
            # Nothing was written: the nuclei of an earlier run are still there.
            return replace(
                before,
                status=outcome.status,
                problem=outcome.problem,
                warnings=outcome.warnings,
            )
        held = None if seen.written is None else seen.written.held
        scope = [] if seen.opened is None else [one.id for one in seen.opened.scope.parents]
        found = seen.found
        return ImageNumbers(
            entry_id=entry.id,
            name=entry.name,
            run=self.run,
            status=outcome.status,
            problem=outcome.problem,
            counts=dict(outcome.counts),
            tissue_mm2=outcome.tissue_mm2 or 0.0,
            areas=[] if held is None else area_numbers(held, scope),
            dab={} if found is None else found.dab,
            report=outcome.report,
            warnings=outcome.warnings,
            facts=outcome.facts,
            description={} if seen.opened is None else seen.opened.description,
            found={} if found is None else dict(found.counts),
            digest="" if found is None else found.digest,
            data=data,
        )

    def _texts(self, outcome: EntryOutcome) -> dict[str, str]:
        status = {"NucliSeg status": outcome.status, "NucliSeg run": self.run}
        if outcome.status != "done":
            return {**status, "NucliSeg problem": outcome.problem}
        about = entry_metadata(self.job.engine, outcome.facts, outcome.status)
        counts = {f"NucliSeg {key}": str(value) for key, value in outcome.counts.items() if key}
        scope = {"NucliSeg scope": str(self.job.scope), "NucliSeg problem": ""}
        return {**about, **counts, **scope, **status}
