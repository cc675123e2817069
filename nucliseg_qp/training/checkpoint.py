"""Reading Lightning's checkpoints back without running anything that may be in them."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import torch

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_checkpoint"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `KeypointTraining`.

    Raises
    ------
    InputError
        When it is missing, damaged, holds more than tensors and plain values, or is not ours.
    """
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"there is no checkpoint {path} to go on from", "Leave out --resume to begin anew"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} is damaged or no checkpoint ({type(error).__name__})", "Begin anew"
        ) from None
    if "spent_seconds" not in saved:
        raise InputError(f"{path} is not a checkpoint of this program", "Begin anew")
    return saved
