"""How far a nucleus reaches from its keypoint, in 16 directions.

The radial distances of StarDist (Schmidt et al., Cell detection with star-convex polygons, MICCAI
2018), told by a small perceptron from the features around a keypoint alone: where there is no
nucleus nothing is computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nucliseg_qp.geometry import RAYS

__all__ = ["FEATURE_PX", "REACH_PX", "RadiiHead"]

FEATURE_PX = 4
"""Input pixels per pixel of the last features."""

PATCH = 5
"""Pixels of the last features along each side of the patch around a keypoint."""

REACH_PX = FEATURE_PX * (PATCH // 2 + 1)
"""How far, in input pixels, the features that are looked at may lie from a keypoint."""

_HIDDEN = 96
_TYPICAL_PX = 7.0
_LOG_PX = (-2.0, 5.0)
_ROWS = 256


class RadiiHead(nn.Module):
    """Radial distances from the features around each keypoint.

    Parameters
    ----------
    channels : int
        Of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels * PATCH**2 + 2, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, RAYS),
        )
        last = self.layers[-1]
        nn.init.constant_(last.bias, math.log(_TYPICAL_PX))  # type: ignore[arg-type]

    def forward(self, features: Tensor, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Give the distances in input pixels, float32 (k, 16).

        Parameters
        ----------
        features : Tensor
            (n, channels, h / 4, w / 4) of the images.
        image : Tensor
            int64 (k,): the image each keypoint lies in.
        x, y : Tensor
            float32 (k,): keypoints in input pixels.
        """
        around = _around(features, image, x, y).to(next(self.parameters()).dtype)
        # oneDNN prepares, and keeps, a product for each number of rows it has met.
        spare = 0 if self.training else -len(around) % _ROWS
        filled = functional.pad(around, (0, 0, 0, spare))
        log: Tensor = self.layers(filled)[: len(around)]
        # Bounds that no nucleus comes near keep a badly trained network from infinities.
        return log.float().clamp(*_LOG_PX).exp()


def _around(features: Tensor, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Give the patch of features around each keypoint and where in its middle that lies."""
    column, right = _cells(x, features.shape[3])
    row, down = _cells(y, features.shape[2])
    rows = features.permute(0, 2, 3, 1)
    patch = rows[image[:, None, None], row[:, :, None], column[:, None, :]]
    within = torch.stack([right, down], dim=1).to(patch.dtype)
    return torch.cat([patch.flatten(1), within], dim=1)


def _cells(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Give the pixels of a patch along one axis, (k, 5), and where in the middle one it is."""
    scaled = position.float() / FEATURE_PX
    middle = scaled.floor()
    steps = torch.arange(PATCH, device=position.device) - PATCH // 2
    # Beyond the border its last pixels are repeated.
    return (middle.long()[:, None] + steps).clamp(0, size - 1), scaled - middle - 0.5
