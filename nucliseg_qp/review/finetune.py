"""A better model from reviews: fine-tuned from the one in use, shipped only if it is better.

Fine-tuned weights forget; weights between those of the start and the tuned ones forget less
(Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). How far to go towards the
tuned ones is chosen on held-out images of the reviewer, on painted fields of many looks, and on
the validation tiles of the folders that guard what must not get worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nucliseg_qp.errors import InputError, ModelError
from nucliseg_qp.keypoints.model import KeypointModel, load_model, save_model
from nucliseg_qp.keypoints.runtime import pick_device
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.review.lessons import annotated_images, check_enough
from nucliseg_qp.training.coco import CocoTile, read_coco
from nucliseg_qp.training.convert import convert
from nucliseg_qp.training.convert_settings import ConvertSettings
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.judge import Matching, judge, score_at
from nucliseg_qp.training.own import train_own
from nucliseg_qp.training.own_settings import OwnTraining

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.review.finetune_settings import FineTuning
    from nucliseg_qp.review.folder import Review
    from nucliseg_qp.training.session import Watcher

    Tiles = Sequence[CocoTile]

__all__ = ["FineTuned", "fine_tune"]

SHARES = (0.25, 0.375, 0.5, 0.75, 1.0)
"""How far from the start to the tuned weights."""
GUARD_FIELDS, GUARD_PX = 12, 320
_GUARD = "painted fields"


@dataclass
class FineTuned:
    """What became of it.

    Attributes
    ----------
    model : Path or None
        The new weights; None when they are no better and so were not kept.
    share : float
        How far from the start to the tuned weights.
    before, after : dict of str to float
        F1 of the start and of the new model on the held-out images (``held out``), the painted
        fields and each folder of the guard.
    reasons : list of str
        Why the new weights were refused.
    """

    model: Path | None
    share: float
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def fine_tune(
    reviews: Sequence[Review], how: FineTuning, watcher: Watcher | None = None
) -> FineTuned:
    """Train on what people reviewed, and judge the result on images it never saw.

    Writes ``data`` (tiles), ``training``, ``review_training.json`` and, if the new model is
    better, ``<name>.safetensors`` with its description.

    Raises
    ------
    InputError
        When there is too little to learn from, or an image is missing.
    ModelError
        When the start model cannot be used.
    """
    check_enough(reviews)
    start = load_model(None if how.start == "default" else how.start)
    folder = _tiles(reviews, how, start.info.mpp)
    trained = load_model(train_own(_training(how, folder), watcher))
    guards = [painted(how.seed), *(read_coco(path, "validation") for path in how.guard)]
    own = read_coco(folder, "validation")
    share, chosen = _choose(start, trained, own, [tiles for tiles in guards if tiles])
    result = FineTuned(None, share)
    tests = {"held out": read_coco(folder, "test"), _GUARD: painted(how.seed + 1)}
    for path in how.guard:
        tests[path.name] = read_coco(path, "test")
    result.before = {name: _f1(start, tiles) for name, tiles in tests.items()}
    result.after = {name: _f1(chosen, tiles) for name, tiles in tests.items()}
    result.reasons = _reasons(result, how.worst_loss)
    if not result.reasons:
        result.model = _save(chosen, trained, how, result)
    _write_report(how.out / "review_training.json", result)
    return result


def _tiles(reviews: Sequence[Review], how: FineTuning, mpp: float) -> Path:
    settings = ConvertSettings(
        out=how.out / "data",
        name="review",
        mpp=min(mpp, 0.5),
        shares=(0.6, 0.2, 0.2),
        seed=how.seed,
        allow_empty=True,
    )
    report = convert(annotated_images(reviews), settings)
    empty = [name for name, row in report.splits.items() if not row["nuclei"]]
    if empty:
        raise InputError(
            f"no nuclei are left for {' and '.join(empty)}",
            "Review more images, with nuclei in each.",
        )
    return settings.out


def _training(how: FineTuning, folder: Path) -> OwnTraining:
    return OwnTraining(
        out=how.out / "training",
        data=(folder,),
        name="tuned",
        start=how.start,
        minutes=how.minutes,
        steps=how.steps,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        synthetic=how.synthetic,
        seed=how.seed,
        workers=how.workers,
        check_steps=how.steps,
    )


def _choose(
    start: KeypointModel, trained: KeypointModel, own: Sequence[CocoTile], guards: Sequence[Tiles]
) -> tuple[float, KeypointModel]:
    """Go no further from the start than half of what could be gained on own images needs.

    The threshold stays the start's. A mixture that does worse on a guard than the start by half a
    hundredth or more is out.
    """
    base, before = _f1(start, own), [_f1(start, tiles) for tiles in guards]
    tried = [(share, mixed(start, trained, share)) for share in SHARES]
    usable = [
        (share, model, _f1(model, own) - base)
        for share, model in tried
        if all(_f1(model, t) > was - 0.005 for t, was in zip(guards, before, strict=True))
    ]
    best = max((gain for _, _, gain in usable), default=0.0)
    for share, model, gain in usable:
        if gain > 0 and gain >= best / 2:
            return share, model
    return 0.0, start


def mixed(start: KeypointModel, trained: KeypointModel, share: float) -> KeypointModel:
    """Give the model with weights between two others, ``share`` of the way to the second."""
    import copy

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
        tiles.append(CocoTile(item, classes, _GUARD, str(number), item.name, GUARD_PX))
    return tiles


def _f1(model: KeypointModel, tiles: Sequence[CocoTile]) -> float:
    return round(
        score_at(judge(model, tiles, pick_device("auto")), model.info.threshold, Matching()).f1, 4
    )


def _reasons(result: FineTuned, worst_loss: float) -> list[str]:
    if not result.share:
        return ["no training result kept what the start model knew"]
    reasons = []
    for name, before in result.before.items():
        after = result.after[name]
        is_own = name == "held out"
        if (is_own and after <= before) or (not is_own and after < before - worst_loss):
            reasons.append(f"F1 on {name} went from {before:.3f} to {after:.3f}")
    return reasons


def _save(
    chosen: KeypointModel, trained: KeypointModel, how: FineTuning, result: FineTuned
) -> Path:
    metrics = {f"{name.replace(' ', '_')}_f1": value for name, value in result.after.items()}
    info = chosen.info.model_copy(
        update={"name": how.name, "metrics": metrics, "trained_on": trained.info.trained_on}
    )
    return save_model(how.out, info, chosen.net)


def _write_report(path: Path, result: FineTuned) -> None:
    content: dict[str, Any] = {**vars(result), "model": str(result.model or "")}
    with whole_file(path) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def refuse_worse(result: FineTuned) -> None:
    """Stop where the new model is no better.

    Raises
    ------
    ModelError
        Saying where it is worse; the earlier model stays in use.
    """
    if result.model is None:
        raise ModelError(
            f"the new model is no better and was not kept: {'; '.join(result.reasons)}",
            "Keep the model you have, or review more images.",
        )
