"""``annotate PROJECT.qpproj``: every image of a project, one after the other, resumed by default.

`annotate_project` is the place to start reading.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nucliseg_qp.batch import SilentWatcher
from nucliseg_qp.errors import NucliSegError, OutputError, QuPathError
from nucliseg_qp.projects.cache import TileCache
from nucliseg_qp.projects.closing import Closing, Seen
from nucliseg_qp.projects.entry import analyse, open_held
from nucliseg_qp.projects.job import EntryOutcome
from nucliseg_qp.projects.journal import Journal, digest, engine_facts
from nucliseg_qp.projects.notes import prepare
from nucliseg_qp.projects.numbers import area_numbers, read_numbers
from nucliseg_qp.projects.record import begin_run, end_run
from nucliseg_qp.projects.selection import choose_entries, open_project
from nucliseg_qp.projects.staging import is_staged, stage, unstage
from nucliseg_qp.provenance import entry_metadata
from nucliseg_qp.qupath.builders import check_builder
from nucliseg_qp.qupath.data_file import data_since
from nucliseg_qp.qupath.held import EntryResult
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.worker import QuPathWorker

if TYPE_CHECKING:
    from nucliseg_qp.batch import Watcher
    from nucliseg_qp.engine import Engine
    from nucliseg_qp.projects.entry import Findings, OpenedEntry
    from nucliseg_qp.projects.job import ProjectJob
    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.qupath.held import Held, Written
    from nucliseg_qp.qupath.project_file import ProjectFile
    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["ProjectRun", "annotate_project"]

WRITER_SECONDS = 120.0
"""How long the process of a run that was killed may take to finish its image."""


def annotate_project(job: ProjectJob, watcher: Watcher | None = None) -> list[EntryOutcome]:
    """Find nuclei in the images of a project and put them there, beside what people did.

    Every image is written whole or not at all.  Images that are done are left alone, those that
    are not are gone on with; a failing image does not stop the others.

    Parameters
    ----------
    job : ProjectJob
        Project, images, scope, engine.
    watcher : Watcher, optional
        Told about the progress.

    Returns
    -------
    list of EntryOutcome
        One an image.

    Raises
    ------
    UsageError
        When no image is chosen.
    QuPathError
        When the project cannot be used, or another run works on it.
    OutputError
        When nothing can be written any more; what is done is done.
    """
    project = open_project(job.root)
    entries = choose_entries(project, job.selection)
    folder = project.folder
    with locked(folder.run_lock):
        with locked(folder.writer_lock, WRITER_SECONDS):
            prepare(folder, _colours(job.engine))
        with QuPathWorker(job.root) as worker:
            run = ProjectRun(job, project, worker, watcher or SilentWatcher())
            outcomes = [run.entry(entry) for entry in entries]
        end_run(folder, run.begun, outcomes)
    return outcomes


class ProjectRun:
    """One run over a project.

    Parameters
    ----------
    job : ProjectJob
        What is asked for.
    project : ProjectFile
        The project as it was at the start.
    worker : QuPathWorker
        QuPath.
    watcher : Watcher
        Told about the progress.
    """

    def __init__(
        self, job: ProjectJob, project: ProjectFile, worker: QuPathWorker, watcher: Watcher
    ) -> None:
        self._job, self._project, self._worker, self._watcher = job, project, worker, watcher
        self._folder: ProjectFolder = project.folder
        self._journal = Journal(self._folder.journal)
        self._analysis = digest([engine_facts(job.engine, job.scope), job.slide_mpp])
        self.begun = begin_run(self._folder, job.engine, self._analysis, str(job.scope))
        run = self.begun.name
        self._closing = Closing(self._folder, job, self._journal, run, self._analysis)

    def entry(self, entry: Entry) -> EntryOutcome:
        """Do one image, whatever happens to it.

        Raises
        ------
        OutputError
            When nothing can be written any more.
        """
        outcome = EntryOutcome(Path(entry.name or str(entry.id)), entry_id=entry.id)
        started = time.monotonic()
        self._watcher.image(outcome.path)
        try:
            if not self._is_done(entry, outcome):
                self._do(entry, outcome)
        except OutputError:
            raise
        except NucliSegError as error:
            outcome.status, outcome.problem = "failed", str(error)
            outcome.exit_code = error.exit_code
            outcome.counts.clear()
            self._closing.close(entry, outcome, Seen())
        outcome.seconds = time.monotonic() - started
        self._watcher.finished(outcome)
        return outcome

    def _is_done(self, entry: Entry, outcome: EntryOutcome) -> bool:
        """Tell, without Java, whether an earlier run did it and nobody touched it since."""
        last = self._journal.last(entry.id)
        if self._renews or last is None or (last.status, last.analysis) != ("done", self._analysis):
            return False
        if data_since(last.data, self._folder.data(entry.id)) != "same":
            return False
        return self._recall(entry, outcome)

    def _recall(self, entry: Entry, outcome: EntryOutcome) -> bool:
        numbers = read_numbers(self._folder.result(entry.id))
        if numbers is None:
            return False
        if numbers.status != "done":
            self._closing.restore(entry, numbers)
        outcome.earlier, outcome.tissue_mm2 = True, numbers.tissue_mm2
        outcome.counts.update(numbers.counts)
        outcome.facts, outcome.report = numbers.facts, numbers.report
        # What a run that was killed at the very end left.
        TileCache.clear(self._folder.work(entry.id))
        unstage(self._folder.staged(entry.id))
        return True

    def _do(self, entry: Entry, outcome: EntryOutcome) -> None:
        job, builder = self._job, self._project.builder(entry.id)
        check_builder(builder, entry.name)
        held = self._worker.read(entry.id)
        opened = open_held(builder, held, entry.name, job.engine, job.scope, job.slide_mpp)
        with opened.slide:
            outcome.warnings += opened.warnings
            fingerprint = opened.fingerprint(self._analysis)
            if not opened.scope.parents:
                outcome.status = "skipped"
                outcome.warnings.append(f"{entry.name} has nothing for --scope {job.scope}")
                self._closing.close(entry, outcome, Seen(fingerprint))
            elif not self._is_known(entry, held, fingerprint, outcome):
                cache = TileCache(self._folder.work(entry.id), fingerprint)
                found = analyse(opened, cache, self._watcher, self._folder.thumbnail(entry.id))
                self._take(found, outcome)
                self._finish(entry, outcome, opened, found, held, fingerprint)

    def _is_known(self, entry: Entry, held: Held, fingerprint: str, outcome: EntryOutcome) -> bool:
        """Tell whether this very analysis was done, though somebody saved the image since."""
        last = self._journal.last(entry.id)
        if self._renews or last is None or last.fingerprint != fingerprint:
            return False
        # What waits and is damaged can never go in: analysed again, it can.
        if last.status == "staged" and is_staged(self._folder.staged(entry.id)):
            self._stay_staged(entry, outcome)
            return True
        if last.status != "done" or not self._recall(entry, outcome):
            return False
        outcome.counts = Counter(held.counts)
        known = read_numbers(self._folder.result(entry.id))
        if known is not None:
            scope = [one.id for one in known.areas if one.in_scope]
            areas = area_numbers(held, scope)
            now = replace(known, counts=held.counts, areas=areas, data=held.state)
            now.save(self._folder.result(entry.id))
        return True

    @property
    def _renews(self) -> bool:
        return self._job.again or self._job.mode == "replace-all"

    def _take(self, found: Findings, outcome: EntryOutcome) -> None:
        outcome.counts, outcome.facts = Counter(found.counts), dict(found.facts)
        outcome.tissue_mm2 = found.facts["tissue_mm2"]
        outcome.facts["tiles_reused"] = found.reused
        if found.damage:
            outcome.status, outcome.exit_code = "incomplete", 1
            outcome.problem = (
                f"{outcome.path}: {found.damage} could not be read, so the image has no score and "
                "nothing was written. Check the file; the same command tries only these again."
            )

    def _finish(
        self,
        entry: Entry,
        outcome: EntryOutcome,
        opened: OpenedEntry,
        found: Findings,
        held: Held,
        fingerprint: str,
    ) -> None:
        written: Written | None = None
        if not found.damage:
            result = self._result(entry, opened, found, held)
            self._watcher.stage("writing into the project", 1)
            written = self._worker.write(result)
            self._watcher.advance()
            if written.changed:
                stage(self._folder.staged(entry.id), result)
                self._stay_staged(entry, outcome)
        if written is not None and written.held is not None:
            outcome.report, outcome.counts = written.report, Counter(written.held.counts)
        self._closing.close(entry, outcome, Seen(fingerprint, opened, found, written))
        if outcome.status in ("done", "staged"):
            TileCache.clear(self._folder.work(entry.id))
        if outcome.status == "done":
            unstage(self._folder.staged(entry.id))

    def _stay_staged(self, entry: Entry, outcome: EntryOutcome) -> None:
        outcome.status, outcome.exit_code = "staged", QuPathError.exit_code
        outcome.problem = (
            f"{outcome.path}: somebody saved the image while it was analysed. Their work is "
            f"untouched, ours waits in {self._folder.staged(entry.id)}. Close the image in QuPath "
            "and run annotate with --apply-staged."
        )

    def _result(
        self, entry: Entry, opened: OpenedEntry, found: Findings, held: Held
    ) -> EntryResult:
        facts, engine = found.facts, self._job.engine
        return EntryResult(
            entry_id=entry.id,
            state=held.state,
            parents=opened.scope.parents,
            parts=tuple(found.parts),
            mode=self._job.mode,
            classes=tuple(_colours(engine)),
            width_px=facts["width_px"],
            height_px=facts["height_px"],
            mpp=facts["mpp"],
            mpp_source=facts["mpp_source"],
            image=entry.name,
            provenance=entry_metadata(engine, facts, "done"),
        )


def _colours(engine: Engine) -> list[tuple[str, tuple[int, int, int]]]:
    return [(one.name, one.color_rgb) for one in engine.palette.classes]
