"""Training on one's own slides: from what the command line says to what `fit` wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nucliseg_qp.keypoints.model import KeypointModel, load_model, save_model
from nucliseg_qp.training.coco import coco_file, read_coco
from nucliseg_qp.training.evaluate import evaluate, read_tiles
from nucliseg_qp.training.fit import fit
from nucliseg_qp.training.fit_settings import FitSettings, Unlabelled
from nucliseg_qp.training.judge import Matching
from nucliseg_qp.training.own_settings import SCRATCH, OwnTraining
from nucliseg_qp.training.session import Session, SessionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nucliseg_qp.training.session import Watcher

__all__ = ["best_model", "compare_runs", "fit_settings", "train_own"]


SCRATCH_RADII_STEPS = 1500
"""A few minutes of painted fields, after a training that does not go on from a model."""


def _teacher(how: OwnTraining) -> KeypointModel | None:
    """Give the model to go on from; none from scratch."""
    if how.start == SCRATCH:
        return None
    return load_model(None if how.start == "default" else how.start)


def fit_settings(how: OwnTraining) -> FitSettings:
    """Translate to the settings of `fit`.

    Raises
    ------
    InputError
        When a folder was not converted or has no training tiles.
    ModelError
        When the start model cannot be used.
    """
    read_tiles(how.data, "train")
    teacher = _teacher(how)
    plain = FitSettings(out=how.out)
    shares = {"own": 1.0 - how.synthetic, "synthetic": how.synthetic}
    if how.unlabelled is not None:
        shares = {name: 0.8 * share for name, share in shares.items()} | {"pseudo": 0.2}
    info = teacher.info if teacher else None
    return FitSettings(
        out=how.out,
        name=how.name,
        own=how.data,
        unlabelled=(Unlabelled(how.unlabelled, how.unlabelled_um),) if how.unlabelled else (),
        shares=shares,
        copy_paste=how.copy_paste,
        mpp=how.mpp or (info.mpp if info else plain.mpp),
        width=info.width if info else how.width or plain.width,
        depth=info.depth if info else plain.depth,
        sigma_px=info.sigma_px if info else plain.sigma_px,
        nms_radius_px=info.nms_radius_px if info else plain.nms_radius_px,
        steps=how.steps,
        seconds=60.0 * how.minutes,
        # Points teach no shapes: those of the start stay good when its network changes a little.
        radii_steps=0 if teacher else SCRATCH_RADII_STEPS,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        seed=how.seed,
        workers=how.workers,
        start=_start_file(how, teacher),
    )


def _start_file(how: OwnTraining, teacher: KeypointModel | None) -> Path | None:
    """Write the start model beside the training: the run can then be repeated from its folder."""
    if teacher is None:
        return None
    return save_model(how.out / "start", teacher.info, teacher.net)


def train_own(how: OwnTraining, watcher: Watcher | None = None) -> Path:
    """Train and return the path of the weights.

    Raises
    ------
    InputError
        When the data or a checkpoint is broken, or the loss stops being a number.
    UsageError
        When options contradict each other or a package is missing.
    """
    session = SessionSettings(
        out=how.out,
        check_steps=how.check_steps,
        patience=how.patience,
        resume=how.resume,
        find_learning_rate=how.find_learning_rate,
        find_batch_size=how.find_batch_size,
        tensorboard=how.tensorboard,
        wandb=how.wandb,
    )
    return fit(fit_settings(how), Session(session, watcher))


def compare_runs(how: OwnTraining, models: Sequence[Path]) -> list[dict[str, Any]]:
    """Evaluate the start model and the trained ones on the validation tiles, a row each.

    A training that is no better than its start is thus seen at once.
    """
    judges = [path for path in how.data if coco_file(path, "validation").is_file()]
    tiles = [tile for path in judges for tile in read_coco(path, "validation")]
    listed = {path.stem if path.parent == how.out else path.parent.name: path for path in models}
    rows = []
    teacher = _teacher(how)
    candidates = {"start": teacher} if teacher else {}
    candidates |= {name: load_model(path) for name, path in listed.items()}
    for name, model in candidates.items():
        row: dict[str, Any] = {"model": name}
        if tiles:
            found = evaluate(model, tiles, "validation", Matching()).sets
            values = found.get("all") or next(iter(found.values()))
            row |= {key: float(values[key]) for key in ("f1", "ap_4px", "ap_8px", "error_um")}
        rows.append(row)
    return rows


def best_model(figures: Sequence[Mapping[str, Any]], models: Sequence[Path]) -> tuple[Path, bool]:
    """Give the best of the trained models, and whether it is better than their start.

    Parameters
    ----------
    figures : sequence of dict
        From `compare_runs`; without validation tiles, or a start, nothing speaks against a model.
    models : sequence of Path
        The trained ones.
    """
    f1 = [float(row.get("f1", 0.0)) for row in figures]
    before, after = f1[: -len(models)], f1[-len(models) :]
    best = max(after)
    is_better = all(best > was for was in before) or "f1" not in figures[0]
    return models[after.index(best)], is_better
