"""Which weights and threshold to take after fine-tuning: enough of the new, little forgotten.

Fine-tuned weights forget; weights between those of the start and the tuned ones forget less
(Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.keypoints.model import KeypointModel
from nucliseg_qp.keypoints.runtime import pick_device
from nucliseg_qp.training.coco import CocoTile
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.judge import Matching, judge, score_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Tiles = Sequence[CocoTile]

__all__ = ["Choice", "choose", "f1_of", "mixed", "painted"]

SHARES = (0.25, 0.375, 0.5, 0.75, 1.0)
"""How far from the start to the tuned weights."""
THRESHOLD_STEPS = (0.0, -0.06, -0.12, 0.06)
"""By how much the threshold may differ from the start's: a model that is unsure of a new look
scores its nuclei low."""
GUARD_LOSS = 0.005
"""F1 that a choice may cost on a guard: half of what is accepted in the end."""
GUARD_FIELDS, GUARD_PX = 12, 320


@dataclass(frozen=True)
class Choice:
    """A mixture of start and tuned weights with a threshold.

    Attributes
    ----------
    share : float
        How far from the start to the tuned weights; 0 when nothing is better than the start.
    model : KeypointModel
        The mixture.
    gain : float
        Of F1 on own images.
    """

    share: float
    model: KeypointModel
    gain: float


def choose(
    start: KeypointModel, trained: KeypointModel, own: Tiles, guards: Sequence[Tiles]
) -> Choice:
    """Go no further from the start than half of what could be gained on own images needs.

    Parameters
    ----------
    start, trained : KeypointModel
        Before and after training.
    own : sequence of CocoTile
        Of the reviewer, not trained on.
    guards : sequence of sequence of CocoTile
        On each of which a choice may lose less than `GUARD_LOSS` of F1.
    """
    base, before = f1_of(start, own), [f1_of(start, tiles) for tiles in guards]
    best_of_share = []
    for share in SHARES:
        usable = [
            Choice(share, model, own_f1 - base)
            for model, own_f1, *others in _at_thresholds(mixed(start, trained, share), own, guards)
            if all(f1 > was - GUARD_LOSS for f1, was in zip(others, before, strict=True))
        ]
        best_of_share += [max(usable, key=lambda one: one.gain)] if usable else []
    best = max((one.gain for one in best_of_share), default=0.0)
    for one in best_of_share:
        if one.gain > 0 and one.gain >= best / 2:
            return one
    return Choice(0.0, start, 0.0)


def _at_thresholds(
    model: KeypointModel, own: Tiles, guards: Sequence[Tiles]
) -> Iterator[tuple[KeypointModel, *tuple[float, ...]]]:
    """Give a model with each threshold, and its F1 on own tiles and on each guard."""
    judged = [judge(model, tiles, pick_device("auto")) for tiles in (own, *guards)]
    for step in THRESHOLD_STEPS:
        threshold = round(min(max(model.info.threshold + step, 0.05), 0.95), 3)
        info = model.info.model_copy(update={"threshold": threshold})
        scores = [round(score_at(one, threshold, Matching()).f1, 4) for one in judged]
        yield KeypointModel(info, model.net), *scores


def mixed(start: KeypointModel, trained: KeypointModel, share: float) -> KeypointModel:
    """Give the model with weights between two others, ``share`` of the way to the second."""
    net = copy.deepcopy(start.net)
    old, new = start.net.state_dict(), trained.net.state_dict()
    state = {
        name: old[name] + share * (new[name] - old[name])
        if old[name].is_floating_point()
        else new[name]
        for name in old
    }
    net.load_state_dict(state)
    info = trained.info.model_copy(update={"threshold": start.info.threshold})
    return KeypointModel(info, net)


def painted(seed: int) -> list[CocoTile]:
    """Paint fields of many looks, which tell what a model forgot."""
    from nucliseg_qp.training.synthetic import draw_field, random_look

    tiles = []
    for number in range(GUARD_FIELDS):
        rng = np.random.default_rng([seed, 4711, number])
        drawn = draw_field(rng, (GUARD_PX, GUARD_PX), 0.5, random_look(rng))
        inside = ((drawn.points >= 0) & (drawn.points < GUARD_PX)).all(axis=1)
        item = LabelledImage(f"painted {number}", drawn.image, drawn.points[inside], mpp=0.5)
        classes = (None,) * len(item.points)
        tiles.append(CocoTile(item, classes, "painted fields", str(number), item.name, GUARD_PX))
    return tiles


def f1_of(model: KeypointModel, tiles: Tiles) -> float:
    """Give the F1 of a model at its own threshold."""
    return round(
        score_at(judge(model, tiles, pick_device("auto")), model.info.threshold, Matching()).f1, 4
    )
