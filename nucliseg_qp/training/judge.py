"""How a model does on converted tiles: every figure of `evaluate`, without any drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import UsageError
from nucliseg_qp.keypoints.runtime import KeypointRunner
from nucliseg_qp.training.data import resized
from nucliseg_qp.training.metrics import (
    PointScore,
    average_precision,
    count_points,
    greedy_matches,
    precision_recall,
)
from nucliseg_qp.training.staining import STAININGS, staining_at, staining_of
from nucliseg_qp.training.validate import detect_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.keypoints.runtime import Device
    from nucliseg_qp.training.coco import CocoTile
    from nucliseg_qp.training.metrics import Counted

    Floats = NDArray[np.float64]

__all__ = [
    "RADII",
    "SEAM_UM",
    "THRESHOLDS",
    "Judged",
    "Matching",
    "class_figures",
    "counted_at",
    "curve",
    "figures",
    "judge",
    "score_at",
]

LOWEST = 0.02
"""Points with a smaller score are not looked at, also for average precision."""

SEAM_UM = 3.6
"""Of a nucleus this near to a seam most lies in the next tile; a radius and a little more."""

THRESHOLDS = np.round(np.arange(0.04, 0.97, 0.02), 2)

RADII: dict[str, Callable[[Judged], float]] = {
    "ap_4px": lambda one: 4.0 * one.tile.side_px / 256,
    "ap_8px": lambda one: 8.0 * one.tile.side_px / 256,
    "ap_2um": lambda one: 2.0 / one.mpp,
    "ap_4um": lambda one: 4.0 / one.mpp,
}
"""Matching radius, in pixels of the tile, of each average precision."""


@dataclass(frozen=True)
class Judged:
    """What is true and what was found in one tile; points whose annotation does not count are out.

    Attributes
    ----------
    tile : CocoTile
        The tile.
    truth : NDArray[np.float64]
        (k, 2) in pixels of the tile.
    found : NDArray[np.float64]
        (m, 3): x, y, score.
    truth_staining, found_staining : NDArray[np.int64]
        Index into `STAININGS` of each.
    """

    tile: CocoTile
    truth: Floats
    found: Floats
    truth_staining: NDArray[np.int64]
    found_staining: NDArray[np.int64]

    @property
    def mpp(self) -> float:
        """The tile's um per pixel."""
        return self.tile.item.mpp or math.nan

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the tile."""
        height, width = self.tile.item.image.shape[:2]
        return width, height


@dataclass(frozen=True)
class Matching:
    """When a found nucleus is a true one, for F1.

    Attributes
    ----------
    radius_um : float
        Largest distance between the two.
    border_um : float, optional
        Nuclei nearer to the border of their tile neither count nor harm. When not given, `SEAM_UM`
        for tiles that were cut from a larger image, 0 for whole images.

    Raises
    ------
    UsageError
        When the radius is not above 0, the border below 0, or one of them no finite number.
    """

    radius_um: float = 3.3
    border_um: float | None = None

    def __post_init__(self) -> None:
        """Refuse lengths that are none."""
        if not 0 < self.radius_um < math.inf:
            raise UsageError(f"--radius-um {self.radius_um:g} is no distance", "Give um, as in 3.3")
        if self.border_um is not None and not 0 <= self.border_um < math.inf:
            raise UsageError(f"--border-um {self.border_um:g} is no width", "Give um, 0 or more")

    def border_of(self, tile: CocoTile) -> float:
        """Give the width in um of the strip of a tile that does not count."""
        if self.border_um is not None:
            return self.border_um
        return SEAM_UM if tile.is_cut else 0.0


def judge(
    model: KeypointModel,
    tiles: Sequence[CocoTile],
    device: Device,
    advance: Callable[[str, int], None] | None = None,
) -> list[Judged]:
    """Run a model on tiles, each brought to the resolution the model works at."""
    runner = KeypointRunner(model, device, threshold=LOWEST)
    judged = []
    for tile in tiles:
        judged.append(_judge_one(runner, tile))
        if advance is not None:
            advance(tile.item.name, len(judged[-1].truth))
    return judged


def _judge_one(runner: KeypointRunner, tile: CocoTile) -> Judged:
    item, mpp = tile.item, tile.item.mpp or runner.info.mpp
    small = resized(item, mpp / runner.info.mpp)
    scale = np.array([item.image.shape[1], item.image.shape[0]]) / small.image.shape[1::-1]
    found = detect_whole(runner, small.image) * [*scale, 1.0]
    counts, sure = _counts(tile, item.points), _counts(tile, found)
    named = staining_of(tile.classes, staining_at(item.image, item.points, mpp))
    seen = staining_at(item.image, found, mpp)
    return Judged(tile, item.points[counts], found[sure], named[counts], seen[sure])


def _counts(tile: CocoTile, points: Floats) -> NDArray[np.bool_]:
    trusted = tile.item.trusted
    if trusted is None:
        return np.ones(len(points), bool)
    column = np.clip(points[:, 0].astype(int), 0, trusted.shape[1] - 1)
    row = np.clip(points[:, 1].astype(int), 0, trusted.shape[0] - 1)
    return np.asarray(trusted[row, column], np.bool_)


def counted_at(one: Judged, threshold: float, how: Matching) -> tuple[Floats, Counted]:
    """Give the points of a tile at a threshold, (m, 3), and what counts of them and of the truth.

    Every figure of F1 and every picture comes from here.
    """
    kept = one.found[:, 2] >= threshold
    border_px = how.border_of(one.tile) / one.mpp
    counted = count_points(
        one.truth, one.found[kept], how.radius_um / one.mpp, one.size_px, border_px
    )
    return one.found[kept], counted


def score_at(judged: Sequence[Judged], threshold: float, how: Matching) -> PointScore:
    """Match one to one at a threshold, all tiles together; the error is in um."""
    total = PointScore()
    for one in judged:
        _, counted = counted_at(one, threshold, how)
        error_um = float(counted.distance_px.sum()) * one.mpp
        matched, missed, spurious = counted.pairs, counted.missed, counted.spurious
        total += PointScore(len(matched), len(missed), len(spurious), error_um)
    return total


def figures(judged: Sequence[Judged], threshold: float, how: Matching) -> dict[str, float]:
    """Give every figure of some tiles.

    Returns
    -------
    dict of str to float
        ``tiles``, ``nuclei``; ``ap_4px``, ``ap_8px`` (of a tile scaled to 256 px), ``ap_2um``,
        ``ap_4um``; ``f1``, ``precision``, ``recall``, ``error_um`` (mean distance of the matched)
        at the threshold; ``best_f1`` and ``best_threshold`` of a sweep.
    """
    score = score_at(judged, threshold, how)
    sweep = [score_at(judged, float(value), how).f1 for value in THRESHOLDS]
    best = int(np.argmax(sweep))
    return {
        "tiles": len(judged),
        "nuclei": sum(len(one.truth) for one in judged),
        **{name: _ap(judged, radius) for name, radius in RADII.items()},
        "f1": score.f1,
        "precision": score.precision,
        "recall": score.recall,
        "error_um": score.mean_error_px,
        "best_f1": sweep[best],
        "best_threshold": float(THRESHOLDS[best]),
    }


def _ap(judged: Sequence[Judged], radius_px: Callable[[Judged], float]) -> float:
    # Radii differ from tile to tile, so lengths are told in radii.
    truths = [one.truth / radius_px(one) for one in judged]
    founds = [one.found / [radius_px(one), radius_px(one), 1.0] for one in judged]
    return average_precision(truths, founds, 1.0)


def class_figures(
    judged: Sequence[Judged], threshold: float, how: Matching
) -> dict[str, dict[str, float]]:
    """Give recall, error and average precision of each staining class.

    The detector knows no classes: a found point that matches a nucleus has that nucleus's class,
    one that matches none has the class its own disc shows.
    """
    result = {}
    for index, name in enumerate(STAININGS):
        values: dict[str, float] = {"nuclei": 0}
        values["nuclei"] = sum(int((one.truth_staining == index).sum()) for one in judged)
        values |= {key: _class_ap(judged, index, radius) for key, radius in RADII.items()}
        result[name] = values | _class_score(judged, index, threshold, how)
    return result


def _class_ap(judged: Sequence[Judged], index: int, radius_px: Callable[[Judged], float]) -> float:
    hits, scores, total = [np.zeros(0, bool)], [np.zeros(0)], 0
    for one in judged:
        taken = greedy_matches(one.truth, one.found, radius_px(one))
        kind = (
            np.where(taken >= 0, one.truth_staining[taken], one.found_staining)
            if len(one.truth)
            else one.found_staining
        )
        hits.append((taken >= 0)[kind == index])
        scores.append(one.found[kind == index, 2])
        total += int((one.truth_staining == index).sum())
    recall, precision = precision_recall(np.concatenate(hits), np.concatenate(scores), total)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision)) if total else math.nan


def _class_score(
    judged: Sequence[Judged], index: int, threshold: float, how: Matching
) -> dict[str, float]:
    score = PointScore()
    for one in judged:
        _, counted = counted_at(one, threshold, how)
        seen = one.found_staining[one.found[:, 2] >= threshold]
        own = one.truth_staining[counted.pairs[:, 0]] == index
        score += PointScore(
            int(own.sum()),
            int((one.truth_staining[counted.missed] == index).sum()),
            int((seen[counted.spurious] == index).sum()),
            float(counted.distance_px[own].sum()) * one.mpp,
        )
    return {
        "f1": score.f1,
        "precision": score.precision,
        "recall": score.recall,
        "error_um": score.mean_error_px,
    }


def curve(judged: Sequence[Judged], key: str) -> tuple[Floats, Floats]:
    """Give recall and precision of all tiles together at the radius of one of `RADII`."""
    radius_px = RADII[key]
    hits = [greedy_matches(one.truth, one.found, radius_px(one)) >= 0 for one in judged]
    scores = [one.found[:, 2] for one in judged]
    total = sum(len(one.truth) for one in judged)
    if not judged:
        return np.zeros(0), np.zeros(0)
    return precision_recall(np.concatenate(hits), np.concatenate(scores), total)
