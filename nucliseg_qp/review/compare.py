"""Two people about the same nuclei: where they agree, where not, and both in one review.

A conflict is never settled silently: in a merged review such a nucleus counts as not looked at and
stands in the list of conflicts, unless one of the two is preferred by name.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from nucliseg_qp.errors import UsageError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.review.agreement import Agreement, agreement
from nucliseg_qp.review.corrections import read_corrections
from nucliseg_qp.review.folder import Review, write_review
from nucliseg_qp.review.matching import Rows, common_images, matched_rows, rows_unseen_by
from nucliseg_qp.review.merging import merged_files
from nucliseg_qp.review.verdicts import ADDED, CONFIRMED, RECLASSIFIED, REDRAWN

if TYPE_CHECKING:
    from nucliseg_qp.review.verdicts import ImageReview

__all__ = ["Comparison", "Conflict", "compare", "merge"]

_NOTHING = "no nucleus"


@dataclass(frozen=True)
class Conflict:
    """A nucleus about which two people disagree.

    Parameters
    ----------
    image, entry, id : str
        Which nucleus.
    x, y : float
        Where.
    first, second : str
        What each decided.
    """

    image: str
    entry: str
    id: str
    x: float
    y: float
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two reviews side by side.

    Parameters
    ----------
    first, second : str
        Who.
    classes : Agreement
        Of the classes of nuclei both gave a class.
    common, agreed : int
        Nuclei both looked at, and those about which they decided the same.
    only_first, only_second : int
        Nuclei only one of them looked at.
    conflicts : tuple of Conflict
        The rest.
    """

    first: str
    second: str
    classes: Agreement
    common: int
    agreed: int
    only_first: int
    only_second: int
    conflicts: tuple[Conflict, ...]


def compare(first: Review, second: Review) -> Comparison:
    """Compare two reviews of one run.

    Raises
    ------
    InputError
        See `common_images`.
    """
    conflicts: list[Conflict] = []
    classes, common, only_first, only_second = [], 0, 0, 0
    for one, other in common_images(first, second):
        rows = matched_rows(one, other)
        unseen = _unseen(one, other, rows)
        common += len(rows) + len(unseen[0]) + len(unseen[1])
        only_first += len(one) - len(rows) - len(unseen[0])
        only_second += len(other) - len(rows) - len(unseen[1])
        conflicts += [*_conflicts(one, other, rows), *unseen[0], *unseen[1]]
        both = rows[(one.class_now[rows[:, 0]] != "") & (other.class_now[rows[:, 1]] != "")]
        classes.append((one.class_now[both[:, 0]], other.class_now[both[:, 1]]))
    return Comparison(
        first.reviewer,
        second.reviewer,
        agreement(classes),
        common,
        common - len(conflicts),
        only_first,
        only_second,
        tuple(conflicts),
    )


def _decision(image: ImageReview, row: int) -> str:
    """Tell a decision so that equal ones read alike: how it came about does not count."""
    change = str(image.change[row])
    if change in (CONFIRMED, RECLASSIFIED, ADDED):
        return str(image.class_now[row]) or "a nucleus without class"
    if change == REDRAWN:
        return f"redrawn as {image.class_now[row]}"
    return change


def _conflicts(one: ImageReview, other: ImageReview, rows: Rows) -> list[Conflict]:
    found = []
    for mine, theirs in rows.tolist():
        said = _decision(one, mine), _decision(other, theirs)
        if said[0] != said[1]:
            x, y = one.xy[mine].tolist()
            found.append(Conflict(one.name, one.entry, one.ids[mine], x, y, *said))
    return found


def _unseen(
    one: ImageReview, other: ImageReview, rows: Rows
) -> tuple[list[Conflict], list[Conflict]]:
    """Find nuclei that the first, and that the second, added where the other saw none."""
    found: tuple[list[Conflict], list[Conflict]] = ([], [])
    for person, (mine, theirs) in enumerate(((one, other), (other, one))):
        for row in rows_unseen_by(theirs, mine, rows[:, person]).tolist():
            said = [_NOTHING, _NOTHING]
            said[person] = _decision(mine, row)
            x, y = mine.xy[row].tolist()
            found[person].append(Conflict(one.name, one.entry, mine.ids[row], x, y, *said))
    return found


def merge(
    first: Path, second: Path, reviews: tuple[Review, Review], out: Path, prefer: str | None = None
) -> Review:
    """Write both reviews as one.

    Parameters
    ----------
    first, second : Path
        Their folders.
    reviews : tuple of Review
        What `read_review` gave for them.
    out : Path
        Folder to write.
    prefer : str, optional
        Reviewer whose decisions count where the two disagree; without one such nuclei count as
        not looked at.

    Raises
    ------
    InputError
        When they are about different runs.
    UsageError
        When the preferred one is neither of the two.
    OutputError
        When it cannot be written.
    """
    one, two = reviews
    names = (one.reviewer, two.reviewer)
    if prefer is not None and names[0] == names[1]:
        raise UsageError(
            f"both reviews are by {names[0]}, so --prefer cannot tell them apart",
            "Collect one of them again with another --reviewer.",
        )
    if prefer is not None and prefer not in names:
        raise UsageError(f"--prefer {prefer} is neither reviewer", f"Say {' or '.join(names)}.")
    found = compare(one, two).conflicts
    with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as folder:
        files = merged_files(Path(folder), (first, second), reviews, found, prefer)
        merged = Review(
            reviewer=" + ".join(names),
            collected=datetime.now(UTC).isoformat(timespec="seconds"),
            project=one.project,
            images=tuple(read_corrections(file) for file in files),
            notes=(*one.notes, *two.notes),
            conflicts=tuple({**asdict(item), "settled_by": prefer or ""} for item in found),
        )
        write_review(out, merged, files)
    with whole_file(out / "conflicts.json") as partial:
        partial.write_bytes(orjson.dumps(list(merged.conflicts), option=orjson.OPT_INDENT_2))
    return merged
