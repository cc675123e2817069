"""``annotate --apply-staged``: results that waited go in beside what people saved."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nucliseg_qp.errors import NucliSegError, OutputError, QuPathError
from nucliseg_qp.projects.job import EntryOutcome
from nucliseg_qp.projects.journal import Journal
from nucliseg_qp.projects.notes import note_entry
from nucliseg_qp.projects.numbers import area_numbers, read_numbers
from nucliseg_qp.projects.selection import choose_entries, open_project
from nucliseg_qp.projects.staging import staged_result, unstage
from nucliseg_qp.qupath.data_file import DataState
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.worker import QuPathWorker

if TYPE_CHECKING:
    from nucliseg_qp.batch import Watcher
    from nucliseg_qp.projects.selection import Selection
    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.qupath.held import EntryResult, Written
    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["apply_staged"]


def apply_staged(root: Path, selection: Selection, watcher: Watcher) -> list[EntryOutcome]:
    """Put staged results into their images; nothing is analysed.

    Parameters
    ----------
    root : Path
        Folder of the project.
    selection : Selection
        Which images.
    watcher : Watcher
        Told about the progress.

    Returns
    -------
    list of EntryOutcome
        Of the images that had a staged result.

    Raises
    ------
    QuPathError
        When the project cannot be used, or another run works on it.
    OutputError
        When nothing can be written.
    """
    project = open_project(root)
    folder, outcomes = project.folder, []
    with locked(folder.run_lock), QuPathWorker(root) as worker:
        for entry in choose_entries(project, selection):
            if folder.staged(entry.id).is_dir():
                outcome = EntryOutcome(Path(entry.name), entry_id=entry.id)
                watcher.image(outcome.path)
                _apply(folder, entry, worker, outcome)
                watcher.finished(outcome)
                outcomes.append(outcome)
    return outcomes


def _apply(
    folder: ProjectFolder, entry: Entry, worker: QuPathWorker, outcome: EntryOutcome
) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as work:
            result = staged_result(folder.staged(entry.id), Path(work))
            if result is None:
                # It was never whole: the next run analyses the image again.
                unstage(folder.staged(entry.id))
                return
            written = worker.write(result)
    except OutputError:
        raise
    except NucliSegError as error:
        outcome.status, outcome.problem = "failed", str(error)
        outcome.exit_code = error.exit_code
        return
    if written.changed:
        outcome.status, outcome.exit_code = "staged", QuPathError.exit_code
        outcome.problem = (
            f"{outcome.path}: somebody saved the image just now, so ours still waits. Close the "
            "image in QuPath and run the same command again."
        )
        return
    _note(folder, entry, outcome, result, written)
    unstage(folder.staged(entry.id))


def _note(
    folder: ProjectFolder,
    entry: Entry,
    outcome: EntryOutcome,
    result: EntryResult,
    written: Written,
) -> None:
    """Note in the project, in the numbers and in the journal that the image is done."""
    outcome.report = written.report
    counts = {} if written.held is None else written.held.counts
    outcome.counts = Counter(counts)
    texts = {f"NucliSeg {name}": str(number) for name, number in counts.items() if name}
    status = {"NucliSeg status": "done", "NucliSeg problem": ""}
    note_entry(folder, entry.id, {**result.provenance, **texts, **status}, written.builder)
    data = DataState() if written.held is None else written.held.state
    numbers = read_numbers(folder.result(entry.id))
    if numbers is not None and written.held is not None:
        outcome.tissue_mm2, outcome.facts = numbers.tissue_mm2, numbers.facts
        areas = area_numbers(written.held, [one.id for one in result.parents])
        replace(
            numbers, status="done", problem="", counts=counts, areas=areas,
            report=written.report, data=data,
        ).save(folder.result(entry.id))  # fmt: skip
    journal = Journal(folder.journal)
    if (last := journal.last(entry.id)) is not None:
        journal.add(replace(last, status="done", problem="", exit_code=0, data=data))
