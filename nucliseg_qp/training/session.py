"""Around a training: progress, logs, pictures, checkpoints, early stopping, searches.

Checkpoints are Lightning's; they are read back without unpickling anything but tensors and plain
values.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from nucliseg_qp.errors import UsageError
from nucliseg_qp.keypoints.model import KeypointModel, ModelInfo
from nucliseg_qp.outputs import make_folder
from nucliseg_qp.training.checkpoint import checkpoint_file, read_checkpoint, refuse_other
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.logs import MetricsLog, log_picture, metrics_file, new_loggers
from nucliseg_qp.training.patience import Looks
from nucliseg_qp.training.search import find_batch_size, find_learning_rate
from nucliseg_qp.training.validate import choose_threshold, judges
from nucliseg_qp.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from nucliseg_qp.keypoints.unet import KeypointUNet
    from nucliseg_qp.training.canvases import Canvas
    from nucliseg_qp.training.crop_data import CropData
    from nucliseg_qp.training.lightning import KeypointTraining

__all__ = ["Session", "SessionSettings", "Watcher"]

_PICTURED = 4


class Watcher(Protocol):
    """Somebody who is told how a training goes."""

    def step(self, step: int, loss: float, share: float, seconds_left: float) -> None:
        """Tell that a step is done."""

    def checked(self, step: int, figures: dict[str, float]) -> None:
        """Tell the figures on the validation data."""


@dataclass(frozen=True)
class SessionSettings:
    """What happens around a training.

    Attributes
    ----------
    out : Path
        Gets ``metrics.csv`` (in ``logs``), ``pictures`` and ``checkpoints``.
    check_steps : int
        Steps between looks at the validation data; each look logs, draws and saves.
    patience : int
        Stop after this many looks without a better F1; the weights of the best look are kept,
        whatever ends the training. 0 never stops, and keeps the last weights.
    resume : bool
        Go on from the last checkpoint in `out`.
    find_learning_rate, find_batch_size : bool
        Search before training, with Lightning's Tuner; batch size only on a GPU.
    tensorboard : bool
        Also log for TensorBoard.
    wandb : str or None
        Project of Weights & Biases to also log to.
    """

    out: Path
    check_steps: int = 250
    patience: int = 0
    resume: bool = False
    find_learning_rate: bool = False
    find_batch_size: bool = False
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.check_steps < 1 or self.patience < 0:
            raise UsageError(
                f"{self.check_steps} steps between checks, patience {self.patience}",
                "Give at least 1 and 0",
            )


class Session:
    """One training with everything around it.

    Parameters
    ----------
    settings : SessionSettings
        What is wanted.
    watcher : Watcher, optional
        Told about steps and checks.
    made_with : dict of str to str, optional
        What the training is made with, by name; a checkpoint keeps it.

    Raises
    ------
    InputError
        When there is no checkpoint to go on from, or it is damaged.
    UsageError
        When the checkpoint's training was made with something else.
    """

    def __init__(
        self,
        settings: SessionSettings,
        watcher: Watcher | None = None,
        made_with: Mapping[str, str] | None = None,
    ) -> None:
        self.settings, self.watcher = settings, watcher
        self.looks = Looks(settings.patience)
        self._made_with = dict(made_with or {})
        self._info: ModelInfo | None = None
        self._fields: dict[str, list[Canvas]] = {}
        self._batch_size = 0
        self._checkpoint = checkpoint_file(settings.out)
        self._saved = read_checkpoint(self._checkpoint) if settings.resume else None
        if self._saved:
            state = self._saved.get("session", {})
            refuse_other(settings.out, state.get("made_with", {}), self._made_with)
            self.looks.restore(state.get("looks", {}))
            self._batch_size = int(state.get("batch_size", 0))

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps besides the network."""
        return {
            "made_with": self._made_with,
            "looks": self.looks.state(),
            "batch_size": self._batch_size,
        }

    def teller(self, steps: int) -> Callable[[int, float], None]:
        """Give what tells the watcher of a further training of so many steps."""
        started = time.monotonic()

        def tell(step: int, loss: float) -> None:
            if self.watcher is not None:
                left = (time.monotonic() - started) * (steps / step - 1)
                self.watcher.step(step, loss, step / steps, left)

        return tell

    @property
    def first_step(self) -> int:
        """Steps that were done before this session; 0 for a new training."""
        return int(self._saved["global_step"]) if self._saved else 0

    def begin(self, info: ModelInfo, fields: dict[str, list[Canvas]]) -> None:
        """Take what checks need: the description of the model and the validation fields."""
        self._info, self._fields = info, fields
        make_folder(self.settings.out)
        MetricsLog(metrics_file(self.settings.out)).begin(self.first_step)

    def loggers(self) -> list[Logger]:
        """Make the loggers: CSV always, others as asked for.

        Raises
        ------
        UsageError
            When the package of one that was asked for is not installed.
        """
        return new_loggers(self.settings)

    def callbacks(self) -> list[Callback]:
        """Give the callback that watches the training."""
        return [Watch(self)]

    def fit(
        self, new_trainer: Callable[[], Trainer], module: KeypointTraining, data: CropData
    ) -> None:
        """Search what is to be searched, then train, from the checkpoint if resuming."""
        if self._saved is None and self.settings.find_batch_size and torch.cuda.is_available():
            find_batch_size(new_trainer(), module, data)
        if self._saved is None and self.settings.find_learning_rate:
            find_learning_rate(new_trainer(), module, data)
        # What was found in the first place; the checkpoint brings the learning rate by itself.
        data.batch_size = self._batch_size = self._batch_size or data.batch_size
        path = str(self._checkpoint) if self._saved else None
        new_trainer().fit(module, datamodule=data, ckpt_path=path, weights_only=True)

    def check(self, trainer: Trainer, module: KeypointTraining) -> bool:
        """Look at the validation data, log, draw, save; tell whether to go on."""
        step, info = trainer.global_step, self._info
        if info is None:
            raise RuntimeError("a session begins before it checks")
        net = copy.deepcopy(module.averaged_net()).cpu().float()
        model = KeypointModel(info, net)
        figures = self._figures(model)
        for each in trainer.loggers:
            each.log_metrics({f"validation_{k}": v for k, v in figures.items()}, step)
        self._draw(model, step, trainer)
        self.looks.add(step, figures["f1"], net)
        self.save(trainer)
        if self.watcher is not None:
            self.watcher.checked(step, figures)
        return not self.looks.is_over

    def _figures(self, model: KeypointModel) -> dict[str, float]:
        threshold, found = choose_threshold(model, self._fields)
        by = judges(self._fields)
        # Where one's own tiles are too few to judge alone, all sources have a say.
        names = by if by == ["own"] else [*self._fields]
        scores = [found[f"{name}_f1"] for name in names if f"{name}_f1" in found]
        figures = {"f1": float(np.mean(scores)), "threshold": threshold}
        return figures | {key: value for key, value in found.items() if key.startswith("own_")}

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint; what stood there stays until it is whole."""
        make_folder(self._checkpoint.parent)
        trainer.save_checkpoint(self._checkpoint)

    def _draw(self, model: KeypointModel, step: int, trainer: Trainer) -> None:
        from nucliseg_qp.training.plots import save_heatmaps

        fields = self._fields.get("own") or [f for part in self._fields.values() for f in part[:1]]
        items = [
            LabelledImage("", f.rgbw[..., :3], f.points.astype(np.float64))
            for f in fields[:_PICTURED]
        ]
        path = make_folder(self.settings.out / "pictures") / f"step_{step:06d}.png"
        save_heatmaps(model, items, path)
        log_picture(trainer.loggers, path, step)

    def best_net(self, module: KeypointTraining) -> KeypointUNet:
        """Give the averaged network: that of the best look with patience, else the last."""
        net = module.averaged_net()
        if self.settings.patience and self.looks.best:
            net.load_state_dict(self.looks.best)
        return net
