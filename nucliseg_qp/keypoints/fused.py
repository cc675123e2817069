"""The keypoint network on a CPU with a third less to compute: same weights, fewer passes.

Every sum and ReLU is done by the convolution before it, while its result is in the cache; an
upsampled map is never made, because three taps on doubled pixels are two taps on the pixels
themselves.  The formulas are those of `nucliseg_qp.keypoints.unet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nucliseg_qp.keypoints.unet import CELLS

if TYPE_CHECKING:
    from nucliseg_qp.keypoints.unet import (
        ContextBlock,
        ConvNorm,
        KeypointUNet,
        ResidualBlock,
        UpBlock,
    )

__all__ = ["FusedNet", "can_fuse"]


class _Conv(NamedTuple):
    weight: Tensor
    bias: Tensor | None


class _Block(NamedTuple):
    first: _Conv
    second: _Conv
    shortcut: _Conv


class _Up(NamedTuple):
    deep: _Conv
    skip: _Conv


def can_fuse() -> bool:
    """Tell whether this build of torch has oneDNN's fused convolutions."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(there) and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


class FusedNet:
    """A network ready for pixels; wants `can_fuse`.

    Parameters
    ----------
    net : KeypointUNet
        From `KeypointUNet.folded`, float32, on the CPU; it is not changed.
    mean, std : tuple of float
        Of the model: pixels in 0 to 1 minus the mean are divided by the other.
    dtype : torch.dtype
        float32 or bfloat16; the last layer is float32 in any case.
    """

    def __init__(
        self,
        net: KeypointUNet,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        dtype: torch.dtype,
    ) -> None:
        self._dtype = dtype
        # One number for all channels is taken off ten times as fast.
        levels = torch.tensor(mean).mul(255)
        self._white = levels[0] if len(set(mean)) == 1 else levels.view(1, 3, 1, 1).to(dtype)
        scale = torch.tensor(std).mul(255).view(1, 3, 1, 1)
        entry = _block(net.block1, dtype, scale)
        self._blocks = (entry, _block(net.block2, dtype), _block(net.block3, dtype))
        context = cast("list[ContextBlock]", list(net.context))
        self._context = [(_conv(one.first, dtype), _conv(one.second, dtype)) for one in context]
        self._up = _up(net.up, dtype)
        self._head = net.head

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the float32 logits and the last features of RGB uint8 (n, 3, h, w)."""
        x = pixels.to(dtype=self._dtype, memory_format=torch.channels_last).sub_(self._white)
        quarter = _down(_down(x, self._blocks[0]), self._blocks[1])
        eighth = _down(quarter, self._blocks[2])
        for first, second in self._context:
            eighth = _add_relu(eighth, _conv_relu(eighth, first), second)
        features = _upward(eighth, quarter, self._up)
        return _cells(features, self._head), features


def _conv(layer: ConvNorm, dtype: torch.dtype, scale: Tensor | float = 1.0) -> _Conv:
    weight, bias = layer.conv.weight.detach() / scale, layer.conv.bias
    return _Conv(_laid_out(weight, dtype), None if bias is None else bias.detach().to(dtype))


def _block(block: ResidualBlock, dtype: torch.dtype, scale: Tensor | float = 1.0) -> _Block:
    shortcut = _conv(block.shortcut, torch.float32, scale)
    # The mean of 2 x 2 pixels and a 1x1 convolution are one 2x2 convolution.
    wide = _laid_out(shortcut.weight.repeat(1, 1, 2, 2) / 4, dtype)
    bias = None if shortcut.bias is None else shortcut.bias.to(dtype)
    return _Block(_conv(block.first, dtype, scale), _conv(block.second, dtype), _Conv(wide, bias))


def _up(block: UpBlock, dtype: torch.dtype) -> _Up:
    weight, bias = _conv(block.mix, torch.float32)
    # The skip has as many channels as the block gives.
    deep = weight.shape[1] - weight.shape[0]
    doubled = _doubled(_doubled(weight[:, :deep]).transpose(2, 3)).transpose(2, 3)
    return _Up(
        _Conv(_laid_out(doubled.transpose(0, 1), dtype), None if bias is None else bias.to(dtype)),
        _Conv(_laid_out(weight[:, deep:], dtype), None),
    )


def _doubled(weight: Tensor) -> Tensor:
    # A 3-tap filter on pixels repeated twice is this 4-tap filter of a transposed convolution.
    left, middle, right = weight.unbind(-1)
    return torch.stack([right, middle + right, left + middle, left], dim=-1)


def _laid_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)


def _cells(features: Tensor, head: nn.Conv2d) -> Tensor:
    """Give the logits of each feature's 2 x 2 cells; a 1x1 convolution is a product of matrices."""
    count, channels, height, width = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels).float()
    bias = cast("Tensor", head.bias)
    cells = torch.addmm(bias, rows, head.weight.view(CELLS**2, channels).t())
    cells = cells.view(count, height, width, CELLS, CELLS).permute(0, 1, 3, 2, 4)
    return cells.reshape(count, 1, height * CELLS, width * CELLS)


def _down(x: Tensor, block: _Block) -> Tensor:
    y = _conv_relu(x, block.first, stride=2)
    return _add_relu(functional.conv2d(x, *block.shortcut, stride=2), y, block.second)


def _upward(deep: Tensor, skip: Tensor, block: _Up) -> Tensor:
    y = functional.conv_transpose2d(deep, *block.deep, stride=2, padding=1)
    return _add_relu(y, skip, block.skip)


def _conv_relu(x: Tensor, conv: _Conv, stride: int = 1) -> Tensor:
    """Give the ReLU of a 3x3 convolution."""
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, *conv, [1, 1], [stride, stride], [1, 1], 1, "relu", [], ""
    )
    return y


def _add_relu(total: Tensor, x: Tensor, conv: _Conv) -> Tensor:
    """Give the ReLU of ``total`` plus a 3x3 convolution of ``x``, in the place of ``total``."""
    y: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        total, x, *conv, [1, 1], [1, 1], [1, 1], 1, "add", 1.0, "relu", [], ""
    )
    return y
