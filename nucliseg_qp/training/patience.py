"""The best look at the validation data so far, and how long ago it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nucliseg_qp.keypoints.unet import KeypointUNet

__all__ = ["Looks"]


@dataclass
class Looks:
    """What the looks of a training found.

    Attributes
    ----------
    patience : int
        Looks without a better F1 after which it is enough; 0 never is.
    best_f1 : float
        The best of all looks.
    since_best : int
        Looks after that one.
    last : int
        Step of the last look.
    best : dict or None
        Weights at the best look.
    """

    patience: int
    best_f1: float = -math.inf
    since_best: int = 0
    last: int = 0
    best: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether patience ran out."""
        return bool(self.patience) and self.since_best >= self.patience

    def add(self, step: int, f1: float, net: KeypointUNet) -> None:
        """Take in a look."""
        self.last = step
        if f1 > self.best_f1 + 1e-4:
            self.best_f1, self.since_best, self.best = f1, 0, net.state_dict()
        else:
            self.since_best += 1

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps: all but the patience, which may be another one then."""
        return {key: value for key, value in vars(self).items() if key != "patience"}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        for key in self.state():
            if key in state:
                setattr(self, key, state[key])
