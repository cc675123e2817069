"""The training loop's pieces for lightning: batches, the module, its schedule and average."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import IterableDataset, get_worker_info

from nucliseg_qp.keypoints.heatmap import gaussian_heatmap
from nucliseg_qp.keypoints.unet import STRIDE_PX, KeypointUNet
from nucliseg_qp.training.augment import Augmentation, augment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Average = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]

    from nucliseg_qp.training.canvases import CanvasBank

__all__ = ["Batch", "CropStream", "KeypointTraining", "heatmap_loss", "one_cycle"]


logger = logging.getLogger(__name__)

_REPORT_STEPS = 250


class Batch(NamedTuple):
    """Crops with their targets.

    Attributes
    ----------
    images : Tensor
        uint8 (n, 3, side, side).
    heatmap, weight : Tensor
        float32 (n, 1, side / 2, side / 2).
    """

    images: Tensor
    heatmap: Tensor
    weight: Tensor


class CropStream(IterableDataset[Batch]):
    """Endless batches of augmented crops; the bank is renewed by one canvas a batch.

    Parameters
    ----------
    bank
        Where the canvases come from.
    batch_size, side_px
        Of the batches.
    sigma_px
        Gaussian of the targets.
    how
        The augmentation.
    seed
        Of all random choices; each of several worker processes has choices of its own.
    """

    def __init__(
        self,
        bank: CanvasBank,
        batch_size: int,
        side_px: int,
        sigma_px: float,
        how: Augmentation,
        seed: int,
    ) -> None:
        super().__init__()
        self._bank, self._how, self._seed = bank, how, seed
        self._batch_size, self._side_px, self._sigma_px = batch_size, side_px, sigma_px

    def __iter__(self) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(self._seed)
        worker = get_worker_info()
        if worker is not None and worker.num_workers > 1:
            # Each process has a copy of the bank: with one seed all would draw the same.
            own = np.random.SeedSequence([self._seed, worker.id]).generate_state(2)
            rng.manual_seed(int(own[0]))
            self._bank.reseed(int(own[1]))
        self._bank.fill(4)
        while True:
            yield self._draw(rng)
            self._bank.renew()

    def _draw(self, rng: torch.Generator) -> Batch:
        canvases = self._bank.sample(self._batch_size)
        rgbw = torch.from_numpy(np.stack([canvas.rgbw for canvas in canvases]))
        points = [torch.from_numpy(canvas.points) for canvas in canvases]
        images, moved, weight = augment(
            rgbw.permute(0, 3, 1, 2).float() / 255, points, self._side_px, self._how, rng
        )
        cells = self._side_px // STRIDE_PX
        heatmap = gaussian_heatmap(
            moved, (self._batch_size, cells, cells), STRIDE_PX, self._sigma_px
        )
        small = -functional.max_pool2d(-weight, STRIDE_PX)
        return Batch((images * 255).round().byte(), heatmap, small)


def heatmap_loss(logits: Tensor, heatmap: Tensor, weight: Tensor, focus: float) -> Tensor:
    """Cross-entropy against the Gaussians, where cells that are wrong weigh more.

    Li et al., Generalized focal loss, NeurIPS 2020 (quality focal loss): soft targets, and a
    factor |target - probability| ** focus. Divided by the mass of the targets.
    """
    cross = functional.binary_cross_entropy_with_logits(logits, heatmap, reduction="none")
    wrong = (torch.sigmoid(logits.detach()) - heatmap).abs().clamp(min=1e-4) ** focus
    return (cross * wrong * weight).sum() / ((heatmap * weight).sum() + logits.shape[0])


def one_cycle(progress: float, top: float, warm: float = 0.15) -> float:
    """Learning rate at a share of the training: linear up, cosine down (Smith, 2018)."""
    if progress < warm:
        return top * (0.05 + 0.95 * progress / warm)
    falling = min(1.0, (progress - warm) / (1.0 - warm))
    return top * (0.002 + 0.998 * 0.5 * (1.0 + math.cos(math.pi * falling)))


def _moving_average(decay: float) -> Average:
    """Give an exponential average that follows fast at first, so that short trainings count."""

    def average(kept: Sequence[Tensor], new: Sequence[Tensor], count: Tensor | int) -> None:
        share = max(1.0 - decay, 9.0 / (10.0 + float(count)))
        for old, value in zip(kept, new, strict=True):
            if old.is_floating_point():
                old.lerp_(value, share)
            else:
                old.copy_(value)

    return average


class KeypointTraining(LightningModule):
    """Trains a `KeypointUNet` within a number of steps or seconds, whichever ends first.

    Parameters
    ----------
    net
        The network; trained in place.
    mean, std
        Normalisation of RGB in 0 to 1.
    steps, seconds
        The budget; it also sets the learning rate's schedule.
    learning_rate
        At the top of the cycle.
    focus
        See `heatmap_loss`.
    ema_decay
        Of the average of the weights that is kept.
    """

    def __init__(
        self,
        net: KeypointUNet,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        steps: int,
        seconds: float,
        learning_rate: float = 3e-3,
        focus: float = 1.0,
        ema_decay: float = 0.998,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(net, multi_avg_fn=_moving_average(ema_decay), use_buffers=True)
        self.losses: list[float] = []
        self._mean = torch.tensor(mean).view(1, 3, 1, 1)
        self._std = torch.tensor(std).view(1, 3, 1, 1)
        self._steps, self._seconds = steps, seconds
        self.learning_rate, self._focus = learning_rate, focus
        self.searching = False
        """Whether a search of learning rate or batch size is on: the schedule waits."""
        self._started: float | None = None
        self._spent_before = 0.0

    @property
    def progress(self) -> float:
        """Share of the budget that is used."""
        time_share = self.spent_seconds / self._seconds
        # Where steps end the training, no clock has a say: equal seeds give equal models.
        if time_share <= (self.global_step + 1) / self._steps:
            return self.global_step / self._steps
        return time_share

    @property
    def spent_seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._spent_before + running

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the schedule needs to go on."""
        checkpoint["spent_seconds"] = self.spent_seconds
        checkpoint["losses"] = list(self.losses)
        checkpoint["learning_rate"] = self.learning_rate

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the budget up where it was."""
        if not self.searching:
            self._spent_before = float(checkpoint["spent_seconds"])
            self.losses = list(checkpoint["losses"])
            self.learning_rate = float(checkpoint.get("learning_rate", self.learning_rate))

    def training_step(self, batch: Batch, index: int) -> Tensor:  # noqa: ARG002
        """Compute the loss of one batch."""
        images, heatmap, weight = batch
        x = (images.float() / 255 - self._mean.to(self.device)) / self._std.to(self.device)
        logits = self.net(x.contiguous(memory_format=torch.channels_last))
        loss = heatmap_loss(logits, heatmap, weight, self._focus)
        self.losses.append(float(loss.detach()))
        return loss

    def on_train_batch_start(self, batch: Batch, index: int) -> int | None:  # noqa: ARG002
        """Set the learning rate; stop when the budget is used."""
        if self.searching:
            return None
        if self._started is None:
            self._started = time.monotonic()
        if self.progress >= 1.0:
            self.trainer.should_stop = True
            return -1
        rate = one_cycle(self.progress, self.learning_rate)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        return None

    def on_train_batch_end(self, outputs: object, batch: Batch, index: int) -> None:  # noqa: ARG002
        """Take the new weights into the average."""
        self.average.update_parameters(self.net)
        if self.global_step % _REPORT_STEPS == 0:
            recent = self.losses[-_REPORT_STEPS:]
            loss, share = sum(recent) / len(recent), self.progress
            logger.info("step %d, %.0f %% done, loss %.4f", self.global_step, 100 * share, loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Give AdamW over all parameters."""
        return torch.optim.AdamW(self.net.parameters(), lr=self.learning_rate, weight_decay=1e-3)

    def averaged_net(self) -> KeypointUNet:
        """Return the averaged network, in eval mode."""
        net = self.average.module
        if not isinstance(net, KeypointUNet):
            raise TypeError(f"the average is a {type(net).__name__}, not a KeypointUNet")
        return net.eval()
