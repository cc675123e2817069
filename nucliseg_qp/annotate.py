"""``annotate``: nuclei straight into a QuPath project."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from nucliseg_qp.batch import ImageOutcome, SilentWatcher, each_image, named_images, numbered
from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.outputs import image_stem
from nucliseg_qp.provenance import entry_metadata
from nucliseg_qp.qupath.files import write_files
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.project import check_folder, write_project
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.results import ImageResult, WrittenImage, save_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nucliseg_qp.batch import Job, Watcher
    from nucliseg_qp.pipeline import Analysis, Engine
    from nucliseg_qp.qupath.install import Writer

__all__ = ["annotate_images"]

CHUNK_IMAGES = 8
"""Images written to the project at once: a run that is cut off loses no more than these."""


def annotate_images(
    paths: Sequence[Path],
    project: Path,
    job: Job,
    writer: Writer,
    watcher: Watcher | None = None,
) -> list[ImageOutcome]:
    """Analyse images and add each with its nuclei to a QuPath project.

    Parameters
    ----------
    paths : sequence of Path
        Images.
    project : Path
        Folder of the project, created where there is none.
    job : Job
        Engine and scope.
    writer : {"paquo", "files"}
        Through QuPath, or as a folder of files that QuPath opens and a script that imports them.
    watcher : Watcher, optional
        Told about the progress.

    Returns
    -------
    list of ImageOutcome
        ``status``, ``counts``, ``scores`` and ``problem`` of each image.

    Raises
    ------
    OutputError
        When the project cannot be written to.
    QuPathError
        When the project is broken.  An image over which QuPath breaks down is a failed one.
    UsageError
        When two images have the same name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import Engine, Job, annotate_images, load_settings
    >>> job = Job(Engine.start(load_settings(overrides={"classes": {"palette": "dab"}})))
    >>> image = Path("ki67_synthetic/images/low.ome.tif")
    >>> [outcome] = annotate_images([image], Path("my_project"), job, "files")
    >>> outcome.status, Path("my_project/project.qpproj").is_file()
    ('done', True)
    """
    images = list(named_images(paths).values())
    # Before hours of work, not after them.
    check_folder(project)
    writing = _Writing(project, job, writer, watcher or SilentWatcher())
    outcomes: list[ImageOutcome] = []
    with locked(ProjectFolder(project).run_lock):
        for chunk in _chunks(images, CHUNK_IMAGES):
            outcomes += writing.annotate(chunk)
    return outcomes


def _chunks(images: Sequence[Path], size: int) -> Iterator[list[Path]]:
    rest = iter(images)
    while chunk := list(islice(rest, size)):
        yield chunk


@dataclass(frozen=True)
class _Writing:
    """Where nuclei go, and how."""

    project: Path
    job: Job
    writer: Writer
    watcher: Watcher

    def annotate(self, paths: Sequence[Path]) -> list[ImageOutcome]:
        """Analyse images, then write those that are done into the project."""
        results: dict[Path, ImageResult] = {}
        outcomes: list[ImageOutcome] = []
        # Outside of the project: it may be shared, or on a slow disk.
        with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as folder:

            def work(analysis: Analysis, outcome: ImageOutcome) -> None:
                results[outcome.path] = _result(analysis, outcome, self.job.engine, Path(folder))

            try:
                # What came before an error stays in the list.
                outcomes.extend(each_image(paths, self.job, work, self.watcher))
            except (OutputError, KeyboardInterrupt):
                # The images that are done need not be lost with the one that was not.
                self._put(outcomes, results)
                raise
            self._put(outcomes, results)
        return outcomes

    def _put(self, outcomes: Sequence[ImageOutcome], results: Mapping[Path, ImageResult]) -> None:
        done = [outcome for outcome in outcomes if outcome.status == "done"]
        if not done:
            return
        ready = [results[outcome.path] for outcome in done]
        self.watcher.stage("writing the QuPath project", len(ready))
        for outcome in _refused(done, self._written(ready)):
            self.watcher.finished(outcome)
        self.watcher.advance(len(ready))

    def _written(self, ready: Sequence[ImageResult]) -> list[WrittenImage]:
        """Write images together, or one by one when QuPath breaks down over one of them."""
        colours = [(one.name, one.color_rgb) for one in self.job.engine.palette.classes]
        write = write_project if self.writer == "paquo" else write_files
        try:
            return write(self.project, ready, colours)
        except QuPathError as error:
            if len(ready) == 1:
                return [WrittenImage(ready[0].image_path, problem=str(error))]
            return [one for image in ready for one in self._written([image])]


def _result(analysis: Analysis, outcome: ImageOutcome, engine: Engine, folder: Path) -> ImageResult:
    slide = analysis.slide
    parts = save_parts(folder, image_stem(slide.path), numbered(analysis, outcome))
    facts = analysis.facts()
    counts = {f"NucliSeg {name}": str(number) for name, number in outcome.counts.items()}
    return ImageResult(
        image_path=slide.path,
        width_px=facts["width_px"],
        height_px=facts["height_px"],
        mpp=facts["mpp"],
        mpp_source=facts["mpp_source"],
        parts=parts,
        provenance={**entry_metadata(engine, facts, "done"), **counts},
        geometry=analysis.scope.geometry(slide.bounds),
    )


def _refused(done: list[ImageOutcome], written: list[WrittenImage]) -> list[ImageOutcome]:
    # By position: an image may come back under the path its links lead to.
    refused = []
    for outcome, one in zip(done, written, strict=True):
        if one.problem:
            outcome.status, outcome.problem = "failed", one.problem
            outcome.exit_code = QuPathError.exit_code
            refused.append(outcome)
    return refused
