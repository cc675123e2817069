"""The keypoint network: a small U-Net of residual blocks, a heatmap, and radii of keypoints.

Residual blocks: He et al., Deep residual learning, CVPR 2016. U shape: Ronneberger et al.,
U-Net, MICCAI 2015. The last features have a quarter of the resolution, as in CenterNet (Zhou et
al., Objects as points, 2019), and each gives four cells of the heatmap (Shi et al., Real-time
single image super-resolution with sub-pixel convolution, CVPR 2016): layers at half of the
resolution would cost as much as all others and find no more nuclei.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nucliseg_qp.keypoints.radii import REACH_PX, RadiiHead

__all__ = ["CELLS", "GRID_PX", "STRIDE_PX", "KeypointUNet"]

STRIDE_PX = 2
"""Input pixels per heatmap cell."""

GRID_PX = 8
"""Sides and origins of inputs must be multiples of this for tiles to agree with each other."""

CELLS = 2
"""Heatmap cells along each side of a pixel of the last features."""

_RARE_LOGIT = -4.0


class ConvNorm(nn.Module):
    """A convolution and its batch norm, which can be folded into one for inference."""

    def __init__(self, channels_in: int, channels_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, size, stride, padding=size // 2, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y

    def fold(self) -> None:
        """Fold the batch norm into the convolution, in place; only for eval mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut, at half the resolution.

    The shortcut averages 2 x 2 pixels before its 1x1 convolution (He et al., Bag of tricks, CVPR
    2019, ResNet-D); a strided 1x1 convolution of 3 channels corrupts memory in torch 2.13's
    channels-last backward pass on the CPU.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels_in, channels_out, 3, stride=2)
        self.second = ConvNorm(channels_out, channels_out, 3)
        self.shortcut = ConvNorm(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x), inplace=True))
        return functional.relu(y + self.shortcut(functional.avg_pool2d(x, 2)), inplace=True)


class ContextBlock(nn.Module):
    """Two 3x3 convolutions added to their input, at the same resolution: a wider view."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3)
        self.second = ConvNorm(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x), inplace=True))
        return functional.relu(x + y, inplace=True)


class UpBlock(nn.Module):
    """Nearest upsampling by 2, concatenation with the encoder's map, one 3x3 convolution.

    Nearest is exact under tiling as long as a tile starts on the `GRID_PX` grid.
    """

    def __init__(self, channels_in: int, channels_skip: int, channels_out: int) -> None:
        super().__init__()
        self.mix = ConvNorm(channels_in + channels_skip, channels_out, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        upsampled = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return functional.relu(self.mix(torch.cat([upsampled, skip], dim=1)), inplace=True)


class KeypointUNet(nn.Module):
    """Logits of one nucleus heatmap at half the input's resolution, and what radii are told from.

    Parameters
    ----------
    width : int
        Sets the channels: the first block has half as many, the second 1.5 and the third 2 times
        as many.
    depth : int
        Blocks at an eighth of the resolution; each after the first widens the view by 32 px.

    Notes
    -----
    Input float (n, 3, h, w), normalised so that white is 0, h and w multiples of `GRID_PX`;
    output float32 logits (n, 1, h / 2, w / 2). Zero padding thus reads as glass.
    """

    def __init__(self, width: int = 32, depth: int = 1) -> None:
        super().__init__()
        entry, middle, deep = width // 2, width * 3 // 2, width * 2
        self.width, self.depth = width, depth
        self.block1 = ResidualBlock(3, entry)
        self.block2 = ResidualBlock(entry, middle)
        self.block3 = ResidualBlock(middle, deep)
        self.context = nn.Sequential(*(ContextBlock(deep) for _ in range(depth - 1)))
        self.up = UpBlock(deep, middle, middle)
        self.head = nn.Conv2d(middle, CELLS**2, 1)
        self.radii = RadiiHead(middle)
        nn.init.constant_(self.head.bias, _RARE_LOGIT)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return self.maps(x)[0]

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits and the last features, (n, 1.5 width, h / 4, w / 4)."""
        quarter = self.block2(self.block1(x))
        features = self.up(self.context(self.block3(quarter)), quarter)
        # The head stays in float32: bfloat16 logits tie and spoil sub-pixel positions.
        with torch.autocast(features.device.type, enabled=False):
            return functional.pixel_shuffle(self.head(features.float()), CELLS), features

    @property
    def receptive_field_px(self) -> int:
        """How far, in input pixels, a heatmap cell sees beyond its own 2 x 2 pixels."""
        return max(_reach(cell, self.depth) for cell in range(GRID_PX // STRIDE_PX))

    @property
    def halo_px(self) -> int:
        """A margin that makes tiles exact: what the radii look at and what that sees."""
        return -(-(self.receptive_field_px + REACH_PX) // GRID_PX) * GRID_PX

    def folded(self, dtype: torch.dtype = torch.float32) -> KeypointUNet:
        """Copy this network for inference: eval mode, batch norm folded, channels last."""
        net: KeypointUNet = copy.deepcopy(self).eval().float()
        for module in net.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        net = net.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # `radii` may be rounded: bfloat16 moves them by a third of a per cent.
        net.head.float()
        net.requires_grad_(False)
        return net


def _reach(cell: int, depth: int) -> int:
    """Follow the longest way from one heatmap cell back to the input; the skip sees less."""
    first, last = cell // CELLS - 1, cell // CELLS + 1
    first, last = first // 2 - 2 * (depth - 1), last // 2 + 2 * (depth - 1)
    for _ in range(3):
        first, last = first - 1, last + 1
        first, last = 2 * first - 1, 2 * last + 1
    return max(STRIDE_PX * cell - first, last - STRIDE_PX * cell - (STRIDE_PX - 1))
