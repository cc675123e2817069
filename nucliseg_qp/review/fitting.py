"""A palette from examples; the old one stays unless examples it has not seen say otherwise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.palette.rules import NearestColour, OpticalDensity, hsv_point
from nucliseg_qp.review.colours import GROUPS, fit_references
from nucliseg_qp.review.judged import JudgedRows, check_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.palette.classes import Palette
    from nucliseg_qp.palette.rules import Rule

    Fit = Callable[["JudgedRows"], "Rule"]

__all__ = ["fit_palette", "joined"]

_FOLDS = 5


def fit_palette(base: Palette, slides: Sequence[JudgedRows], keep: Sequence[str] = ()) -> Palette:
    """Fit the rule of a palette to reviewed nuclei.

    What is tried (the old rule, and new ones with one to four references a class) is compared on
    slides it was not fitted to, or, with one slide, on nuclei. The old rule stays unless a new one
    is better by more than chance explains.

    Parameters
    ----------
    base : Palette
        Gives the classes, the kind of rule, and what is kept.
    slides : sequence of JudgedRows
        From `judged_rows`.
    keep : sequence of str
        Classes whose references or lower threshold stay.

    Raises
    ------
    InputError
        When a class has too few nuclei.
    """
    filled = [rows for rows in slides if len(rows.truth)]
    fitted = check_classes(slides, base, keep)
    tried = _candidates(base.rule, fitted)
    folds = _folds(filled)
    old, *new = (_right(fit, folds, base) for fit in tried)
    # The first of equals: the one with fewest references.
    best = int(np.argmax([right.sum() for right in new]))
    if not _is_better(old, new[best]):
        return base
    return replace(base, rule=tried[1 + best](joined(filled)))


def _is_better(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> bool:
    """Tell whether a rule mends more nuclei than it spoils by more than chance explains.

    Of nuclei that only one of the two has right, chance gives each half; the surplus is asked to
    be two standard deviations (McNemar, Psychometrika 1947, 12:153-157).
    """
    mended, spoilt = int((new & ~old).sum()), int((old & ~new).sum())
    return mended - spoilt > 2 * math.sqrt(mended + spoilt)


def joined(slides: Sequence[JudgedRows]) -> JudgedRows:
    """Put the nuclei of several slides into one table."""
    names = set.intersection(*(set(rows.features) for rows in slides))
    return JudgedRows(
        slides[0].slide,
        {name: np.concatenate([rows.features[name] for rows in slides]) for name in names},
        np.concatenate([rows.truth for rows in slides]),
        sum(rows.left_out for rows in slides),
    )


def _folds(slides: Sequence[JudgedRows]) -> list[tuple[JudgedRows, JudgedRows]]:
    """Give what to fit to and what to judge by."""
    if len(slides) > 1:
        return [(joined([rows for rows in slides if rows is not held]), held) for held in slides]
    [rows] = slides
    number = np.empty(len(rows.truth), np.int64)
    number[np.lexsort((_shuffled(len(rows.truth)), rows.truth))] = np.arange(len(rows.truth))
    parts = number % _FOLDS
    return [(rows.take(parts != one), rows.take(parts == one)) for one in range(_FOLDS)]


def _shuffled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)


def _right(
    fit: Fit, folds: list[tuple[JudgedRows, JudgedRows]], base: Palette
) -> NDArray[np.bool_]:
    """Tell of each held-out nucleus whether its class is right."""
    right = []
    for learn, held in folds:
        rule = base.rule if len(np.unique(learn.truth)) < 2 else fit(learn)
        right.append(rule.classify(held.features)[0] == held.truth)
    return np.concatenate(right)


def _candidates(old: Rule, fitted: NDArray[np.bool_]) -> list[Fit]:
    tried: list[Fit] = [lambda _: old]
    if isinstance(old, NearestColour):
        tried += [_colour_fit(old, groups, fitted) for groups in GROUPS]
    if isinstance(old, OpticalDensity):
        tried.append(lambda rows: _thresholds(rows, old, fitted))
    if len(tried) == 1:
        raise InputError(
            f"a rule of kind {type(old).__name__} cannot be fitted to reviews",
            "Use a palette whose rule is nearest-color or optical-density.",
        )
    return tried


def _colour_fit(old: NearestColour, groups: int, fitted: NDArray[np.bool_]) -> Fit:
    def fit(rows: JudgedRows) -> Rule:
        points = hsv_point(*(rows.features[name] for name in old.measurements))
        return fit_references(points, rows.truth, old, groups, fitted)

    return fit


def _thresholds(rows: JudgedRows, old: OpticalDensity, fitted: NDArray[np.bool_]) -> Rule:
    """Put each threshold where fewest examples lie on the wrong side: slips move nothing."""
    value = np.asarray(rows.features[old.measurement], np.float64)
    found = old.thresholds.copy()
    lower = -np.inf
    for number in range(len(found)):
        has_both = (rows.truth == number).any() and (rows.truth > number).any()
        if fitted[number + 1] and has_both:
            found[number] = _best_cut(value, rows.truth > number, lower, float(found[number]))
        found[number] = max(found[number], np.nextafter(lower, np.inf))
        lower = float(found[number])
    return replace(old, thresholds=found)


def _best_cut(
    value: NDArray[np.float64], above: NDArray[np.bool_], lower: float, old: float
) -> float:
    order = np.argsort(value, kind="stable")
    ordered, sides = value[order], above[order]
    # Cutting before example i leaves the positives before i and the negatives from i on wrong.
    wrong = np.concatenate([[0], np.cumsum(sides)]) + np.concatenate(
        [np.cumsum(~sides[::-1])[::-1], [0]]
    )
    edges = np.concatenate([[ordered[0] - 0.01], ordered, [ordered[-1] + 0.01]])
    cuts = (edges[:-1] + edges[1:]) / 2
    allowed = cuts > lower
    if not allowed.any():
        return old
    fewest = wrong[allowed].min()
    best = np.flatnonzero(allowed & (wrong == fewest))
    gaps = edges[best + 1] - edges[best]
    return round(float(cuts[best[int(np.argmax(gaps))]]), 4)
