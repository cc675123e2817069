"""What a keypoint model finds in annotated images, and how right it is, for the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nucliseg_qp.keypoints.model import KeypointModel
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.data import LabelledImage, resized
from nucliseg_qp.training.metrics import PointScore, average_precision, score_points
from nucliseg_qp.training.validate import detect_whole

LOWEST = 0.02
"""Points with a smaller score are not looked at."""

THRESHOLDS = np.round(np.arange(0.1, 0.81, 0.02), 2)


def find(model: KeypointModel, item: LabelledImage, mpp: float) -> np.ndarray:
    """Find the nuclei of an image of this um per pixel: (k, 3) x, y in its pixels and score."""
    runner = KeypointRunner(model, pick_device("auto"), threshold=LOWEST)
    small = resized(item, mpp / model.info.mpp)
    scale = np.array(item.image.shape[1::-1]) / small.image.shape[1::-1]
    return detect_whole(runner, small.image) * [*scale, 1.0]


def precision_at(
    items: Sequence[LabelledImage], found: Sequence[np.ndarray], radius_px: float
) -> float:
    """Give average precision within a radius in pixels of an image scaled to 256 px width."""
    units = [256.0 / item.image.shape[1] / radius_px for item in items]
    truths = [item.points * unit for item, unit in zip(items, units, strict=True)]
    scaled = [one * [unit, unit, 1.0] for one, unit in zip(found, units, strict=True)]
    return average_precision(truths, scaled, 1.0)


def f1_at(
    items: Sequence[LabelledImage],
    found: Sequence[np.ndarray],
    threshold: float,
    radius_px: float,
    border_px: float,
) -> float:
    """Match one to one at a threshold, all images together."""
    total = PointScore()
    for item, one in zip(items, found, strict=True):
        kept = one[one[:, 2] >= threshold]
        total += score_points(item.points, kept, radius_px, item.image.shape[1::-1], border_px)
    return total.f1


def best_f1(
    items: Sequence[LabelledImage],
    found: Sequence[np.ndarray],
    radius_px: float,
    border_px: float,
) -> tuple[float, float]:
    """Give the best F1 of all thresholds, and the threshold."""
    scores = [f1_at(items, found, float(least), radius_px, border_px) for least in THRESHOLDS]
    best = int(np.argmax(scores))
    return scores[best], float(THRESHOLDS[best])
