"""Everything people did in a project since the run, as one folder."""

from __future__ import annotations

import getpass
import gzip
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from nucliseg_qp.errors import InputError, NucliSegError, OutputError, QuPathError
from nucliseg_qp.projects.selection import Selection, choose_entries, open_project
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.worker import QuPathWorker
from nucliseg_qp.review.corrections import read_corrections
from nucliseg_qp.review.folder import Review, write_review
from nucliseg_qp.review.verdicts import ADDED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.review.verdicts import ImageReview

__all__ = ["collect", "sent_files"]

_AGAIN = "Send the corrections again from QuPath, or collect with QuPath installed."


@dataclass(frozen=True)
class _Found:
    review: ImageReview
    file: Path


def collect(
    root: Path,
    out: Path,
    *,
    reviewer: str | None = None,
    images: Sequence[str] = (),
    sent: bool = False,
    advance: Callable[[str, int], None] | None = None,
) -> Review:
    """Collect what people did in a project and write it to a folder.

    Parameters
    ----------
    root : Path
        Folder of the project.
    out : Path
        Folder to write.
    reviewer : str, optional
        Who reviewed; the user of this computer when not given.
    images : sequence of str
        Only these; see `Selection`.
    sent : bool
        Take the files that the script "send corrections" wrote, without QuPath.
    advance : callable, optional
        Told each image and how many of its nuclei were looked at.

    Returns
    -------
    Review
        What was written: an image review in ``images`` for each, ``looked_at`` counts all nuclei.

    Raises
    ------
    QuPathError
        When the project or none of its images can be read, no image has nuclei of a run, or there
        is no QuPath.
    InputError
        When a file that was sent belongs to another image or run, or was edited.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import collect_review, copy_sample
    >>> project = copy_sample("review_round_trip", "to_collect").parent
    >>> review = collect_review(project, Path("review_anna"), reviewer="Anna", sent=True)
    >>> len(review.images), review.looked_at > 80
    (2, True)
    """
    with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as folder:
        found, problems = _read_all(
            root, images, Path(folder), advance or (lambda *_: None), sent=sent
        )
        review = _review(root, reviewer, found, problems)
        write_review(out, review, [one.file for one in found])
    return review


def _read_all(
    root: Path,
    images: Sequence[str],
    folder: Path,
    advance: Callable[[str, int], None],
    *,
    sent: bool,
) -> tuple[list[_Found], list[NucliSegError]]:
    """Give what people did in the chosen images, at least in one, and what could not be read."""
    entries = choose_entries(open_project(root), Selection(tuple(images)))
    found, problems = (_sent if sent else _asked)(root, entries, folder, advance)
    if found:
        return found, problems
    if problems:
        raise problems[0]
    raise QuPathError(
        f"no image of {root} has nuclei of nucliseg-qp to look at",
        "Run nucliseg-qp annotate on the project first.",
    )


def _review(
    root: Path,
    reviewer: str | None,
    found: Sequence[_Found],
    problems: Sequence[NucliSegError],
) -> Review:
    return Review(
        reviewer=reviewer or getpass.getuser(),
        collected=datetime.now(UTC).isoformat(timespec="seconds"),
        project=root.resolve().name,
        images=tuple(one.review for one in found),
        notes=tuple(note for one in found for note in _notes(one.review)),
        problems=tuple(map(str, problems)),
    )


def _notes(image: ImageReview) -> list[str]:
    if not image.mass_deletion:
        return []
    return [
        f"{image.name}: {image.counts['deleted']} of {image.nuclei_of_run} nuclei are gone; "
        "that looks like a cleared image, so they teach nothing outside of reviewed areas"
    ]


def _asked(
    root: Path, entries: Sequence[Entry], folder: Path, advance: Callable[[str, int], None]
) -> tuple[list[_Found], list[NucliSegError]]:
    """Ask QuPath about every image; give also why some could not be read."""
    found, problems = [], []
    with QuPathWorker(root) as worker:
        for entry in entries:
            file = folder / f"{entry.id}.geojson"
            try:
                if worker.corrections(entry.id, file):
                    found.append(_Found(read_corrections(file), file))
                    advance(entry.name, len(found[-1].review))
            except OutputError:
                raise
            except NucliSegError as error:
                problems.append(error)
    return found, problems


def sent_files(root: Path) -> Path:
    """Name the folder into which the script writes what it sends."""
    return ProjectFolder(root).manifest(0).parent / "corrections"


def _sent(
    root: Path, entries: Sequence[Entry], folder: Path, advance: Callable[[str, int], None]
) -> tuple[list[_Found], list[NucliSegError]]:
    """Read what the script inside QuPath sent: a file that was edited is refused at once."""
    _ = folder
    found = []
    for entry in entries:
        file = sent_files(root) / f"{entry.id}.geojson"
        if not file.is_file():
            continue
        review = read_corrections(file)
        _check_entry(file, entry, _known_size(root, entry), review)
        _check_run(file, _ledger(root, file, review), review)
        found.append(_Found(review, file))
        advance(entry.name, len(review))
    return found, []


def _known_size(root: Path, entry: Entry) -> tuple[int, int] | None:
    """Give the size the project knows of an image, or the run that made its nuclei."""
    path = ProjectFolder(root).manifest(entry.id)
    if entry.size_px is not None or not path.is_file():
        return entry.size_px
    try:
        content = orjson.loads(path.read_bytes())
        return int(content["width_px"]), int(content["height_px"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuPathError(f"{path} is damaged ({error})", "Run annotate again.") from None


def _check_entry(
    file: Path, entry: Entry, size_px: tuple[int, int] | None, review: ImageReview
) -> None:
    same_size = size_px in (None, (review.width_px, review.height_px))
    if review.entry != str(entry.id) or review.name != entry.name or not same_size:
        raise InputError(
            f"{file} is of image {review.entry} ({review.name}, {review.width_px} x "
            f"{review.height_px} px), not of image {entry.id} ({entry.name})",
            "Put it into the project it came from.",
        )


def _ledger(root: Path, file: Path, review: ImageReview) -> dict[str, str]:
    """Give the class of every nucleus of the run a file is about."""
    # The hash becomes part of a file's name.
    known = len(review.ledger) == 16 and review.ledger.isalnum()
    path = sent_files(root).parent / f"{review.entry}.{review.ledger}.ledger.gz"
    if not known or not path.is_file():
        raise InputError(
            f"{file} is about run {review.ledger!r} of {review.name}, which is not the last one "
            "of this project",
            _AGAIN,
        )
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise QuPathError(f"{path} is damaged ({error})", "Run annotate again.") from None
    return {id_: kind for id_, kind, *_ in (line.split("\t") for line in lines if "\t" in line)}


def _check_run(file: Path, run: dict[str, str], review: ImageReview) -> None:
    rows = zip(review.ids, review.change.tolist(), review.class_before.tolist(), strict=True)
    for id_, change, before in rows:
        if change == ADDED:
            continue
        if id_ not in run:
            raise InputError(f"{file} holds nucleus {id_}, which the run never made", _AGAIN)
        if run[id_] != before:
            raise InputError(
                f"{file} says that nucleus {id_} was {before!r}; the run made it {run[id_]!r}",
                _AGAIN,
            )
