"""How people and engine agree, over time, and which nuclei are worth the next hour.

The worth of a nucleus nobody looked at is how likely its class is wrong, learnt from the reviewed
nuclei of similar margin, times by how much its annotation's positive % would change.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.palette.classes import CLASS_MARGIN
from nucliseg_qp.review.agreement import Agreement, agreement
from nucliseg_qp.review.compare import Comparison, compare
from nucliseg_qp.review.report_picture import report_svg
from nucliseg_qp.review.verdicts import ADDED, CONFIRMED, DELETED, RECLASSIFIED, REDRAWN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.review.folder import Review

__all__ = [
    "AgainstEngine",
    "MarginBin",
    "ReviewReport",
    "WorthANucleus",
    "report",
    "write_review_report",
]

LISTED = 1000
_LEAST = 30
_BINS = 8


@dataclass(frozen=True)
class AgainstEngine:
    """One review against the engine.

    Parameters
    ----------
    reviewer, collected : str
        Who and when.
    classes : Agreement
        The engine's classes against the person's, of nuclei that are there.
    looked_at, not_looked_at : int
        Nuclei.
    false_positive, missed : int
        Deleted and added nuclei.
    precision, recall : float
        Of finding nuclei, among those looked at; NaN without any. Recall is only told where there
        are reviewed areas: elsewhere nobody looked for what was missed.
    """

    reviewer: str
    collected: str
    classes: Agreement
    looked_at: int
    not_looked_at: int
    false_positive: int
    missed: int
    precision: float
    recall: float


@dataclass(frozen=True)
class WorthANucleus:
    """A nucleus nobody looked at.

    Parameters
    ----------
    image, id : str
        Which.
    x, y : float
        Where, in pixels.
    class_name : str
        The engine's.
    margin : float
        By how much that class won.
    doubt : float
        How likely the class is wrong, 0 to 1.
    worth : float
        Expected change of the annotation's positive %, in percentage points.
    """

    image: str
    id: str
    x: float
    y: float
    class_name: str
    margin: float
    doubt: float
    worth: float


@dataclass(frozen=True)
class MarginBin:
    """Reviewed nuclei of similar margin.

    Parameters
    ----------
    lowest, mean, highest : float
        Their margins.
    nuclei, changed : int
        How many, and of how many somebody changed the class.
    """

    lowest: float
    mean: float
    highest: float
    nuclei: int
    changed: int


@dataclass(frozen=True)
class ReviewReport:
    """What `report` gives.

    Parameters
    ----------
    engine : tuple of AgainstEngine
        Each review against the engine, by time.
    people : tuple of Comparison
        Each two reviews of the same run.
    next_hour : tuple of WorthANucleus
        Best first.
    margins : tuple of MarginBin
        Reviewed nuclei in equal parts by margin, the smallest first.
    """

    engine: tuple[AgainstEngine, ...]
    people: tuple[Comparison, ...]
    next_hour: tuple[WorthANucleus, ...]
    margins: tuple[MarginBin, ...]


def report(reviews: Sequence[Review]) -> ReviewReport:
    """Compare everybody with the engine and with each other.

    Reviews of different runs are not compared with each other.
    """
    ordered = sorted(reviews, key=lambda one: one.collected)
    people = []
    for number, one in enumerate(ordered):
        for other in ordered[number + 1 :]:
            try:
                people.append(compare(one, other))
            except InputError:
                # Another run or another project: there is nothing to compare.
                continue
    engine = tuple(_against_engine(one) for one in ordered)
    margins = _by_margin(ordered)
    return ReviewReport(engine, tuple(people), tuple(_next_hour(ordered, margins)), margins)


def _against_engine(review: Review) -> AgainstEngine:
    images = review.images
    pairs = [(one.class_before[one.judged()], one.class_now[one.judged()]) for one in images]
    counts = {name: sum(one.counts[name] for one in images) for name in images[0].counts}
    right = counts[CONFIRMED] + counts[RECLASSIFIED] + counts[REDRAWN]
    nuclei = sum(one.nuclei_of_run for one in images)
    has_areas = any(one.areas for one in images)
    return AgainstEngine(
        reviewer=review.reviewer,
        collected=review.collected,
        classes=agreement(pairs),
        looked_at=review.looked_at,
        not_looked_at=nuclei - right - counts[DELETED],
        false_positive=counts[DELETED],
        missed=counts[ADDED],
        precision=_share(right, counts[DELETED]),
        recall=_share(right, counts[ADDED]) if has_areas else float("nan"),
    )


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else float("nan")


def _next_hour(reviews: Sequence[Review], margins: Sequence[MarginBin]) -> list[WorthANucleus]:
    looked = {id_ for review in reviews for one in review.images for id_ in one.ids}
    doubt = _Doubt(margins)
    found: dict[str, WorthANucleus] = {}
    for review in reviews:
        for image in review.images:
            sizes = {one.id: one.nuclei for one in image.annotations}
            total = max(1, sum(image.classes.values()))
            for one in image.open:
                if one.id in looked:
                    continue
                wrong = doubt.of(one.margin)
                worth = 100 * wrong / max(1, sizes.get(one.annotation, total))
                place = (image.name, one.id, one.x, one.y, one.class_name, one.margin)
                found[one.id] = WorthANucleus(*place, wrong, worth)
    return sorted(found.values(), key=lambda one: (-one.worth, one.margin))[:LISTED]


class _Doubt:
    """How often the class was wrong at a margin, falling with it."""

    def __init__(self, margins: Sequence[MarginBin]) -> None:
        known = margins if sum(one.nuclei for one in margins) >= _LEAST else ()
        self._edges = np.array([one.mean for one in known])
        rates = [(one.changed + 1) / (one.nuclei + 2) for one in known]
        self._rates = np.minimum.accumulate(rates)

    def of(self, margin: float) -> float:
        """Give the probability that the class is wrong."""
        if not len(self._edges):
            # Nothing is known yet: a coin toss at no margin, less with more.
            return 0.5 / (1.0 + 10.0 * max(margin, 0.0))
        return float(np.interp(margin, self._edges, self._rates))


def _by_margin(reviews: Sequence[Review]) -> tuple[MarginBin, ...]:
    margins, changed = _margins(reviews)
    if not len(margins):
        return ()
    order = np.argsort(margins, kind="stable")
    parts = np.array_split(order, np.clip(len(order) // 10, 1, _BINS))
    return tuple(
        MarginBin(
            lowest=float(margins[part[0]]),
            mean=float(margins[part].mean()),
            highest=float(margins[part[-1]]),
            nuclei=len(part),
            changed=int(changed[part].sum()),
        )
        for part in parts
    )


def _margins(reviews: Sequence[Review]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    margins, wrong = [np.empty(0)], [np.empty(0, bool)]
    for review in reviews:
        for image in review.images:
            column = image.measurements.get(CLASS_MARGIN)
            if column is None:
                continue
            rows = image.judged() & np.isfinite(column)
            margins.append(column[rows].astype(np.float64))
            wrong.append(image.class_before[rows] != image.class_now[rows])
    return np.concatenate(margins), np.concatenate(wrong)


def write_review_report(found: ReviewReport, out: Path) -> Path:
    """Write ``review_report.json``, ``review_report.svg`` and ``next_hour.csv``.

    Raises
    ------
    OutputError
        When they cannot be written.
    """
    make_folder(out)
    content: dict[str, Any] = {**asdict(found), "next_hour": len(found.next_hour)}
    path = out / "review_report.json"
    with whole_file(path) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    with whole_file(out / "review_report.svg") as partial:
        partial.write_text(report_svg(found), encoding="utf-8")
    with whole_file(out / "next_hour.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(WorthANucleus.__dataclass_fields__)
        writer.writerows(asdict(one).values() for one in found.next_hour)
    return path
