"""Train a keypoint model in one call: mix the data, fit, choose the threshold, write the files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.keypoints.model import KeypointModel, ModelInfo, save_model
from nucliseg_qp.training.augment import Augmentation
from nucliseg_qp.training.canvases import (
    CanvasBank,
    CanvasSource,
    FluorescenceSource,
    RecolouredSource,
    SyntheticSource,
    TileSource,
)
from nucliseg_qp.training.data import LabelledImage, read_folder
from nucliseg_qp.training.validate import Validation, choose_threshold, validation_set

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import Trainer

    from nucliseg_qp.keypoints.unet import KeypointUNet

__all__ = ["FitSettings", "fit"]

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
}


@dataclass(frozen=True)
class FitSettings:
    """Everything a training depends on.

    Attributes
    ----------
    out : Path
        Folder to write the model to.
    name : str
        Name of the model.
    endonuke, tissue, fluorescence : Path or None
        Folders as `data.read_folder` reads them; None leaves the source out.
    shares : dict of str to float
        Share of the crops by source: endonuke, tissue, recoloured, fluorescence, synthetic.
    held_out : tuple of str
        Names of EndoNuke images that are not trained on but used for choosing the threshold, as
        every sixth of the other images is; see `data.fold_names` for cross-validation.
    mpp : float
        um per pixel to work at.
    width : int
        Channels of the network's first block.
    steps, seconds : int, float
        The budget: whichever is used up first.
    batch_size, crop_px, canvas_px : int
        Crops per step, their side, and the side of the canvases they are cut from.
    bank_size : int
        Canvases kept per source.
    sigma_px, nms_radius_px : float
        See `ModelInfo`.
    learning_rate, focus, ema_decay : float
        See `KeypointTraining`.
    seed : int
        Of everything random.
    workers : int
        Processes that prepare crops; 0 prepares them between the steps.
    bfloat16 : bool
        Train with bfloat16 autocast.
    start : Path or None
        Weights (.safetensors) of the same width to go on from.
    augmentation : Augmentation
        How far crops are altered.
    """

    out: Path
    name: str = "ihc-nuclei"
    endonuke: Path | None = None
    tissue: Path | None = None
    fluorescence: Path | None = None
    shares: dict[str, float] | None = None
    held_out: tuple[str, ...] = ()
    mpp: float = 0.55
    width: int = 32
    steps: int = 100_000
    seconds: float = 1800.0
    batch_size: int = 16
    crop_px: int = 224
    canvas_px: int = 416
    bank_size: int = 400
    sigma_px: float = 2.6
    nms_radius_px: float = 4.0
    learning_rate: float = 3e-3
    focus: float = 1.0
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    bfloat16: bool = True
    start: Path | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)


_SHARES = {
    "endonuke": 0.36,
    "tissue": 0.06,
    "recoloured": 0.2,
    "fluorescence": 0.12,
    "synthetic": 0.26,
}


def fit(settings: FitSettings) -> Path:
    """Train a model and return the path of its weights.

    Raises
    ------
    InputError
        When a folder is not readable.
    """
    train, held_out = _split(settings)
    net, losses = _train(settings, _sources(settings, train))
    info = _describe(settings, net, [name for name in train if train[name] or name == "synthetic"])
    validation = validation_set(held_out, settings.mpp, settings.seed)
    threshold, metrics = choose_threshold(KeypointModel(info, net), validation)
    metrics |= _loss_facts(losses)
    logger.info("threshold %.3f, %s", threshold, metrics)
    info = info.model_copy(update={"threshold": threshold, "metrics": metrics})
    return save_model(settings.out, info, net)


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
    held_out = Validation(
        endonuke=[item for item, held in zip(endonuke, is_held, strict=True) if held],
        tissue=tissue[::6],
        fluorescence=fluorescence[::24],
    )
    return train, held_out


def _sources(
    settings: FitSettings, train: dict[str, list[LabelledImage]]
) -> dict[str, tuple[CanvasSource, float]]:
    makers: dict[str, CanvasSource] = {
        "endonuke": TileSource(train["endonuke"], ENDONUKE_TILE_UM),
        "tissue": TileSource(train["tissue"]),
        "recoloured": RecolouredSource(train["recoloured"]),
        "fluorescence": FluorescenceSource(train["fluorescence"]),
        "synthetic": SyntheticSource(),
    }
    shares = settings.shares or _SHARES
    unknown = sorted(shares.keys() - makers.keys())
    if unknown:
        raise InputError(f"there is no training source '{unknown[0]}'", f"Use {', '.join(makers)}")
    usable = {name: share for name, share in shares.items() if train[name] or name == "synthetic"}
    return {name: (makers[name], share) for name, share in usable.items() if share > 0.0}


def _train(
    settings: FitSettings, sources: dict[str, tuple[CanvasSource, float]]
) -> tuple[KeypointUNet, list[float]]:
    from lightning.pytorch import seed_everything
    from torch.utils.data import DataLoader

    from nucliseg_qp.training.lightning import CropStream, KeypointTraining

    seed_everything(settings.seed, verbose=False)
    bank = CanvasBank(sources, settings.canvas_px, settings.mpp, settings.bank_size, settings.seed)
    stream = CropStream(
        bank,
        settings.batch_size,
        settings.crop_px,
        settings.sigma_px,
        settings.augmentation,
        settings.seed,
    )
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
    loader = DataLoader(stream, batch_size=None, num_workers=settings.workers)
    _trainer(settings).fit(module, loader)
    return module.averaged_net(), module.losses


def _trainer(settings: FitSettings) -> Trainer:
    from lightning.pytorch import Trainer

    return Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if settings.bfloat16 else "32-true",
        max_steps=settings.steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _new_net(settings: FitSettings) -> KeypointUNet:
    from nucliseg_qp.keypoints.model import load_model
    from nucliseg_qp.keypoints.unet import KeypointUNet

    net = KeypointUNet(settings.width)
    if settings.start is not None:
        net.load_state_dict(load_model(settings.start).net.state_dict())
        net.requires_grad_(True)
    return net


def _describe(settings: FitSettings, net: KeypointUNet, used: list[str]) -> ModelInfo:
    shares = settings.shares or _SHARES
    return ModelInfo(
        name=settings.name,
        mpp=settings.mpp,
        halo_px=net.halo_px,
        mean=_MEAN,
        std=_STD,
        threshold=0.5,
        sigma_px=settings.sigma_px,
        nms_radius_px=settings.nms_radius_px,
        width=settings.width,
        sha256=_UNSET_SHA256,
        trained_on=tuple(_CREDITS[name] for name in used if shares.get(name)),
    )
