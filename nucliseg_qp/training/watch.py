"""What happens between the steps of a training: figures are logged, looks are taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from nucliseg_qp.errors import InputError
from nucliseg_qp.training.lightning import KeypointTraining

if TYPE_CHECKING:
    from nucliseg_qp.training.session import Session

__all__ = ["Watch"]

_LOG_STEPS = 10


class Watch(Callback):
    """Tells a session what the trainer does.

    Parameters
    ----------
    session : Session
        Logs, looks, and decides when it is enough.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_save_checkpoint(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Keep what the session needs to go on."""
        checkpoint["session"] = self._session.state()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing more where a training that goes on had run out of patience."""
        if _is_training(pl_module):
            trainer.should_stop |= self._session.looks.is_over

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Log, tell, and look at the validation data when it is time."""
        if not isinstance(pl_module, KeypointTraining) or pl_module.searching:
            return
        step, loss, share = trainer.global_step, pl_module.losses[-1], pl_module.progress
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {step}", "Use a smaller --learning-rate"
            )
        if step % _LOG_STEPS == 0:
            _log(trainer, pl_module)
        if self._session.watcher is not None:
            left = pl_module.spent_seconds * (1 - share) / max(share, 1e-6)
            self._session.watcher.step(step, loss, min(share, 1.0), max(left, 0.0))
        if step % self._session.settings.check_steps == 0:
            trainer.should_stop |= not self._session.check(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; where the best look counts, the last weights get their look first."""
        if not isinstance(pl_module, KeypointTraining) or pl_module.searching:
            return
        session, step = self._session, trainer.global_step
        if session.settings.patience and not session.looks.is_over and session.looks.last != step:
            session.check(trainer, pl_module)
        else:
            session.save(trainer)


def _is_training(module: LightningModule) -> bool:
    return isinstance(module, KeypointTraining) and not module.searching


def _log(trainer: Trainer, module: KeypointTraining) -> None:
    rate = float(trainer.optimizers[0].param_groups[0]["lr"])
    recent = float(np.mean(module.losses[-_LOG_STEPS:]))
    values = {"loss": recent, "learning_rate": rate, "seconds": module.spent_seconds}
    for each in trainer.loggers:
        each.log_metrics(values, trainer.global_step)
