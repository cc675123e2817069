"""How far two judges of the same nuclei agree: accuracy, confusion, kappa, errors of scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.quantify.scores import GRADES, last_part, score_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Pair = tuple[NDArray[np.str_], NDArray[np.str_]]

__all__ = ["Agreement", "accuracy", "agreement", "cohens_kappa"]


@dataclass(frozen=True)
class Agreement:
    """One judge against another.

    Parameters
    ----------
    nuclei : int
        Number both judged.
    accuracy : float
        Share with the same class; NaN without nuclei.
    kappa : float
        Cohen's kappa; NaN where chance alone would agree always.
    names : tuple of str
        Classes, the order of the confusion matrix.
    confusion : tuple of tuple of int
        Rows are the first judge, columns the second.
    positive_error, h_error : float
        Mean absolute difference of positive % and H-score over the slides; NaN where QuPath
        gives none.
    """

    nuclei: int
    accuracy: float
    kappa: float
    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    positive_error: float
    h_error: float


def agreement(slides: Sequence[Pair]) -> Agreement:
    """Compare two judges.

    Parameters
    ----------
    slides : sequence of pairs of ndarray of str
        Class of each nucleus by the first and by the second judge, a pair a slide.
    """
    first = np.concatenate([pair[0] for pair in slides] or [np.array([], np.str_)])
    second = np.concatenate([pair[1] for pair in slides] or [np.array([], np.str_)])
    names = np.unique(np.concatenate([first, second]))
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (np.searchsorted(names, first), np.searchsorted(names, second)), 1)
    errors = np.array([_errors(pair) for pair in slides if len(pair[0])]).reshape(-1, 2)
    return Agreement(
        nuclei=len(first),
        accuracy=accuracy(slides),
        kappa=cohens_kappa(matrix),
        names=tuple(names.tolist()),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        positive_error=_mean(errors[:, 0]),
        h_error=_mean(errors[:, 1]),
    )


def accuracy(slides: Sequence[Pair]) -> float:
    """Give the share of nuclei with the same class, NaN without nuclei."""
    total = sum(len(first) for first, _ in slides)
    same = sum(int((first == second).sum()) for first, second in slides)
    return same / total if total else float("nan")


def cohens_kappa(confusion: NDArray[np.int64]) -> float:
    """Give the agreement beyond chance (Cohen, Educ Psychol Meas 1960, 20:37-46).

    Parameters
    ----------
    confusion : ndarray of int64, shape (k, k)
        Counts; rows are one judge, columns the other.
    """
    total = int(confusion.sum())
    if not total:
        return float("nan")
    seen = float(np.trace(confusion)) / total
    chance = float(confusion.sum(axis=0) @ confusion.sum(axis=1)) / total**2
    return (seen - chance) / (1 - chance) if chance < 1 else float("nan")


def _errors(pair: Pair) -> tuple[float, float]:
    counts = [Counter(judge.tolist()) for judge in pair]
    first, second = map(score_counts, counts)
    # QuPath shows an H-score only where there are graded classes.
    is_graded = any(last_part(name) in GRADES for name in counts[0] | counts[1])
    return (
        abs(first.positive_percent - second.positive_percent),
        abs(first.h_score - second.h_score) if is_graded else float("nan"),
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
