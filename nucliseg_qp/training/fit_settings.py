"""Everything a training depends on, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nucliseg_qp.training.augment import Augmentation

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FitSettings", "Unlabelled"]


@dataclass(frozen=True)
class Unlabelled:
    """Images for pseudo-labels; see `pseudo.pseudo_labels`.

    Attributes
    ----------
    path : Path
        An image, or a folder of them.
    width_um : float
        Width of each in um; 0 where they state their pixel size themselves.
    credit : str
        What they are and their licence, for the description of the model.
    """

    path: Path
    width_um: float = 0.0
    credit: str = "unannotated images"


@dataclass(frozen=True)
class FitSettings:
    """Everything a training depends on.

    Attributes
    ----------
    out : Path
        Folder to write the model to.
    name : str
        Name of the model.
    licence : str
        Licence of its weights.
    endonuke, tissue, fluorescence : Path or None
        Folders as `data.read_folder` reads them; None leaves the source out.
    own : tuple of Path
        Folders made by `convert`: their training tiles are trained on, their validation tiles are
        held out; the test tiles are not touched.
    unlabelled : tuple of Unlabelled
        Images that nobody annotated; the model of `start` labels what it is sure of.
    shares : dict of str to float
        Share of the crops by source: own, endonuke, tissue, recoloured, fluorescence, synthetic,
        pseudo.
    smudges : float
        Share of the canvases that get specks and pale blurs that are no nuclei; see `clutter`.
    copy_paste : float
        Share of the canvases of own and EndoNuke images that get further nuclei; see `copypaste`.
    held_out : tuple of str
        Names of EndoNuke images that are not trained on but used for choosing the threshold, as
        every sixth of the other images is; see `data.fold_names` for cross-validation.
    mpp : float
        um per pixel to work at.
    width : int
        Channels of the network: half as many in its first block, twice as many in its last.
    depth : int
        Its blocks at an eighth of the resolution.
    steps, seconds : int, float
        The budget: whichever is used up first.
    radii_steps : int
        Steps of teaching how far nuclei reach, afterwards and from masks (see `fit_radii`); with
        0 this stays as it was in `start`, or is the same for all nuclei without one.
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
    licence: str = "unspecified"
    endonuke: Path | None = None
    tissue: Path | None = None
    fluorescence: Path | None = None
    own: tuple[Path, ...] = ()
    unlabelled: tuple[Unlabelled, ...] = ()
    shares: dict[str, float] | None = None
    smudges: float = 0.3
    copy_paste: float = 0.0
    held_out: tuple[str, ...] = ()
    mpp: float = 0.55
    width: int = 32
    depth: int = 1
    steps: int = 100_000
    seconds: float = 1800.0
    radii_steps: int = 0
    batch_size: int = 16
    crop_px: int = 224
    canvas_px: int = 416
    bank_size: int = 400
    sigma_px: float = 2.6
    nms_radius_px: float = 5.0
    learning_rate: float = 3e-3
    focus: float = 1.0
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    bfloat16: bool = True
    start: Path | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
