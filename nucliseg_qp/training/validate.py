"""Held-out images, how a model does on them, and the one threshold that suits them all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.canvases import (
    Canvas,
    CanvasSource,
    FluorescenceSource,
    RecolouredSource,
    SyntheticSource,
    TileSource,
)
from nucliseg_qp.training.metrics import PointScore, average_precision, score_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.training.data import LabelledImage

__all__ = [
    "Scored",
    "Validation",
    "choose_threshold",
    "detect_whole",
    "judges",
    "validation_set",
]

_RADIUS_UM = 3.3
_BORDER_UM = 3.6
_LOWEST = 0.05
_THRESHOLDS = np.round(np.arange(0.1, 0.71, 0.02), 3)
_CANVAS_PX = 256
_ENOUGH_OWN = 50
"""Nuclei; F1 of fewer is too noisy to choose by."""


@dataclass(frozen=True)
class Validation:
    """Images held out of training, by source."""

    endonuke: Sequence[LabelledImage] = ()
    tissue: Sequence[LabelledImage] = ()
    fluorescence: Sequence[LabelledImage] = ()
    own: Sequence[LabelledImage] = ()


@dataclass
class Scored:
    """What is true and what was found in the fields of one source."""

    truths: list[NDArray[np.float64]] = field(default_factory=list)
    founds: list[NDArray[np.float64]] = field(default_factory=list)
    sizes_px: list[tuple[int, int]] = field(default_factory=list)

    def at(self, threshold: float, radius_px: float, border_px: float) -> PointScore:
        """Score all fields together at a threshold."""
        total = PointScore()
        for truth, found, size_px in zip(self.truths, self.founds, self.sizes_px, strict=True):
            kept = found[found[:, 2] >= threshold]
            total += score_points(truth, kept, radius_px, size_px, border_px)
        return total


def validation_set(held_out: Validation, mpp: float, seed: int) -> dict[str, list[Canvas]]:
    """Draw fixed canvases from the held-out images and new synthetic fields.

    EndoNuke and own tiles come as they are, each once; the others at a plausible scale.
    """
    rng = np.random.default_rng([seed, 977])
    drawn: dict[str, list[Canvas]] = {}
    if held_out.endonuke:
        drawn["endonuke"] = [_whole(item, mpp) for item in held_out.endonuke]
    if held_out.own:
        drawn["own"] = [_whole(item, mpp) for item in held_out.own]
    sources: dict[str, tuple[CanvasSource, int]] = {"synthetic": (SyntheticSource(), 12)}
    if held_out.tissue:
        sources["tissue"] = (TileSource(held_out.tissue), 12)
        sources["recoloured"] = (RecolouredSource(held_out.tissue), 12)
    if held_out.fluorescence:
        sources["fluorescence"] = (FluorescenceSource(held_out.fluorescence), 8)
    for name, (source, count) in sources.items():
        drawn[name] = [source.draw(rng, _CANVAS_PX, mpp) for _ in range(count)]
    return drawn


def _whole(item: LabelledImage, mpp: float) -> Canvas:
    from nucliseg_qp.training.data import resized

    small = resized(item, (item.mpp or 100.0 / item.image.shape[1]) / mpp)
    weight = np.full((*small.image.shape[:2], 1), 255, np.uint8)
    if small.trusted is not None:
        weight[~small.trusted] = 0
    return Canvas(np.concatenate([small.image, weight], 2), small.points.astype(np.float32))


def judges(fields: dict[str, list[Canvas]]) -> list[str]:
    """Name the sources a threshold is chosen by: one's own tiles alone, if they are enough.

    That is 50 nuclei; painted fields look unlike them. Else all H-DAB sources judge.

    Parameters
    ----------
    fields
        From `validation_set`.
    """
    own = fields.get("own", [])
    if sum(len(_trusted(field.points, field)) for field in own) >= _ENOUGH_OWN:
        return ["own"]
    return [name for name in fields if name != "tissue"]


def choose_threshold(
    model: KeypointModel, fields: dict[str, list[Canvas]]
) -> tuple[float, dict[str, float]]:
    """Find the threshold with the best mean F1 over those that judge, and all figures at it.

    Parameters
    ----------
    model
        To be judged; its own threshold is ignored.
    fields
        From `validation_set`.
    """
    radius_px, border_px = _RADIUS_UM / model.info.mpp, _BORDER_UM / model.info.mpp
    scored = {name: _run(model, canvases) for name, canvases in fields.items()}
    chosen_by = [scored[name] for name in judges(fields)]
    means = [
        np.mean([part.at(float(t), radius_px, border_px).f1 for part in chosen_by])
        for t in _THRESHOLDS
    ]
    threshold = float(_THRESHOLDS[int(np.argmax(means))])
    metrics: dict[str, float] = {}
    for name, part in scored.items():
        score = part.at(threshold, radius_px, border_px)
        metrics[f"{name}_f1"] = round(score.f1, 4)
        metrics[f"{name}_precision"] = round(score.precision, 4)
        metrics[f"{name}_recall"] = round(score.recall, 4)
        metrics[f"{name}_error_um"] = round(score.mean_error_px * model.info.mpp, 3)
        metrics[f"{name}_ap"] = round(average_precision(part.truths, part.founds, radius_px), 4)
    return threshold, {key: value for key, value in metrics.items() if math.isfinite(value)}


def _run(model: KeypointModel, canvases: list[Canvas]) -> Scored:
    runner = KeypointRunner(model, pick_device("auto"), threshold=_LOWEST)
    scored = Scored()
    for canvas in canvases:
        found = detect_whole(runner, canvas.rgbw[..., :3])
        truth = canvas.points.astype(np.float64)
        scored.truths.append(_trusted(truth, canvas))
        scored.founds.append(_trusted(found, canvas))
        scored.sizes_px.append((canvas.rgbw.shape[1], canvas.rgbw.shape[0]))
    return scored


def _trusted(points: NDArray[Any], canvas: Canvas) -> NDArray[np.float64]:
    height, width = canvas.rgbw.shape[:2]
    column, row = np.floor(points[:, 0]).astype(int), np.floor(points[:, 1]).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    weight = canvas.rgbw[row.clip(0, height - 1), column.clip(0, width - 1), 3]
    return np.asarray(points[inside & (weight == 255)], np.float64)


def detect_whole(runner: KeypointRunner, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Detect in an image of any size: white is added to the right and below.

    Returns
    -------
    NDArray[np.float64]
        (k, 3): x, y, score, inside the image.
    """
    height, width = image.shape[:2]
    padding = ((0, -height % 8), (0, -width % 8), (0, 0))
    padded = np.pad(image, padding, constant_values=255)
    found = runner.detect(padded[None])[0]
    return np.asarray(found[(found[:, 0] <= width) & (found[:, 1] <= height)], np.float64)
