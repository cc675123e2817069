"""Many images, one after the other: a failing one never stops the others."""

from __future__ import annotations

import glob
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nucliseg_qp.errors import InputError, NucliSegError, OutputError, UsageError
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.outputs import image_stem
from nucliseg_qp.pipeline import Analysis, Progress, Silent
from nucliseg_qp.quantify.scores import score_counts
from nucliseg_qp.quantify.table import summary_row
from nucliseg_qp.workers import open_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Engine
    from nucliseg_qp.profile import Profile
    from nucliseg_qp.quantify.scores import Scores
    from nucliseg_qp.quantify.table import SummaryRow
    from nucliseg_qp.work import Workers

__all__ = [
    "ImageOutcome",
    "Job",
    "SilentWatcher",
    "Watcher",
    "each_image",
    "named_images",
    "numbered",
]

Status = Literal["done", "incomplete", "failed", "staged", "skipped"]

_SHARD = re.compile(r"\.\d{3,}$")


class Watcher(Progress, Protocol):
    """Who wants to know which image is worked on and how it ended."""

    def image(self, path: Path) -> None:
        """Begin an image."""

    def finished(self, outcome: ImageOutcome) -> None:
        """End an image."""


class SilentWatcher(Silent):
    """Nobody wants to know."""

    def image(self, path: Path) -> None:
        """Do nothing."""

    def finished(self, outcome: ImageOutcome) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Job:
    """What is the same for all images of a run.

    Parameters
    ----------
    engine : Engine
        Model, palette and settings.
    scope : Scope
        Part of each image; all of it when left out.
    slide_mpp : float, optional
        Pixel size to assume, in um.
    profile : Profile, optional
        Told what the steps cost.

    Examples
    --------
    >>> from nucliseg_qp import Engine, Job, Region, Scope, load_settings
    >>> corner = Scope(Region(0, 0, 512, 512))
    >>> job = Job(Engine.start(load_settings()), corner, slide_mpp=0.25)
    >>> job.scope.region.area_px
    262144
    """

    engine: Engine
    scope: Scope = field(default_factory=Scope)
    slide_mpp: float | None = None
    profile: Profile | None = None


@dataclass
class ImageOutcome:
    """How one image ended.

    Parameters
    ----------
    path : Path
        The image.
    status : {"done", "incomplete", "failed"}
        ``incomplete`` when some tiles could not be read; such an image gets no score.
    counts : dict of str to int
        Nuclei by class.
    unclassified : int
        Nuclei without a class.
    tissue_mm2 : float or None
        Area that was analysed; None when it is not known.
    problem : str
        One line on what went wrong; empty when all is well.
    exit_code : int
        The exit code that belongs to the problem.
    facts : dict
        Size, pixel size and its source, reader, tiles done and failed.
    note : str
        What to keep in mind about the results; empty when nothing.
    """

    path: Path
    status: Status = "done"
    counts: Counter[str] = field(default_factory=Counter)
    unclassified: int = 0
    tissue_mm2: float | None = None
    seconds: float = 0.0
    problem: str = ""
    exit_code: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def nuclei(self) -> int:
        """Number of nuclei, of all classes and of none."""
        return self.counts.total() + self.unclassified

    @property
    def scores(self) -> Scores:
        """Positive %, H-score and so on, exactly as QuPath computes them."""
        return score_counts(self.counts, self.tissue_mm2)

    def row(self) -> SummaryRow:
        """Give the line of summary.csv."""
        return summary_row(
            self.path.name,
            self.counts,
            self.scores,
            tissue_mm2=self.tissue_mm2,
            seconds=self.seconds,
            status=self.status,
            unclassified=self.unclassified,
        )


def named_images(paths: Sequence[Path]) -> dict[str, Path]:
    """Give each image the stem its files will have; an image given twice is taken once.

    Raises
    ------
    InputError
        When the name of an image cannot be written into a file.
    UsageError
        When two images would write to the same files.
    """
    named: dict[str, Path] = {}
    claimed: dict[str, Path] = {}
    for path in dict.fromkeys(_first_spelling(paths)):
        _check_text(path)
        stem = image_stem(path)
        # Windows and macOS do not tell A.tif from a.tif.
        other = claimed.setdefault(stem.casefold(), path)
        if other != path:
            raise _same_files(other, path)
        named[stem] = path
    for name, path in claimed.items():
        # A large image may be dealt out to stem.001, stem.002 and so on.
        whole = claimed.get(_SHARD.sub("", name), path)
        if whole != path:
            raise _same_files(whole, path)
    return named


def _first_spelling(paths: Sequence[Path]) -> Iterator[Path]:
    seen: dict[Path, Path] = {}
    for path in chain.from_iterable(map(_expanded, paths)):
        # Links stay apart: each has a name of its own.
        yield seen.setdefault(Path(os.path.abspath(path)), path)


def _expanded(path: Path) -> list[Path]:
    """Give what a pattern stands for where the shell left that to us, as on Windows."""
    if not glob.has_magic(path.name) or os.path.lexists(path):
        return [path]
    return sorted(path.parent.glob(path.name)) or [path]


def _same_files(one: Path, other: Path) -> UsageError:
    return UsageError(
        f"{one} and {other} would write to the same files",
        "Rename one or give them in two runs with two output folders.",
    )


def _check_text(path: Path) -> None:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} has a name that is not UTF-8", "Rename it.") from None


def each_image(
    paths: Sequence[Path],
    job: Job,
    work: Callable[[Analysis, ImageOutcome], None],
    watcher: Watcher,
) -> Iterator[ImageOutcome]:
    """Open every image, let ``work`` consume its analysis, and give how each ended.

    Raises
    ------
    OutputError
        When nothing can be written any more: the other images would fail as well.
    """
    with open_workers(job.engine) as workers:
        measured = workers if job.profile is None else job.profile.workers(workers)
        for path in paths:
            outcome = _one_image(path, job, work, watcher, measured)
            yield outcome
            # Only now has the caller taken note: a run that ends on this word has lost nothing.
            watcher.finished(outcome)


def _one_image(
    path: Path,
    job: Job,
    work: Callable[[Analysis, ImageOutcome], None],
    watcher: Watcher,
    workers: Workers,
) -> ImageOutcome:
    outcome = ImageOutcome(path)
    started = time.monotonic()
    watcher.image(path)
    try:
        with open_slide(path, job.slide_mpp) as slide:
            analysis = Analysis(slide, job.engine, job.scope, watcher, workers)
            _consume(analysis, job, work, outcome)
    except OutputError:
        raise
    except NucliSegError as error:
        outcome.status, outcome.problem = "failed", str(error)
        outcome.exit_code = error.exit_code
        outcome.counts.clear()
        outcome.unclassified = 0
    outcome.seconds = time.monotonic() - started
    if job.profile is not None:
        job.profile.image(outcome.status, outcome.seconds, outcome.nuclei, outcome.facts)
    return outcome


def _consume(
    analysis: Analysis,
    job: Job,
    work: Callable[[Analysis, ImageOutcome], None],
    outcome: ImageOutcome,
) -> None:
    outcome.counts.update(dict.fromkeys(job.engine.palette.names, 0))
    if job.profile is not None:
        job.profile.prepare(analysis)
    work(analysis, outcome)
    outcome.tissue_mm2 = analysis.tissue_mm2
    outcome.facts, outcome.note = analysis.facts(), analysis.note
    if analysis.damage:
        outcome.status, outcome.exit_code = "incomplete", 1
        outcome.problem = (
            f"{analysis.slide.path}: {analysis.damage} could not be read, "
            "so the image has no score. Check the file and run it again."
        )


def numbered(analysis: Analysis, outcome: ImageOutcome) -> Iterator[tuple[Nuclei, list[str]]]:
    """Give the nuclei of an image part by part with their ids, and count them."""
    for nuclei in analysis.nuclei():
        outcome.counts.update(nuclei.counts())
        outcome.unclassified += int((nuclei.class_index < 0).sum())
        yield nuclei, nucleus_ids(analysis.slide.path.name, nuclei)
