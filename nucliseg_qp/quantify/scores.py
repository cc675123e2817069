"""Counts of classes turned into the scores QuPath shows, by QuPath's own formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GRADES", "Scores", "last_part", "score_counts"]

GRADES = ("1+", "2+", "3+")
"""QuPath's intensity classes; with ``Positive`` and ``Negative`` the only ones that score."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one region or image.

    Parameters
    ----------
    positive_percent : float
        100 (Positive + 1+ + 2+ + 3+) / (those + Negative); NaN without any of them.
    h_score : float
        100 (n1 + 2 n2 + 3 n3) / (n1 + n2 + n3 + Negative), 0 to 300; NaN without any of them.
        QuPath shows it only where there are graded classes.
    allred_proportion, allred_intensity, allred_score : int
        0 to 5, 0 to 3 and their sum; 0 without nuclei.
    positive_per_mm2 : float
        QuPath's ``Num Positive per mm^2``, the class ``Positive`` alone; NaN without an area.
    scored_per_mm2 : float
        Positive, graded and negative nuclei per mm2; NaN without an area.
    """

    positive_percent: float
    h_score: float
    allred_proportion: int
    allred_intensity: int
    allred_score: int
    positive_per_mm2: float
    scored_per_mm2: float


def score_counts(counts: Mapping[str, int], area_mm2: float | None = None) -> Scores:
    """Score a region from the number of nuclei of each class.

    The formulas are those of QuPath 0.6 (``DetectionPathClassCounts``, ``ClassDensityValue``),
    over all parent classes together.

    Parameters
    ----------
    counts : mapping of str to int
        Number of nuclei by class name. The last part of a name decides: ``Tumor: 2+`` is a 2+.
        Other classes do not count.
    area_mm2 : float, optional
        Area of the region.

    Returns
    -------
    Scores
        With NaN where QuPath gives NaN.

    Examples
    --------
    >>> from nucliseg_qp import score_counts
    >>> scores = score_counts({"Negative": 40, "1+": 30, "2+": 20, "3+": 10})
    >>> scores.positive_percent, scores.h_score, scores.allred_score
    (60.0, 100.0, 5)
    """
    by_grade = dict.fromkeys(("Negative", "Positive", *GRADES), 0)
    for name, number in counts.items():
        last = last_part(name)
        if last in by_grade:
            by_grade[last] += number
    graded = [by_grade[grade] for grade in GRADES]
    weighted = sum(weight * number for weight, number in enumerate(graded, start=1))
    positive, negative = by_grade["Positive"] + sum(graded), by_grade["Negative"]
    percent = _ratio(positive, positive + negative) * 100
    proportion = _allred_proportion(percent / 100)
    intensity = _allred_intensity(weighted / positive) if proportion else 0
    area = math.nan if area_mm2 is None else area_mm2
    return Scores(
        positive_percent=percent,
        h_score=_ratio(weighted, sum(graded) + negative) * 100,
        allred_proportion=proportion,
        allred_intensity=intensity,
        allred_score=proportion + intensity,
        positive_per_mm2=_ratio(by_grade["Positive"], area),
        scored_per_mm2=_ratio(positive + negative, area),
    )


def last_part(name: str) -> str:
    """Give the part of a QuPath class name that tells its intensity: ``Tumor: 2+`` is ``2+``."""
    return name.rpartition(":")[2].strip()


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _allred_proportion(share: float) -> int:
    # NaN, a region without nuclei, is above none of the limits.
    limits = (1 / 100, 1 / 10, 1 / 3, 2 / 3)
    return 1 + sum(share >= limit for limit in limits) if share > 0 else 0


def _allred_intensity(mean_grade: float) -> int:
    return 3 if mean_grade > 7 / 3 else 2 if mean_grade > 5 / 3 else 1
