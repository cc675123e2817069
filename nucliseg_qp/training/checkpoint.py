"""Reading Lightning's checkpoints back without running anything that may be in them."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import torch

from nucliseg_qp.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["checkpoint_file", "read_checkpoint", "refuse_other"]


def checkpoint_file(out: Path) -> Path:
    """Name the checkpoint that a training in this folder goes on from."""
    return out / "checkpoints" / "last.ckpt"


def refuse_other(out: Path, was: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with something else than the training was made with.

    Parameters
    ----------
    out : Path
        Folder of the training.
    was, now : dict of str to str
        What it is made with, by name, as the checkpoint has it and as it is asked for; only what
        both know is compared.

    Raises
    ------
    UsageError
        Naming what differs.
    """
    both = [key for key in was if key in now]
    differ = [f"{key} {was[key]}, not {now[key]}" for key in both if was[key] != now[key]]
    if differ:
        raise UsageError(
            f"the training in {out} was made with {' and '.join(differ)}",
            "Give what it was made with, or train in another folder",
        )


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
