"""Slow variation over a synthetic tissue: nests, fibre direction, folds, holes, its border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from nucliseg_qp.training.looks import Look
    from nucliseg_qp.training.tissue.glands import F64
    from nucliseg_qp.training.tissue.textures import F32

MAP_STEP_UM = 8.0
MARGIN_UM = 64.0  # maps reach this far beyond the scene


@dataclass(frozen=True)
class Maps:
    """Slow variation over the scene, float32 (rows, columns), one value per `MAP_STEP_UM`.

    `open` is above 0 where there is glass and below 0 in tissue.
    """

    nest: F32
    direction: F32
    tone: F32
    fold: F32
    open: F32


def sample(values: F32, x_um: F64, y_um: F64) -> F32:
    """Read a map at positions (nearest map point)."""
    column = np.rint((x_um + MARGIN_UM) / MAP_STEP_UM).astype(np.intp)
    row = np.rint((y_um + MARGIN_UM) / MAP_STEP_UM).astype(np.intp)
    row, column = row.clip(0, values.shape[0] - 1), column.clip(0, values.shape[1] - 1)
    return np.asarray(values[row, column], np.float32)


def draw_maps(
    rng: np.random.Generator, width_um: float, height_um: float, look: Look, glass_fraction: float
) -> Maps:
    """Draw the maps of a scene; `glass_fraction` of it lies around the tissue."""
    shape = (
        int(np.ceil((height_um + 2 * MARGIN_UM) / MAP_STEP_UM)) + 1,
        int(np.ceil((width_um + 2 * MARGIN_UM) / MAP_STEP_UM)) + 1,
    )
    opening = _smooth(rng, shape, 14.0)
    limit = np.quantile(opening, 1 - look.holes) if look.holes > 0 else np.inf
    torn = ((opening - limit) * 3.0).clip(-4, 4)
    return Maps(
        nest=_smooth(rng, shape, 45.0),
        direction=_smooth(rng, shape, 60.0) * np.float32(1.2) + np.float32(rng.uniform(0, np.pi)),
        tone=_smooth(rng, shape, 80.0),
        fold=_smooth(rng, shape, 160.0) + np.float32(rng.uniform(-0.5, 0.5)),
        open=np.maximum(torn, _around(rng, shape, glass_fraction)).astype(np.float32),
    )


def _smooth(rng: np.random.Generator, shape: tuple[int, int], length_um: float) -> F32:
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = length_um / MAP_STEP_UM
    field = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
    # The standard deviation of blurred white noise, so that small scenes vary as large ones do.
    return np.asarray(field * (2 * np.sqrt(np.pi) * sigma), dtype=np.float32)


def _around(rng: np.random.Generator, shape: tuple[int, int], glass_fraction: float) -> F32:
    """Return the map of openness around one rounded piece of tissue."""
    if glass_fraction <= 0:
        return np.full(shape, -4.0, np.float32)
    border = MARGIN_UM / MAP_STEP_UM
    half_y, half_x = (max((n - 1) / 2 - border, 1.0) for n in shape)
    y = (np.arange(shape[0]) - border - half_y)[:, None] / half_y
    x = (np.arange(shape[1]) - border - half_x)[None, :] / half_x
    # Between a circle and a square, so that a margin of glass runs all around.
    reach = (np.abs(x) ** 3 + np.abs(y) ** 3) ** (1 / 3)
    ripple_um = 0.12 * min(half_x, half_y) * MAP_STEP_UM
    reach = reach + 0.03 * _smooth(rng, shape, max(ripple_um, MAP_STEP_UM))
    limit = np.quantile(reach[(np.abs(y) <= 1) & (np.abs(x) <= 1)], 1 - glass_fraction)
    return np.asarray(((reach - limit) * min(half_x, half_y)).clip(-4, 4), np.float32)
