"""A better model from reviews: fine-tuned from the one in use, shipped only if it is better.

Images of the reviewer are held out to choose the weights (`choosing.py`) and to judge them, and so
are painted fields of many looks and the tiles of the folders that guard what must not get worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.errors import InputError, ModelError
from nucliseg_qp.keypoints.model import load_model, save_model
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.review.choosing import choose, f1_of, painted
from nucliseg_qp.review.finetune_settings import OWN_IMAGES, PAINTED_FIELDS
from nucliseg_qp.review.lessons import annotated_images, check_enough
from nucliseg_qp.training.coco import read_coco
from nucliseg_qp.training.convert import convert
from nucliseg_qp.training.convert_settings import ConvertSettings
from nucliseg_qp.training.own import train_own
from nucliseg_qp.training.own_settings import OwnTraining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.review.finetune_settings import FineTuning
    from nucliseg_qp.review.folder import Review
    from nucliseg_qp.training.session import Watcher

__all__ = ["FineTuned", "fine_tune", "reasons_against", "refuse_worse"]


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
    guards = [painted(how.seed), *(read_coco(path, "validation") for path in how.guard)]
    tests = {path.name: read_coco(path, "test") for path in how.guard}
    folder = _tiles(reviews, how, start.info.mpp)
    trained = load_model(_trained(how, folder, watcher))
    choice = choose(start, trained, read_coco(folder, "validation"), [g for g in guards if g])
    result = FineTuned(None, choice.share)
    tests = {OWN_IMAGES: read_coco(folder, "test"), PAINTED_FIELDS: painted(how.seed + 1), **tests}
    result.before = {name: f1_of(start, tiles) for name, tiles in tests.items()}
    result.after = {name: f1_of(choice.model, tiles) for name, tiles in tests.items()}
    result.reasons = reasons_against(choice.share, result.before, result.after, how.worst_loss)
    if not result.reasons:
        result.model = _save(choice.model, trained, how, result)
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


def _trained(how: FineTuning, folder: Path, watcher: Watcher | None) -> Path:
    try:
        return train_own(_training(how, folder), watcher)
    except KeyboardInterrupt:
        # The same command would be refused: this one goes on with nothing.
        raise KeyboardInterrupt(f"Give another folder, or remove {how.out} first.") from None


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


def reasons_against(
    share: float, before: Mapping[str, float], after: Mapping[str, float], worst_loss: float
) -> list[str]:
    """Tell why a model is not kept: no better on held-out images, or worse elsewhere."""
    if not share:
        return ["no training result kept what the start model knew"]
    is_worse = {
        name: after[name] <= was if name == OWN_IMAGES else after[name] < was - worst_loss
        for name, was in before.items()
    }
    return [
        f"F1 on {name} went from {before[name]:.3f} to {after[name]:.3f}"
        for name, worse in is_worse.items()
        if worse
    ]


def _save(
    chosen: KeypointModel, trained: KeypointModel, how: FineTuning, result: FineTuned
) -> Path:
    metrics = {f"{name.replace(' ', '_')}_f1": value for name, value in result.after.items()}
    info = chosen.info.model_copy(
        update={
            "name": how.name,
            "licence": trained.info.licence,
            "metrics": metrics,
            "trained_on": trained.info.trained_on,
        }
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
