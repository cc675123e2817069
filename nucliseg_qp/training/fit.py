"""Train a keypoint model in one call: mix the data, fit, choose the threshold, write the files."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.keypoints.model import KeypointModel, ModelInfo, load_model, save_model
from nucliseg_qp.training.canvases import (
    CanvasSource,
    FluorescenceSource,
    RecolouredSource,
    SyntheticSource,
    TileSource,
)
from nucliseg_qp.training.coco import read_coco
from nucliseg_qp.training.copypaste import CopyPasteSource
from nucliseg_qp.training.data import LabelledImage, read_folder
from nucliseg_qp.training.fit_settings import FitSettings, Unlabelled
from nucliseg_qp.training.pseudo import pseudo_folder
from nucliseg_qp.training.radii import RadiiSettings, fit_radii
from nucliseg_qp.training.trainer import manners, new_trainer
from nucliseg_qp.training.validate import Validation, choose_threshold, validation_set

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.keypoints.unet import KeypointUNet
    from nucliseg_qp.training.session import Session

__all__ = ["FitSettings", "Unlabelled", "fit"]

logger = logging.getLogger(__name__)

ENDONUKE_TILE_UM = 100.0
_MEAN = (1.0, 1.0, 1.0)
_STD = (0.25, 0.25, 0.25)
_UNSET_SHA256 = "0" * 64
_CREDITS = {
    "endonuke": "EndoNuke tiles (Naumov et al., Data 2022, 7(6):75; CC BY 4.0)",
    "tissue": "DSB 2018 stage 1 tissue (BBBC038, corrected; CC0)",
    "recoloured": "DSB 2018 stage 1 tissue recoloured as H-DAB (CC0)",
    "fluorescence": "DSB 2018 stage 1 fluorescence as H-DAB (CC0)",
    "synthetic": "synthetic H-DAB fields of this program",
    "own": "own annotated slides",
}
_SHARES = {
    "endonuke": 0.36,
    "tissue": 0.06,
    "recoloured": 0.2,
    "fluorescence": 0.12,
    "synthetic": 0.26,
    "own": 0.8,
    "pseudo": 0.15,
}
_RADII_SHARES = {"tissue": 0.15, "recoloured": 0.35, "fluorescence": 0.2, "synthetic": 0.3}
"""Of what has masks."""


def fit(settings: FitSettings, session: Session | None = None) -> Path:
    """Train a model and return the path of its weights.

    Parameters
    ----------
    settings : FitSettings
        What to train on, and how.
    session : Session, optional
        Progress, logs, checkpoints and early stopping; without it nothing is written but the
        model.

    Raises
    ------
    InputError
        When a folder is not readable.
    """
    train, held_out = _split(settings)
    used = [name for name in train if train[name] or name == "synthetic"]
    validation = validation_set(held_out, settings.mpp, settings.seed)
    if session is not None:
        session.begin(_describe(settings, _new_net(settings), used), validation)
    net, losses = _train(settings, _sources(settings, train), session)
    model = KeypointModel(_describe(settings, net, used), net)
    threshold, metrics = choose_threshold(model, validation)
    metrics |= _loss_facts(losses)
    logger.info("threshold %.3f, %s", threshold, metrics)
    info = model.info.model_copy(update={"threshold": threshold, "metrics": metrics})
    # Kept before it goes on: whoever stops the rest has the nuclei it finds.
    path = save_model(settings.out, info, net)
    if settings.radii_steps:
        save_model(settings.out, info, _with_radii(model, settings, train, session).net)
    return path


def _with_radii(
    model: KeypointModel,
    settings: FitSettings,
    train: dict[str, list[LabelledImage]],
    session: Session | None,
) -> KeypointModel:
    masked = replace(settings, shares=_RADII_SHARES, copy_paste=0.0)
    how = RadiiSettings(settings.radii_steps, seed=settings.seed)
    tell = session.teller(settings.radii_steps) if session else None
    return fit_radii(model, _sources(masked, train), how, tell)


def _loss_facts(losses: list[float]) -> dict[str, float]:
    """Mean loss of the first and the last twentieth, and the number of steps."""
    part = max(1, len(losses) // 20)
    first, last = float(np.mean(losses[:part])), float(np.mean(losses[-part:]))
    return {
        "loss_first": round(first, 4),
        "loss_last": round(last, 4),
        "train_steps": float(len(losses)),
    }


def _split(
    settings: FitSettings,
) -> tuple[dict[str, list[LabelledImage]], Validation]:
    """Read the folders and hold out a part; a recoloured image is held out with its original."""
    endonuke = read_folder(settings.endonuke) if settings.endonuke else []
    tissue = read_folder(settings.tissue) if settings.tissue else []
    fluorescence = read_folder(settings.fluorescence) if settings.fluorescence else []
    is_held = [item.name in settings.held_out for item in endonuke]
    train = {
        "endonuke": [item for item, held in zip(endonuke, is_held, strict=True) if not held],
        "tissue": [item for i, item in enumerate(tissue) if i % 6],
        "fluorescence": [item for i, item in enumerate(fluorescence) if i % 6],
    }
    train["recoloured"] = train["tissue"]
    train["synthetic"] = []
    train["own"] = [tile.item for path in settings.own for tile in read_coco(path, "train")]
    train["pseudo"] = _pseudo(settings)
    held_out = Validation(
        endonuke=[item for item, held in zip(endonuke, is_held, strict=True) if held],
        tissue=tissue[::6],
        fluorescence=fluorescence[::24],
        own=[tile.item for path in settings.own for tile in read_coco(path, "validation")],
    )
    return train, held_out


def _pseudo(settings: FitSettings) -> list[LabelledImage]:
    if not settings.unlabelled:
        return []
    teacher = load_model(settings.start)
    return [
        item
        for one in settings.unlabelled
        for item in pseudo_folder(teacher, one.path, one.width_um)
    ]


def _sources(
    settings: FitSettings, train: dict[str, list[LabelledImage]]
) -> dict[str, tuple[CanvasSource, float]]:
    makers: dict[str, CanvasSource] = {
        "endonuke": TileSource(train["endonuke"], ENDONUKE_TILE_UM),
        "tissue": TileSource(train["tissue"]),
        "recoloured": RecolouredSource(train["recoloured"]),
        "fluorescence": FluorescenceSource(train["fluorescence"]),
        "synthetic": SyntheticSource(),
        "own": TileSource(train["own"]),
        "pseudo": TileSource(train["pseudo"]),
    }
    if settings.copy_paste:
        for name in ("endonuke", "own"):
            donors = [item for item in train[name] if len(item.points)]
            makers[name] = CopyPasteSource(makers[name], donors, settings.copy_paste)
    shares = settings.shares or _SHARES
    unknown = sorted(shares.keys() - makers.keys())
    if unknown:
        raise InputError(f"there is no training source '{unknown[0]}'", f"Use {', '.join(makers)}")
    usable = {name: share for name, share in shares.items() if train[name] or name == "synthetic"}
    return {name: (makers[name], share) for name, share in usable.items() if share > 0.0}


def _train(
    settings: FitSettings,
    sources: dict[str, tuple[CanvasSource, float]],
    session: Session | None = None,
) -> tuple[KeypointUNet, list[float]]:
    from lightning.pytorch import seed_everything

    from nucliseg_qp.training.crop_data import CropData
    from nucliseg_qp.training.lightning import KeypointTraining

    # A training that goes on must not see the crops of its beginning again.
    seed = settings.seed + (session.first_step if session else 0)
    seed_everything(seed, verbose=False)
    data = CropData(settings, sources, seed)
    module = KeypointTraining(
        _new_net(settings),
        _MEAN,
        _STD,
        steps=settings.steps,
        seconds=settings.seconds,
        learning_rate=settings.learning_rate,
        focus=settings.focus,
        ema_decay=settings.ema_decay,
    )
    with manners():
        if session is None:
            new_trainer(settings).fit(module, datamodule=data)
            return module.averaged_net(), module.losses
        session.fit(lambda: new_trainer(settings, session), module, data)
    return session.best_net(module), module.losses


def _new_net(settings: FitSettings) -> KeypointUNet:
    from nucliseg_qp.keypoints.unet import KeypointUNet

    net = KeypointUNet(settings.width, settings.depth)
    if settings.start is not None:
        net.load_state_dict(load_model(settings.start).net.state_dict())
        net.requires_grad_(True)
    return net


def _describe(settings: FitSettings, net: KeypointUNet, used: list[str]) -> ModelInfo:
    shares = settings.shares or _SHARES
    earlier = load_model(settings.start).info.trained_on if settings.start else ()
    sources = _CREDITS | {"pseudo": _pseudo_credit(settings)}
    credited = (*earlier, *(sources[name] for name in used if shares.get(name)))
    return ModelInfo(
        name=settings.name,
        licence=settings.licence,
        mpp=settings.mpp,
        halo_px=net.halo_px,
        mean=_MEAN,
        std=_STD,
        threshold=0.5,
        sigma_px=settings.sigma_px,
        nms_radius_px=settings.nms_radius_px,
        width=settings.width,
        depth=settings.depth,
        sha256=_UNSET_SHA256,
        trained_on=tuple(dict.fromkeys(credited)),
    )


def _pseudo_credit(settings: FitSettings) -> str:
    named = dict.fromkeys(one.credit for one in settings.unlabelled)
    return f"pseudo-labels of an earlier model on {' and '.join(named)}"
