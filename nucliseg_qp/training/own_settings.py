"""Training on one's own slides: settings and command line in one, without anything heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the command line needs the type at run time
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.errors import UsageError

__all__ = ["SCRATCH", "OwnTraining"]

SCRATCH = "scratch"

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
        When to stop, at the latest; from scratch a few minutes for the shapes come after them.
    steps : int
        When to stop, at the latest. Equal steps and seeds give equal models, if they are few
        enough for the minutes.
    mpp : float or None
        Pixel size in um to work at; the start model's own when not given.
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
        Folder of images nobody annotated: what the start model is sure of becomes labels.
    unlabelled_um : float
        Width of these images in um, if they do not state their pixel size.
    check_steps : int
        Steps between looks at the validation tiles.
    patience : int
        Stop after this many looks without a better F1; 0 never.
    resume : bool
        Go on from the last checkpoint in --out.
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
            share = getattr(self, value)
            if not 0.0 <= share < 1.0:
                raise UsageError(f"--{value.replace('_', '-')} {share}", "Give a share, 0 to 1")
        if self.minutes <= 0 or self.steps < 1 or self.batch_size < 1:
            raise UsageError("there is no time, step or crop to train with", "Give more than 0")
        if self.width is not None and self.start != SCRATCH:
            raise UsageError("--width is for a model from scratch", "Add --start scratch")
