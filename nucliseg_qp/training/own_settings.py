"""Training on one's own slides: settings and command line in one, without anything heavy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the command line needs the type at run time
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.errors import UsageError

__all__ = ["SCRATCH", "OwnTraining"]

SCRATCH = "scratch"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As `ModelInfo` wants it, which is too heavy to ask for --help."""

PIXEL_SIZES_UM = (0.3, 1.5)
"""To work at: in finer ones large nuclei reach beyond what the network tells of their shape, in
coarser ones they are too few pixels to be told from dust."""

FASTEST = 0.1
"""Above this learning rate nothing is learnt."""

MOST_WORKERS = 256

_Switch = Annotated[bool, Parameter(negative=())]


@dataclass(frozen=True)
class OwnTraining:
    """What to train on and how; also the options of `train`.

    Attributes
    ----------
    out : Path
        Folder for the model and everything about its training.
    data : tuple of Path
        Folders made by `data convert`; their test tiles are never looked at.
    name : str
        Name of the model.
    start : str
        Model to go on from: default, a name, a .safetensors file, or scratch.
    minutes : float
        When to stop, at the latest; from scratch, or at another --mpp than the start's, a few
        minutes for the shapes come after them.
    steps : int
        When to stop, at the latest. Equal steps and seeds give equal models, if they are few
        enough for the minutes.
    mpp : float or None
        Pixel size in um to work at, 0.3 to 1.5; the start model's own when not given. Another one
        means that shapes are learnt anew, a few minutes on painted fields after the training.
    width : int or None
        Channels of the network, half as many in its first block, for a model from scratch.
    batch_size : int
        Crops a step.
    learning_rate : float
        At the top of its cycle.
    find_learning_rate : bool
        Search the learning rate first.
    find_batch_size : bool
        Search the largest batch the GPU holds; without a GPU it stays.
    synthetic : float
        Share of the crops that are painted, so that what is known is not forgotten.
    copy_paste : float
        Share of the annotated crops that get nuclei pasted onto empty places.
    unlabelled : Path or None
        Folder of images nobody annotated: what the start model (from scratch the shipped one) is
        sure of becomes labels.
    unlabelled_um : float
        Width of these images in um, if they do not state their pixel size.
    check_steps : int
        Steps between looks at the validation tiles; each look logs, draws and saves.
    patience : int
        Stop after this many looks without a better F1, and keep the weights of the best look,
        whatever ends the training; 0 never stops and keeps the last weights.
    resume : bool
        Go on from the last look of the training in --out, made with the same options; only
        --minutes, --steps, --check-steps, --patience, --workers and the logs may differ.
    seed : int
        Of everything random.
    workers : int
        Processes that prepare crops.
    tensorboard : bool
        Also write logs for TensorBoard.
    wandb : str or None
        Project at Weights & Biases to also log to.
    """

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    data: Annotated[tuple[Path, ...], Parameter(parse=False)] = ()
    name: str = "my-nuclei"
    start: Annotated[str, Parameter(name=("--start", "-m"))] = "default"
    minutes: float = 30.0
    steps: int = 100_000
    mpp: float | None = None
    width: int | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    find_learning_rate: _Switch = False
    find_batch_size: _Switch = False
    synthetic: float = 0.25
    copy_paste: float = 0.0
    unlabelled: Path | None = None
    unlabelled_um: float = 0.0
    check_steps: int = 250
    patience: int = 0
    resume: _Switch = False
    seed: int = 0
    workers: int = 1
    tensorboard: _Switch = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for value in ("synthetic", "copy_paste"):
            if not 0.0 <= getattr(self, value) < 1.0:
                raise self._wrong(value, "Give a share, 0 to less than 1")
        for value, least in (("steps", 1), ("batch_size", 1), ("check_steps", 1), ("patience", 0)):
            if getattr(self, value) < least:
                raise self._wrong(value, f"Give {least} or more")
        if not self.minutes > 0:
            raise self._wrong("minutes", "Give more than 0")
        if not 0 < self.learning_rate <= FASTEST:
            raise self._wrong("learning_rate", f"Give more than 0, at most {FASTEST:g}")
        if not 0 <= self.seed < 2**31:
            raise self._wrong("seed", "Give 0 to 2147483647")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise self._wrong("workers", f"Give 0 to {MOST_WORKERS}")
        if not 0 <= self.unlabelled_um < math.inf:
            raise self._wrong("unlabelled_um", "Give the width of each image in um")
        self._check_network()

    def _check_network(self) -> None:
        low, high = PIXEL_SIZES_UM
        if self.mpp is not None and not low <= self.mpp <= high:
            raise self._wrong("mpp", f"Give {low:g} to {high:g} um per pixel to work at")
        if self.width is not None and self.start != SCRATCH:
            raise UsageError("--width is for a model from scratch", "Add --start scratch")
        if self.width is not None and (self.width % 2 or not 2 <= self.width <= 512):
            raise self._wrong("width", "Give an even number, 2 to 512")
        if not NAME.fullmatch(self.name):
            raise self._wrong("name", "Give letters a to z, digits, and . _ - after the first")

    def _wrong(self, value: str, hint: str) -> UsageError:
        return UsageError(f"--{value.replace('_', '-')} {getattr(self, value)}", hint)
