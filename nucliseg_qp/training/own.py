"""Training on one's own slides: from what the command line says to what `fit` wants."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from nucliseg_qp.errors import OutputError
from nucliseg_qp.keypoints.model import KeypointModel, load_model, save_model
from nucliseg_qp.training.checkpoint import checkpoint_file
from nucliseg_qp.training.coco import coco_file
from nucliseg_qp.training.evaluate import read_tiles
from nucliseg_qp.training.fit import fit
from nucliseg_qp.training.fit_settings import FitSettings, Unlabelled
from nucliseg_qp.training.own_settings import SCRATCH, OwnTraining
from nucliseg_qp.training.session import Session, SessionSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nucliseg_qp.training.session import Watcher

__all__ = ["fit_settings", "going_on", "made_with", "refuse_taken", "start_model", "train_own"]


RADII_STEPS = 1500
"""A few minutes of painted fields, where the shapes of a start model are not to be had."""

_UNSPECIFIED = "unspecified"


def start_model(how: OwnTraining) -> KeypointModel | None:
    """Give the model to go on from; none from scratch.

    Raises
    ------
    ModelError
        When it cannot be used.
    """
    if how.start == SCRATCH:
        return None
    return load_model(None if how.start == "default" else how.start)


def fit_settings(how: OwnTraining) -> FitSettings:
    """Translate to the settings of `fit`; nothing is written.

    Raises
    ------
    InputError
        When a folder was not converted or has no training tiles.
    ModelError
        When the start model cannot be used.
    """
    read_tiles(how.data, "train")
    return _fit_settings(how, start_model(how))


def _fit_settings(how: OwnTraining, teacher: KeypointModel | None) -> FitSettings:
    plain = FitSettings(out=how.out)
    shares = {"own": 1.0 - how.synthetic, "synthetic": how.synthetic}
    if how.unlabelled is not None:
        shares = {name: 0.8 * share for name, share in shares.items()} | {"pseudo": 0.2}
    info = teacher.info if teacher else None
    like = info or plain
    mpp = how.mpp or like.mpp
    return FitSettings(
        out=how.out,
        name=how.name,
        licence=_licence(teacher),
        own=how.data,
        unlabelled=(Unlabelled(how.unlabelled, how.unlabelled_um),) if how.unlabelled else (),
        shares=shares,
        copy_paste=how.copy_paste,
        mpp=mpp,
        width=info.width if info else how.width or plain.width,
        depth=like.depth,
        # As large on the slide as they were, whatever the pixels.
        sigma_px=like.sigma_px * like.mpp / mpp,
        nms_radius_px=like.nms_radius_px * like.mpp / mpp,
        steps=how.steps,
        seconds=60.0 * how.minutes,
        # Points teach no shapes: those of the start stay good when its network changes a little,
        # but they are told in its pixels.
        radii_steps=0 if info and mpp == info.mpp else RADII_STEPS,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        seed=how.seed,
        workers=how.workers,
        start=how.out / "start" / f"{info.name}.safetensors" if info else None,
    )


def _licence(teacher: KeypointModel | None) -> str:
    """Nobody chose one for the new weights; what they go on from has one that holds on."""
    if teacher is None:
        return _UNSPECIFIED
    return f"{_UNSPECIFIED}; goes on from {teacher.info.name} ({teacher.info.licence})"


def train_own(how: OwnTraining, watcher: Watcher | None = None) -> Path:
    """Train and return the path of the weights.

    Raises
    ------
    InputError
        When the data or a checkpoint is broken, or the loss stops being a number.
    OutputError
        When the folder holds a training and is not to be gone on with.
    UsageError
        When options contradict each other, or what the training that goes on was made with, or a
        package is missing.
    """
    refuse_taken(how)
    read_tiles(how.data, "train")
    teacher = start_model(how)
    settings = _fit_settings(how, teacher)
    session = Session(_session_settings(how), watcher, made_with(how, settings, teacher))
    if teacher is not None:
        # Beside the training: the run can then be repeated from its folder.
        save_model(how.out / "start", teacher.info, teacher.net)
    return fit(settings, session)


def _session_settings(how: OwnTraining) -> SessionSettings:
    return SessionSettings(
        out=how.out,
        check_steps=how.check_steps,
        patience=how.patience,
        resume=how.resume,
        find_learning_rate=how.find_learning_rate,
        find_batch_size=how.find_batch_size,
        tensorboard=how.tensorboard,
        wandb=how.wandb,
    )


def refuse_taken(how: OwnTraining) -> None:
    """Refuse a folder that holds a training, unless it is to go on.

    Raises
    ------
    OutputError
        Naming the ways out.
    """
    if how.resume:
        return
    if checkpoint_file(how.out).is_file():
        raise OutputError(
            f"{how.out} holds a training",
            "Go on with it with --resume, or choose another folder with -o",
        )
    if any(how.out.glob("*.safetensors")):
        raise OutputError(f"{how.out} holds a model", "Choose another folder with -o")


def going_on(how: OwnTraining) -> OwnTraining:
    """Give the same training, gone on with only if it had come to a checkpoint."""
    return replace(how, resume=how.resume and checkpoint_file(how.out).is_file())


def made_with(
    how: OwnTraining, settings: FitSettings, teacher: KeypointModel | None
) -> dict[str, str]:
    """Give what a training must be made with to its end, by option; all but its budget."""
    start = f"{teacher.info.name} {teacher.info.sha256[:12]}" if teacher else SCRATCH
    return {
        "data of sha256": _digest(_described(how.data)),
        "--start": start,
        "--mpp": f"{settings.mpp:g}",
        "--width": str(settings.width),
        "--batch-size": str(how.batch_size),
        "--learning-rate": f"{how.learning_rate:g}",
        "--synthetic": f"{how.synthetic:g}",
        "--copy-paste": f"{how.copy_paste:g}",
        "unlabelled images of sha256": _digest(_sizes(how)),
        "--seed": str(how.seed),
    }


def _described(folders: tuple[Path, ...]) -> Iterator[bytes]:
    for folder in folders:
        for split in ("train", "validation"):
            file = coco_file(folder, split)
            yield file.read_bytes() if file.is_file() else b"none"


def _sizes(how: OwnTraining) -> Iterator[bytes]:
    """Tell images by name and size: they may be whole slides."""
    if how.unlabelled is None:
        return
    folder = how.unlabelled
    for path in [folder] if folder.is_file() else sorted(folder.glob("*")):
        yield f"{path.name} {path.stat().st_size} {how.unlabelled_um:g}\n".encode()


def _digest(parts: Iterator[bytes]) -> str:
    told = hashlib.sha256()
    for part in parts:
        told.update(part)
    return told.hexdigest()[:12]
