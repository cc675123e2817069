"""The learning rate and the batch size, searched before training with Lightning's Tuner."""

from __future__ import annotations

import logging
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from nucliseg_qp.training.crop_data import CropData
    from nucliseg_qp.training.lightning import KeypointTraining

__all__ = ["find_batch_size", "find_learning_rate"]

logger = logging.getLogger(__name__)

RATES = (3e-4, 1e-2)
"""A search never goes beyond these."""


def find_learning_rate(
    trainer: Trainer, module: KeypointTraining, data: CropData, steps: int = 60
) -> None:
    """Set the top of the learning rate's cycle by a range test (Smith, WACV 2017).

    Three times the rate of steepest descent, between `RATES`; unchanged when the test finds none.
    The network is as before afterwards.
    """
    from lightning.pytorch.tuner.tuning import Tuner

    module.searching = True
    # The finder draws a bar of its own on stderr and cannot be told not to.
    with redirect_stderr(StringIO()):
        finder = Tuner(trainer).lr_find(
            module,
            datamodule=data,
            min_lr=1e-5,
            max_lr=1e-1,
            num_training=steps,
            update_attr=False,
            attr_name="learning_rate",
        )
    _end(module)
    found = finder.suggestion() if finder is not None else None
    if found:
        module.learning_rate = float(np.clip(3 * found, *RATES))
    logger.info("learning rate %.2g", module.learning_rate)


def find_batch_size(
    trainer: Trainer, module: KeypointTraining, data: CropData, largest: int = 256
) -> None:
    """Double the batch until the GPU's memory is full or `largest` is reached."""
    from lightning.pytorch.tuner.tuning import Tuner

    module.searching = True
    first = min(data.batch_size, largest)
    Tuner(trainer).scale_batch_size(module, datamodule=data, init_val=first, max_val=largest)
    _end(module)
    logger.info("batch size %d", data.batch_size)


def _end(module: KeypointTraining) -> None:
    module.searching = False
    module.losses.clear()
