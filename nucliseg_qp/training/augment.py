"""Augmentation of whole batches as tensors: geometry with its points, stains, optics.

Stains vary in optical-density space (Tellez et al., Whole-slide mitosis detection, IEEE TMI
2018): the concentrations of haematoxylin and DAB and their colours are changed apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nucliseg_qp.training.looks import QUPATH_DAB, QUPATH_HAEMATOXYLIN

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Augmentation", "Views", "augment", "change_stains", "degrade"]


@dataclass(frozen=True)
class Augmentation:
    """How far crops may differ from their canvas.

    Attributes
    ----------
    zoom : tuple of float
        Smallest and largest magnification.
    stretch, shear : float
        Largest relative difference between the axes, and largest shear.
    fade_share : float
        Shares of crops whose haematoxylin, and whose DAB, is faded further.
    fade : tuple of float
        What remains of it.
    haematoxylin, dab : tuple of float
        Factors of the concentrations, log-uniform.
    colour : float
        Standard deviation of the stain vectors' components.
    uneven_share : float
        Share of crops whose staining varies slowly across the field.
    white : tuple of float
        Level of empty glass.
    blur_share, sharpen_share : float
        Shares of crops blurred or sharpened.
    noise : float
        Largest standard deviation of the noise, of full scale.
    """

    zoom: tuple[float, float] = (0.65, 1.6)
    stretch: float = 0.12
    shear: float = 0.1
    fade_share: float = 0.3
    fade: tuple[float, float] = (0.5, 0.85)
    haematoxylin: tuple[float, float] = (0.7, 1.5)
    dab: tuple[float, float] = (0.6, 1.5)
    colour: float = 0.05
    uneven_share: float = 0.3
    white: tuple[float, float] = (0.82, 1.02)
    blur_share: float = 0.4
    sharpen_share: float = 0.15
    noise: float = 0.025


def augment(
    rgbw: Tensor, points: Sequence[Tensor], side_px: int, how: Augmentation, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut and alter one crop of each canvas.

    Parameters
    ----------
    rgbw : Tensor
        float32 (n, 4, s, s) in 0 to 1: colour and weight.
    points : sequence of Tensor
        Per canvas (k, 2): x, y in its pixels.
    side_px : int
        Side of the crops.

    Returns
    -------
    images : Tensor
        float32 (n, 3, side, side) in 0 to 1.
    points : Tensor
        float32 (k, 3): crop index, x, y in its pixels.
    weight : Tensor
        float32 (n, 1, side, side), 0 or 1.
    """
    views = Views.random(len(rgbw), rgbw.shape[-1], side_px, how, rng)
    crops, moved = views.cut_rgbw(rgbw), views.move(points)
    images = degrade(change_stains(crops[:, :3], how, rng), how, rng)
    return images, moved, (crops[:, 3:] > 0.99).float()


class Views(NamedTuple):
    """Where in their canvases crops lie.

    Attributes
    ----------
    grid : Tensor
        float32 (n, side, side, 2): places in the canvas, -1 to 1, for `torch`'s grid_sample.
    matrix, centre : Tensor
        (n, 2, 2) from canvas to crop, and (n, 2) what becomes its middle, in px.
    """

    grid: Tensor
    matrix: Tensor
    centre: Tensor

    @classmethod
    def random(
        cls, count: int, canvas_px: int, side_px: int, how: Augmentation, rng: torch.Generator
    ) -> Views:
        """Turn, flip, zoom, stretch and shift."""
        matrix = _random_matrices(count, how, rng)
        reach = side_px / 2 * torch.linalg.inv(matrix).abs().sum(dim=2)
        slack = (canvas_px / 2 - reach).clamp(min=0.0)
        centre = canvas_px / 2 + slack * _uniform((count, 2), -1.0, 1.0, rng)
        inverse = torch.linalg.inv(matrix)
        shift = (centre * 2 / canvas_px - 1)[:, :, None]
        theta = torch.cat([inverse * side_px / canvas_px, shift], dim=2)
        grid = functional.affine_grid(theta, [count, 1, side_px, side_px], align_corners=False)
        return cls(grid, matrix, centre)

    def cut(self, canvases: Tensor, mode: str = "bilinear") -> Tensor:
        """Give the crops of (n, c, s, s); beyond the canvas it is mirrored."""
        return functional.grid_sample(
            canvases, self.grid, mode=mode, padding_mode="reflection", align_corners=False
        )

    def cut_rgbw(self, rgbw: Tensor) -> Tensor:
        """Give the crops of colour and weight, which is 0 beyond the canvas."""
        crops = self.cut(rgbw)
        crops[:, 3] *= (self.grid.abs() <= 1.0).all(dim=3)
        return crops

    def move(self, points: Sequence[Tensor]) -> Tensor:
        """Give the points near the crops, (k, 3): crop index, x, y in its pixels."""
        return _move_points(points, self.matrix, self.centre, self.grid.shape[1])


def _move_points(points: Sequence[Tensor], matrix: Tensor, centre: Tensor, side_px: int) -> Tensor:
    parts = []
    for index, part in enumerate(points):
        moved = (part - centre[index]) @ matrix[index].T + side_px / 2
        near = ((moved > -16) & (moved < side_px + 16)).all(dim=1)
        moved = moved[near]
        parts.append(torch.cat([torch.full((len(moved), 1), float(index)), moved], dim=1))
    return torch.cat(parts)


def _random_matrices(count: int, how: Augmentation, rng: torch.Generator) -> Tensor:
    """From canvas to crop: rotation, reflection, zoom, stretch and shear, as (n, 2, 2)."""
    angle = _uniform((count,), 0.0, 2 * math.pi, rng)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(count, 2, 2)
    low, high = (math.log(value) for value in how.zoom)
    zoom = _uniform((count, 1), low, high, rng).exp()
    stretch = 1.0 + _uniform((count, 2), -how.stretch / 2, how.stretch / 2, rng)
    flip = torch.where(_uniform((count, 2), 0.0, 1.0, rng) < 0.5, -1.0, 1.0)
    scale = torch.diag_embed(zoom * stretch * flip)
    shear = torch.eye(2).repeat(count, 1, 1)
    shear[:, 0, 1] = _uniform((count,), -how.shear, how.shear, rng)
    return shear @ scale @ turn


def change_stains(images: Tensor, how: Augmentation, rng: torch.Generator) -> Tensor:
    """Change how much of each stain there is, its colour, and the light behind it."""
    count, _, height, width = images.shape
    density = -torch.log(images.clamp(1 / 255, 1.0))
    mixed = _stain_matrices(count, how, rng) @ density.flatten(2)
    density = mixed.view(count, 3, height, width)
    density = density * _uneven((count, height, width), how, rng)
    white = _uniform((count, 1, 1, 1), *how.white, rng)
    tint = 1.0 + 0.02 * torch.randn((count, 3, 1, 1), generator=rng)
    return (torch.exp(-density) * white * tint).clamp(0.0, 1.0)


def _stain_matrices(count: int, how: Augmentation, rng: torch.Generator) -> Tensor:
    """Unmix, scale and mix again in one 3 x 3 matrix per image, acting on RGB densities."""
    first, second = torch.tensor(QUPATH_HAEMATOXYLIN), torch.tensor(QUPATH_DAB)
    stains = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
    stains = stains / stains.norm(dim=0)
    amount = torch.ones(count, 3)
    for column, limits in enumerate((how.haematoxylin, how.dab)):
        low, high = (math.log(value) for value in limits)
        amount[:, column] = _uniform((count,), low, high, rng).exp()
    faded = _uniform((count, 2), 0.0, 1.0, rng) < how.fade_share
    amount[:, :2] *= torch.where(faded, _uniform((count, 2), *how.fade, rng), 1.0)
    noise = how.colour * torch.randn((count, 3, 3), generator=rng)
    unmix: Tensor = torch.linalg.inv(stains)
    mixed: Tensor = (stains + noise) @ torch.diag_embed(amount) @ unmix
    return mixed


def _uneven(shape: tuple[int, int, int], how: Augmentation, rng: torch.Generator) -> Tensor:
    count, height, width = shape
    chosen = (_uniform((count, 1, 1, 1), 0.0, 1.0, rng) < how.uneven_share).float()
    coarse = 1.0 + chosen * _uniform((count, 1, 5, 5), -0.3, 0.25, rng)
    return functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)


def degrade(images: Tensor, how: Augmentation, rng: torch.Generator) -> Tensor:
    """Blur or sharpen, then add noise."""
    count = len(images)
    kind = _uniform((count,), 0.0, 1.0, rng)
    sigma = _uniform((count,), 0.3, 1.3, rng)
    blurred = _blurred(images, sigma)
    gain = _uniform((count,), 0.2, 0.9, rng)
    gain = torch.where(kind > 1.0 - how.sharpen_share, gain, torch.zeros(count))
    gain = torch.where(kind < how.blur_share, -torch.ones(count), gain)
    images = images + gain.view(-1, 1, 1, 1) * (images - blurred)
    level = _uniform((count, 1, 1, 1), 0.0, how.noise, rng)
    return (images + level * torch.randn(images.shape, generator=rng)).clamp(0.0, 1.0)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, each image with its own sigma in pixels."""
    count, _, height, width = images.shape
    steps = torch.arange(-3, 4)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    stack = functional.pad(images, (3, 3, 3, 3), mode="replicate").view(
        1, count * 3, height + 6, -1
    )
    stack = functional.conv2d(stack, kernel[:, None, :, None], groups=count * 3)
    stack = functional.conv2d(stack, kernel[:, None, None, :], groups=count * 3)
    return stack.view(count, 3, height, width)


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low
