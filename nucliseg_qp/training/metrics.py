"""How well points found agree with points annotated.

One-to-one matching of centres within a radius, as in Naumov et al. (EndoNuke, Data 2022), and
average precision at a radius (all points, ranked by score; Everingham et al., VOC, 2010). A
distance suits nuclei, which have one keypoint; OKS, made for skeletons, would add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "Counted",
    "PointScore",
    "average_precision",
    "count_points",
    "greedy_matches",
    "match_points",
    "precision_recall",
    "score_points",
]


@dataclass(frozen=True)
class PointScore:
    """Counts of one-to-one matching, added up over images.

    Attributes
    ----------
    matched, missed, spurious : int
        True positives, false negatives, false positives.
    error_px : float
        Sum of the distances of the matched, in pixels.
    """

    matched: int = 0
    missed: int = 0
    spurious: int = 0
    error_px: float = 0.0

    def __add__(self, other: PointScore) -> PointScore:
        return PointScore(
            self.matched + other.matched,
            self.missed + other.missed,
            self.spurious + other.spurious,
            self.error_px + other.error_px,
        )

    @property
    def precision(self) -> float:
        """Share of the found that are true; 1 when nothing was found."""
        return self.matched / max(1, self.matched + self.spurious) if self.spurious else 1.0

    @property
    def recall(self) -> float:
        """Share of the true that were found; 1 when there was nothing to find."""
        return self.matched / max(1, self.matched + self.missed) if self.missed else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 when there was nothing and nothing found."""
        total = 2 * self.matched + self.missed + self.spurious
        return 2 * self.matched / total if total else 1.0

    @property
    def mean_error_px(self) -> float:
        """Mean distance of the matched, in pixels; NaN when there are none."""
        return self.error_px / self.matched if self.matched else float("nan")


def match_points(truth: Floats, found: Floats, radius_px: float) -> NDArray[np.int64]:
    """Pair points one to one: as many pairs as possible, then the shortest distances.

    Parameters
    ----------
    truth, found : NDArray[np.float64]
        (n, 2 or more) and (m, 2 or more): x, y first.
    radius_px : float
        Largest distance of a pair.

    Returns
    -------
    NDArray[np.int64]
        (k, 2): indices into `truth` and `found`.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if not len(truth) or not len(found):
        return np.zeros((0, 2), np.int64)
    distance = cdist(truth[:, :2], found[:, :2])
    far = radius_px * (min(len(truth), len(found)) + 1)
    rows, columns = linear_sum_assignment(np.where(distance <= radius_px, distance, far))
    near = distance[rows, columns] <= radius_px
    return np.stack([rows[near], columns[near]], axis=1)


def score_points(
    truth: Floats,
    found: Floats,
    radius_px: float,
    size_px: tuple[int, int] | None = None,
    border_px: float = 0.0,
) -> PointScore:
    """Score one image.

    Parameters
    ----------
    truth, found : NDArray[np.float64]
        (n, 2 or more) and (m, 2 or more): x, y first.
    radius_px : float
        Largest distance of a pair.
    size_px : tuple of int, optional
        Width and height; needed for a border strip.
    border_px : float
        Points nearer to the border neither count nor harm, but may be matched: nuclei that the
        border cuts are often not annotated.
    """
    counted = count_points(truth, found, radius_px, size_px, border_px)
    return PointScore(
        len(counted.pairs),
        len(counted.missed),
        len(counted.spurious),
        float(counted.distance_px.sum()),
    )


@dataclass(frozen=True)
class Counted:
    """Which points of an image are matched, missed and spurious.

    Attributes
    ----------
    pairs : NDArray[np.int64]
        (k, 2): rows of true and found points that are matched.
    missed, spurious : NDArray[np.int64]
        Rows of true and of found points without a partner.
    distance_px : NDArray[np.float64]
        (k,) of the pairs.
    """

    pairs: NDArray[np.int64]
    missed: NDArray[np.int64]
    spurious: NDArray[np.int64]
    distance_px: Floats


def count_points(
    truth: Floats,
    found: Floats,
    radius_px: float,
    size_px: tuple[int, int] | None = None,
    border_px: float = 0.0,
) -> Counted:
    """Match the points of one image; the parameters are those of `score_points`."""
    pairs = match_points(truth, found, radius_px)
    counted_truth = _is_inside(truth, size_px, border_px)
    counted_found = _is_inside(found, size_px, border_px)
    distance = np.linalg.norm(truth[pairs[:, 0], :2] - found[pairs[:, 1], :2], axis=1)
    inner = counted_truth[pairs[:, 0]]
    counted_truth[pairs[:, 0]] = False
    counted_found[pairs[:, 1]] = False
    return Counted(
        pairs[inner], np.flatnonzero(counted_truth), np.flatnonzero(counted_found), distance[inner]
    )


def _is_inside(
    points: Floats, size_px: tuple[int, int] | None, border_px: float
) -> NDArray[np.bool_]:
    inside = np.ones(len(points), bool)
    if size_px is None or not border_px:
        return inside
    for axis in range(2):
        inside &= points[:, axis] >= border_px
        inside &= points[:, axis] <= size_px[axis] - border_px
    return inside


def average_precision(
    truths: Sequence[Floats], founds: Sequence[Floats], radius_px: float
) -> float:
    """Area under the precision-recall curve of all images together.

    Parameters
    ----------
    truths, founds : sequence of NDArray[np.float64]
        Per image (n, 2 or more) and (m, 3): x, y, score.
    radius_px : float
        The best-scored point takes the nearest free truth within this distance.
    """
    hits = [greedy_matches(t, f, radius_px) >= 0 for t, f in zip(truths, founds, strict=True)]
    scores = np.concatenate([found[:, 2] for found in founds]) if founds else np.zeros(0)
    total = sum(len(truth) for truth in truths)
    if not total or not len(scores):
        return 0.0
    recall, precision = precision_recall(np.concatenate(hits), scores, total)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(hit: NDArray[np.bool_], score: Floats, total: int) -> tuple[Floats, Floats]:
    """Give the precision-recall curve of found points.

    Parameters
    ----------
    hit, score : NDArray
        (m,) whether each found point is true, and its score.
    total : int
        Number of true points.

    Returns
    -------
    tuple of NDArray[np.float64]
        (m,) recall, rising, and the best precision at this or a higher recall (VOC's envelope).
    """
    gained = np.cumsum(hit[np.argsort(-score, kind="stable")])
    precision = gained / np.arange(1, len(hit) + 1)
    return gained / max(1, total), np.maximum.accumulate(precision[::-1])[::-1]


def greedy_matches(truth: Floats, found: Floats, radius_px: float) -> NDArray[np.int64]:
    """Match as average precision does: the best-scored point takes the nearest free truth.

    Parameters
    ----------
    truth, found : NDArray[np.float64]
        (n, 2 or more) and (m, 3): x, y, score.
    radius_px : float
        Largest distance of a pair.

    Returns
    -------
    NDArray[np.int64]
        (m,) row of the truth each found point took, -1 for none.
    """
    from scipy.spatial import cKDTree

    taken = np.full(len(found), -1, np.int64)
    if not len(truth) or not len(found):
        return taken
    near = cKDTree(truth[:, :2]).query_ball_point(found[:, :2], radius_px)
    free = np.ones(len(truth), bool)
    for index in np.argsort(-found[:, 2], kind="stable"):
        options = [i for i in near[index] if free[i]]
        if options:
            gaps = np.linalg.norm(truth[options, :2] - found[index, :2], axis=1)
            taken[index] = options[int(np.argmin(gaps))]
            free[taken[index]] = False
    return taken
