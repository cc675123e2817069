"""Around a training: progress, logs, pictures, checkpoints, early stopping, searches.

Checkpoints are Lightning's; they are read back without unpickling anything but tensors and plain
values.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.keypoints.model import KeypointModel, ModelInfo
from nucliseg_qp.outputs import make_folder
from nucliseg_qp.training.checkpoint import read_checkpoint
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.lightning import KeypointTraining
from nucliseg_qp.training.search import find_batch_size, find_learning_rate
from nucliseg_qp.training.validate import choose_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lightning.pytorch.loggers import Logger

    from nucliseg_qp.keypoints.unet import KeypointUNet
    from nucliseg_qp.training.canvases import Canvas
    from nucliseg_qp.training.crop_data import CropData

__all__ = ["Session", "SessionSettings", "Watcher"]

_LOG_STEPS = 10
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
        Gets ``log.csv`` (in ``logs``), ``pictures`` and ``checkpoints``.
    check_steps : int
        Steps between looks at the validation data; each look logs, draws and saves.
    patience : int
        Stop after this many looks without a better F1, and keep the best weights; 0 never stops.
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
    """

    def __init__(self, settings: SessionSettings, watcher: Watcher | None = None) -> None:
        self.settings, self.watcher = settings, watcher
        self.best_f1, self.looks_since_best = -math.inf, 0
        self._best: dict[str, Any] | None = None
        self._info: ModelInfo | None = None
        self._fields: dict[str, list[Canvas]] = {}
        self._checkpoint = settings.out / "checkpoints" / "last.ckpt"
        self._saved = read_checkpoint(self._checkpoint) if settings.resume else None

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

    def loggers(self) -> list[Logger]:
        """Make the loggers: CSV always, others as asked for.

        Raises
        ------
        UsageError
            When the package of one that was asked for is not installed.
        """
        from lightning.pytorch.loggers import CSVLogger

        out = self.settings.out
        made: list[Logger] = [
            CSVLogger(str(out), name="logs", version="", flush_logs_every_n_steps=10)
        ]
        try:
            if self.settings.tensorboard:
                from lightning.pytorch.loggers import TensorBoardLogger

                made.append(TensorBoardLogger(str(out), name="tensorboard", version=""))
            if self.settings.wandb is not None:
                from lightning.pytorch.loggers import WandbLogger

                made.append(WandbLogger(project=self.settings.wandb, save_dir=str(out)))
        except ModuleNotFoundError:
            name = "tensorboard" if len(made) < 1 + self.settings.tensorboard else "wandb"
            raise UsageError(
                f"{name} is not installed", f"pip install {name}, or leave it"
            ) from None
        return made

    def callbacks(self) -> list[Callback]:
        """Give the callback that watches the training."""
        return [_Watch(self)]

    def fit(
        self, new_trainer: Callable[[], Trainer], module: KeypointTraining, data: CropData
    ) -> None:
        """Search what is to be searched, then train, from the checkpoint if resuming."""
        with _quiet():
            if self._saved is None and self.settings.find_batch_size and torch.cuda.is_available():
                find_batch_size(new_trainer(), module, data)
            if self._saved is None and self.settings.find_learning_rate:
                find_learning_rate(new_trainer(), module, data)
            path = str(self._checkpoint) if self._saved else None
            new_trainer().fit(module, datamodule=data, ckpt_path=path, weights_only=True)

    def check(self, trainer: Trainer, module: KeypointTraining) -> bool:
        """Look at the validation data, log, draw, save; tell whether to go on."""
        step, info = trainer.global_step, self._info
        if info is None:
            raise RuntimeError("a session begins before it checks")
        net = copy.deepcopy(module.averaged_net()).cpu().float()
        model = KeypointModel(info, net)
        threshold, found = choose_threshold(model, self._fields)
        scores = [value for name, value in found.items() if name.endswith("_f1")]
        figures = {"f1": float(np.mean(scores)), "threshold": threshold}
        figures |= {key: value for key, value in found.items() if key.startswith("own_")}
        for each in trainer.loggers:
            each.log_metrics({f"validation_{k}": v for k, v in figures.items()}, step)
        self._draw(model, step, trainer)
        make_folder(self._checkpoint.parent)
        trainer.save_checkpoint(self._checkpoint)
        if self.watcher is not None:
            self.watcher.checked(step, figures)
        return self._is_worth_it(figures["f1"], net)

    def _is_worth_it(self, f1: float, net: KeypointUNet) -> bool:
        if f1 > self.best_f1 + 1e-4:
            self.best_f1, self.looks_since_best = f1, 0
            self._best = net.state_dict()
        else:
            self.looks_since_best += 1
        return not self.settings.patience or self.looks_since_best < self.settings.patience

    def _draw(self, model: KeypointModel, step: int, trainer: Trainer) -> None:
        from nucliseg_qp.training.plots import save_heatmaps

        fields = self._fields.get("own") or [f for part in self._fields.values() for f in part[:1]]
        items = [
            LabelledImage("", f.rgbw[..., :3], f.points.astype(np.float64))
            for f in fields[:_PICTURED]
        ]
        path = make_folder(self.settings.out / "pictures") / f"step_{step:06d}.png"
        save_heatmaps(model, items, path)
        _log_picture(trainer.loggers, path, step)

    def best_net(self, module: KeypointTraining) -> KeypointUNet:
        """Give the averaged network: the best one if the training stopped early, else the last."""
        net = module.averaged_net()
        if (
            self.settings.patience
            and self.looks_since_best >= self.settings.patience
            and self._best
        ):
            net.load_state_dict(self._best)
        return net


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and hints to itself; its errors still come."""
    talker = logging.getLogger("lightning.pytorch")
    level = talker.level
    talker.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        talker.setLevel(level)


class _Watch(Callback):
    def __init__(self, session: Session) -> None:
        self._session = session

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        if not isinstance(pl_module, KeypointTraining) or pl_module.searching:
            return
        step, loss, share = trainer.global_step, pl_module.losses[-1], pl_module.progress
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {step}", "Use a smaller --learning-rate"
            )
        if step % _LOG_STEPS == 0:
            rate = float(trainer.optimizers[0].param_groups[0]["lr"])
            recent = float(np.mean(pl_module.losses[-_LOG_STEPS:]))
            values = {"loss": recent, "learning_rate": rate, "seconds": pl_module.spent_seconds}
            for each in trainer.loggers:
                each.log_metrics(values, step)
        if self._session.watcher is not None:
            left = pl_module.spent_seconds * (1 - share) / max(share, 1e-6)
            self._session.watcher.step(step, loss, min(share, 1.0), max(left, 0.0))
        if step % self._session.settings.check_steps == 0:
            trainer.should_stop |= not self._session.check(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, KeypointTraining) and not pl_module.searching:
            make_folder(self._session.settings.out / "checkpoints")
            trainer.save_checkpoint(self._session.settings.out / "checkpoints" / "last.ckpt")


def _log_picture(loggers: list[Logger], path: Path, step: int) -> None:
    import cv2

    for each in loggers:
        kind = type(each).__name__
        if kind == "TensorBoardLogger":
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is not None:
                each.experiment.add_image(  # type: ignore[attr-defined]
                    "heatmaps", pixels[..., ::-1], step, dataformats="HWC"
                )
        elif kind == "WandbLogger":
            each.log_image("heatmaps", [str(path)], step=step)  # type: ignore[attr-defined]
