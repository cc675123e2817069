"""Lightning's Trainer as this program wants it: quiet, and interrupted as everything else is."""

from __future__ import annotations

import logging
import signal
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch import Trainer

    from nucliseg_qp.training.fit_settings import FitSettings
    from nucliseg_qp.training.session import Session

__all__ = ["manners", "new_trainer"]


def new_trainer(settings: FitSettings, session: Session | None = None) -> Trainer:
    """Make a Trainer for a training, or for a search before it."""
    from lightning.pytorch import Trainer

    return Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if settings.bfloat16 else "32-true",
        max_steps=settings.steps,
        gradient_clip_val=1.0,
        logger=session.loggers() if session else False,
        callbacks=session.callbacks() if session else None,
        # Searches put a checkpoint there, and leave it when they are killed.
        default_root_dir=settings.out,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def manners() -> Iterator[None]:
    """Keep Lightning's hints to itself, and let an interruption through as what it is.

    Raises
    ------
    KeyboardInterrupt
        Where Lightning would end the program with code 1 and without a word.
    """
    talker = logging.getLogger("lightning.pytorch")
    level = talker.level
    at_interrupt = signal.getsignal(signal.SIGINT)
    talker.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SystemExit:
        signal.signal(signal.SIGINT, at_interrupt or signal.default_int_handler)
        raise KeyboardInterrupt from None
    finally:
        talker.setLevel(level)
