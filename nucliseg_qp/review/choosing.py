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

__all__ = ["Choice", "choose", "f1_of", "mixed", "near_enough", "painted"]

SHARES = (0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0)
"""How far from the start to the tuned weights."""
THRESHOLD_STEPS = (0.0, -0.06, 0.06)
"""By how much the threshold may differ from the start's: a model that is unsure of a new look
scores its nuclei low. Steps twice as large cost 0.02 of F1 on real tissue of other looks, which
painted guards do not show."""
GUARD_LOSS = 0.005
"""F1 that a choice may cost on a guard: half of what is accepted in the end."""
ENOUGH_GAIN = 0.08
"""F1 gained on own images beyond which a step further is not worth what it forgets."""
GUARD_FIELDS, GUARD_PX = 12, 320
_WHOLE = Matching(border_um=0.0)
"""The limits above were set on whole tiles."""


@dataclass(frozen=True)
class Choice:
    """A mixture of start and tuned weights with a threshold.

    Attributes
    ----------
    share : float
        How far from the start to the tuned weights; 0 is the start.
    model : KeypointModel
        The mixture.
    own_f1 : float
        On images of the reviewer.
    guard_f1 : tuple of float
        On each guard.
    """

    share: float
    model: KeypointModel
    own_f1: float
    guard_f1: tuple[float, ...]


def choose(
    start: KeypointModel, trained: KeypointModel, own: Tiles, guards: Sequence[Tiles]
) -> Choice:
    """Choose between start and tuned weights by `near_enough`.

    Parameters
    ----------
    start, trained : KeypointModel
        Before and after training.
    own : sequence of CocoTile
        Of the reviewer, not trained on.
    guards : sequence of sequence of CocoTile
        What must not get worse.
    """
    [before] = _at_thresholds(0.0, start, (own, *guards), (0.0,))
    tried = [
        choice
        for share in SHARES
        for choice in _at_thresholds(
            share, mixed(start, trained, share), (own, *guards), THRESHOLD_STEPS
        )
    ]
    return near_enough(before, tried)


def near_enough(start: Choice, tried: Sequence[Choice]) -> Choice:
    """Go no further from the start than half of what could be gained on own images needs.

    Where that is much, `ENOUGH_GAIN` will do.

    A choice that does worse than the start by `GUARD_LOSS` or more on a guard is out. Of equally
    near ones the best is taken; the start, if none is better.
    """
    usable = [
        one
        for one in tried
        if one.own_f1 > start.own_f1
        and all(f1 > was - GUARD_LOSS for f1, was in zip(one.guard_f1, start.guard_f1, strict=True))
    ]
    if not usable:
        return start
    gain = max(one.own_f1 for one in usable) - start.own_f1
    wanted = start.own_f1 + min(gain / 2, ENOUGH_GAIN)
    return min(
        (one for one in usable if one.own_f1 >= wanted), key=lambda one: (one.share, -one.own_f1)
    )


def _at_thresholds(
    share: float, model: KeypointModel, sets: Sequence[Tiles], steps: Sequence[float]
) -> Iterator[Choice]:
    """Give a model with each threshold, judged on own tiles and on the guards."""
    judged = [judge(model, tiles, pick_device("auto")) for tiles in sets]
    for step in steps:
        threshold = round(min(max(model.info.threshold + step, 0.05), 0.95), 3)
        own, *guards = (round(score_at(one, threshold, _WHOLE).f1, 4) for one in judged)
        info = model.info.model_copy(update={"threshold": threshold})
        yield Choice(share, KeypointModel(info, model.net), own, tuple(guards))


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
        score_at(judge(model, tiles, pick_device("auto")), model.info.threshold, _WHOLE).f1, 4
    )
