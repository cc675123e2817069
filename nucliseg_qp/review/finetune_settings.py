"""Fine-tuning from reviews: settings and command line in one, without anything heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the command line needs the type at run time
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.errors import UsageError

__all__ = ["OWN_IMAGES", "PAINTED_FIELDS", "FineTuning"]

OWN_IMAGES, PAINTED_FIELDS = "held out", "painted fields"
"""What the new model is tested on besides the folders of --guard, which have their own names."""


@dataclass(frozen=True)
class FineTuning:
    """How to train on reviews; also the options of `review train`.

    Attributes
    ----------
    out : Path
        Folder for the model and everything about its training.
    name : str
        Name of the model.
    start : str
        Model to go on from: default, a name, or a .safetensors file.
    minutes : float
        When to stop training, at the latest.
    steps : int
        When to stop training, at the latest.
    batch_size : int
        Crops a step.
    learning_rate : float
        At the top of its cycle.
    synthetic : float
        Share of the crops that are painted, so that what is known is not forgotten.
    guard : tuple of Path
        Folders made by `data convert` on which the new model must not be worse; each of another
        name.
    worst_loss : float
        Largest loss of F1 elsewhere that is accepted.
    seed : int
        Of everything random.
    workers : int
        Processes that prepare crops.
    """

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    name: str = "reviewed-nuclei"
    start: Annotated[str, Parameter(name=("--start", "-m"))] = "default"
    minutes: float = 10.0
    steps: int = 300
    batch_size: int = 12
    learning_rate: float = 4e-4
    synthetic: float = 0.5
    guard: Annotated[tuple[Path, ...], Parameter(negative=())] = ()
    worst_loss: float = 0.01
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0.0 <= self.synthetic < 1.0:
            raise UsageError(f"--synthetic {self.synthetic}", "Give a share, 0 to 1")
        if self.minutes <= 0 or self.steps < 1:
            raise UsageError("there is no time or step to train with", "Give more than 0")
        if not 0.0 <= self.worst_loss <= 0.2:
            raise UsageError(f"--worst-loss {self.worst_loss}", "Give 0 to 0.2")
        names = [OWN_IMAGES, PAINTED_FIELDS, *(path.name for path in self.guard)]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UsageError(
                f"two tests would have the name {twice[0]!r}",
                "Each folder given with --guard is told by its name: rename one.",
            )
