"""``detect``: files for those who want files."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucliseg_qp.batch import ImageOutcome, SilentWatcher, each_image, named_images, numbered
from nucliseg_qp.earlier import MADE_NOW, drop_records, set_records_aside
from nucliseg_qp.errors import OutputError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.fingerprint import fingerprint
from nucliseg_qp.outputs import (
    OutputFolder,
    image_stem,
    make_folder,
    move_file,
    remove_partials,
    whole_file,
    work_folder,
)
from nucliseg_qp.pictures.preview import Preview
from nucliseg_qp.provenance import engine_record
from nucliseg_qp.quantify.table import TableWriter, write_summary
from nucliseg_qp.qupath.geojson import write_geojson, written_files
from nucliseg_qp.qupath.lock import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nucliseg_qp.batch import Job, Watcher
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Analysis, Engine
    from nucliseg_qp.quantify.table import SummaryRow

__all__ = ["detect_images"]

WRITTEN = ("done", "incomplete")
"""How an image ended whose files were written."""


def detect_images(
    paths: Sequence[Path], folder: Path, job: Job, watcher: Watcher | None = None
) -> list[ImageOutcome]:
    """Analyse images and write files for each: nuclei, table, preview; then summary and run.

    The files of an image appear together.  Where an image fails, files that an earlier run left
    for it are moved to ``earlier``, so that nothing is taken for a result of this run.  Summary and
    run tell about this run only; those of earlier runs stay in ``earlier`` as long as files do that
    they tell about.

    Parameters
    ----------
    paths : sequence of Path
        Images.
    folder : Path
        Output folder; see `nucliseg_qp.outputs.OutputFolder`.
    job : Job
        Engine and scope.
    watcher : Watcher, optional
        Told about the progress.

    Returns
    -------
    list of ImageOutcome
        ``status``, ``counts``, ``scores`` and ``problem`` of each image.

    Raises
    ------
    OutputError
        When the folder cannot be written to, or another run writes there.  Images that were done
        before stay, and summary and run tell about them.
    UsageError
        When two images have the same name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import Engine, Job, detect_images, load_settings
    >>> job = Job(Engine.start(load_settings()))
    >>> image = Path("ki67_synthetic/images/medium.ome.tif")
    >>> [outcome] = detect_images([image], Path("more_results"), job)
    >>> outcome.status, sorted(outcome.counts)
    ('done', ['Negative', 'Positive'])
    >>> sorted(path.name for path in Path("more_results").iterdir())
    ['nuclei', 'previews', 'run.json', 'summary.csv', 'tables']
    """
    images = list(named_images(paths).values())
    out = OutputFolder(make_folder(folder))
    with claimed(out.lock) as alone:
        run = _Run(out, job, images)
        try:
            _tidy(out, alone)
            run.do(watcher or SilentWatcher())
        finally:
            # An interruption may come while a folder of work is about to be removed.
            _tidy(out, alone)
    return run.outcomes


def _tidy(out: OutputFolder, alone: bool) -> None:
    if alone:
        for place in out.folders:
            remove_partials(place)


class _Run:
    """The images of one run, and what became of each so far."""

    def __init__(self, out: OutputFolder, job: Job, images: Sequence[Path]) -> None:
        self._out, self._job, self._images = out, job, images
        self._started = time.monotonic()
        self.outcomes: list[ImageOutcome] = []

    def do(self, watcher: Watcher) -> None:
        # A run that is killed must not leave the summary of the one before.
        set_records_aside(self._out)
        try:
            for outcome in each_image(self._images, self._job, self._write, watcher):
                if outcome.status == "failed":
                    self._set_aside(image_stem(outcome.path))
                self.outcomes.append(outcome)
        except (OutputError, KeyboardInterrupt, MemoryError) as stop:
            self._give_up(str(stop) or "the run was ended here")
            place = self._write_records()
            if isinstance(stop, OutputError):
                raise self._told(stop, place) from stop
            raise
        place = self._write_records()
        if place != self._out.root:
            raise self._told(OutputError(f"{self._out.root} takes no more files"), place)
        written = (one for one in self.outcomes if one.status in WRITTEN)
        drop_records(self._out, {image_stem(one.path) for one in written})
        _remove_empty(self._out.earlier)

    def _write(self, analysis: Analysis, outcome: ImageOutcome) -> None:
        stem = image_stem(outcome.path)
        with work_folder(self._out.root / stem) as folder:
            fresh = OutputFolder(folder)
            try:
                _write_image(analysis, stem, outcome, fresh, self._job.engine)
            except OutputError as error:
                # Nobody knows the folder for the time of writing.
                place = error.message.replace(str(folder), str(self._out.root))
                raise OutputError(place, error.hint) from error
            self._set_aside(stem)
            _move(_files(fresh, stem), fresh, self._out)
        _remove(_files(self._out.earlier, stem))

    def _set_aside(self, stem: str) -> None:
        _move(_files(self._out, stem), self._out, self._out.earlier)

    def _give_up(self, problem: str) -> None:
        """Note the image that was worked on as failed, those after it as skipped."""
        for path in self._images[len(self.outcomes) :]:
            outcome = ImageOutcome(path, "skipped", problem="the run ended before its turn")
            self.outcomes.append(outcome)
            if problem:
                outcome.status, outcome.problem, problem = "failed", problem, ""
                with suppress(OutputError):
                    self._set_aside(image_stem(path))

    def _told(self, error: OutputError, place: Path | None) -> OutputError:
        """Give an error that also says what is there all the same."""
        done = sum(outcome.status in WRITTEN for outcome in self.outcomes)
        records = f"summary.csv and run.json are in {place}." if place else ""
        return OutputError(
            f"{error.message}; {done} of {len(self._images)} images are written",
            f"{error.hint} {records}",
        )

    def _write_records(self) -> Path | None:
        """Write summary and run, elsewhere when the folder takes nothing; give where."""
        try:
            return self._write_records_to(self._out)
        except OutputError:
            with suppress(OutputError, OSError):
                return self._write_records_to(OutputFolder(Path(tempfile.mkdtemp("nucliseg-qp"))))
        return None

    def _write_records_to(self, place: OutputFolder) -> Path:
        rows: list[SummaryRow] = []
        images = []
        for outcome in self.outcomes:
            rest = {"files": self._whose_files(outcome), "problem": outcome.problem}
            rows.append({**outcome.row(), **rest})
            images.append({**_image_record(self._job, outcome), **rest})
        write_summary(place.summary, rows)
        seconds = round(time.monotonic() - self._started, 3)
        _write_run(place.run, {**_run_record(self._job), "seconds": seconds, "images": images})
        return place.root

    def _whose_files(self, outcome: ImageOutcome) -> str:
        stem = image_stem(outcome.path)
        if _files(self._out, stem):
            return MADE_NOW if outcome.status in WRITTEN else "an earlier run"
        return "an earlier run, in earlier" if _files(self._out.earlier, stem) else "none"


def _files(out: OutputFolder, stem: str) -> list[Path]:
    """Give the files of one image that are there."""
    single = [path for path in (out.table(stem), out.preview(stem)) if os.path.isfile(path)]
    return [*written_files(out.nuclei(stem)), *single]


def _move(files: Sequence[Path], source: OutputFolder, target: OutputFolder) -> None:
    for path in files:
        if os.path.isfile(path):
            move_file(path, target.root / path.relative_to(source.root))


def _remove(files: Sequence[Path]) -> None:
    for path in files:
        with suppress(OSError):
            path.unlink()


def _remove_empty(out: OutputFolder) -> None:
    for folder in reversed(out.folders):
        with suppress(OSError):
            folder.rmdir()


def _write_image(
    analysis: Analysis, stem: str, outcome: ImageOutcome, out: OutputFolder, engine: Engine
) -> None:
    name, settings = analysis.slide.path.name, engine.settings.output
    preview = Preview(analysis.slide, analysis.bounds, engine.palette.classes, settings.preview_px)
    with TableWriter(out.table(stem), name) as table:

        def parts() -> Iterator[tuple[Nuclei, list[str]]]:
            for nuclei, ids in numbered(analysis, outcome):
                table.add(nuclei, ids)
                preview.add(nuclei)
                yield nuclei, ids

        colours = [(one.name, one.color_rgb) for one in engine.palette.classes]
        write_geojson(out.nuclei(stem), parts(), colours, shard=settings.shard)
    preview.save(out.preview(stem))


def _run_record(job: Job) -> dict[str, Any]:
    classes = [
        {"name": one.name, "color": list(one.color_rgb)} for one in job.engine.palette.classes
    ]
    return {**engine_record(job.engine), "classes": classes}


def _image_record(job: Job, outcome: ImageOutcome) -> dict[str, Any]:
    return {
        # Unlike Path.resolve, this bears links that lead in a circle.
        "path": os.path.realpath(outcome.path),
        "status": outcome.status,
        "counts": dict(outcome.counts),
        "seconds": round(outcome.seconds, 3),
        "fingerprint": fingerprint(outcome.path),
        "geometry": _geometry(job, outcome),
        **outcome.facts,
    }


def _write_run(path: Path, record: Mapping[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def _geometry(job: Job, outcome: ImageOutcome) -> Mapping[str, Any] | None:
    """Give the part that was analysed, None for the whole image or when it failed."""
    if "width_px" not in outcome.facts:
        return None
    image = Region(0, 0, outcome.facts["width_px"], outcome.facts["height_px"])
    return job.scope.geometry(image)
