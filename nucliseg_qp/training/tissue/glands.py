"""Round lumina lined by a palisade of tall nuclei."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nucliseg_qp.training.looks import Look

F64 = NDArray[np.float64]

# How far cytoplasm and nuclei reach from the lumen into the wall.
WALL_UM = 17.0


@dataclass(frozen=True)
class Glands:
    """Lumina as circles with two harmonics; one row each, um and radians."""

    x_um: F64
    y_um: F64
    radius_um: F64
    wave: F64
    phase: F64

    def __len__(self) -> int:
        return len(self.x_um)

    def reach_um(self, row: int, angle: F64) -> F64:
        """Return the lumen's radius of one gland in the given directions."""
        wave, phase = self.wave[row], self.phase[row]
        ripple = wave[0] * np.cos(2 * (angle - phase[0])) + wave[1] * np.cos(3 * (angle - phase[1]))
        return np.asarray(self.radius_um[row] * (1 + ripple))


def draw_glands(rng: np.random.Generator, width_um: float, height_um: float, look: Look) -> Glands:
    """Place glands at random, without overlap."""
    count = int(rng.poisson(look.glands_per_mm2 * width_um * height_um * 1e-6))
    places = rng.uniform((0, 0, 10), (width_um, height_um, 42), (count, 3))
    kept: list[int] = []
    for i, (x, y, radius) in enumerate(places):
        others = places[kept]
        near_um = 1.3 * (others[:, 2] + radius) + 2 * WALL_UM
        if (np.hypot(others[:, 0] - x, others[:, 1] - y) > near_um).all():
            kept.append(i)
    x_um, y_um, radius_um = places[kept].reshape(-1, 3).T
    wave = rng.uniform(0, (0.25, 0.12), (len(kept), 2))
    return Glands(x_um, y_um, radius_um, wave, rng.uniform(0, 2 * np.pi, (len(kept), 2)))


def wall_distance_um(glands: Glands, x_um: F64, y_um: F64) -> F64:
    """Return how far each place lies outside the nearest lumen (negative within it).

    Places further than twice the wall from every lumen get that distance.
    """
    far_um = 2 * WALL_UM
    nearest = np.full(np.shape(x_um), far_um)
    for row in range(len(glands)):
        dx, dy = x_um - glands.x_um[row], y_um - glands.y_um[row]
        reach = 1.4 * glands.radius_um[row] + far_um
        close = (np.abs(dx) < reach) & (np.abs(dy) < reach)
        dx, dy = dx[close], dy[close]
        outside = np.hypot(dx, dy) - glands.reach_um(row, np.arctan2(dy, dx))
        nearest[close] = np.minimum(nearest[close], outside)
    return nearest


def palisade(rng: np.random.Generator, glands: Glands, look: Look) -> NDArray[np.float64]:
    """Return rows x, y, half axis along, half axis across (um), angle of the lining nuclei."""
    rows = [_lining(rng, glands, row, look) for row in range(len(glands))]
    return np.concatenate(rows) if rows else np.empty((0, 5))


def _lining(rng: np.random.Generator, glands: Glands, row: int, look: Look) -> NDArray[np.float64]:
    depth_um = WALL_UM * 0.55
    across_um = 2.9 * look.size_factor
    round_um = 2 * np.pi * (glands.radius_um[row] + depth_um)
    count = max(int(round_um / (1.95 * across_um * (1 - 0.6 * look.overlap))), 5)
    angle = np.arange(count) * (2 * np.pi / count) + rng.normal(0, 0.12 / count, count)
    distance = glands.reach_um(row, angle) + depth_um + rng.normal(0, 1.3, count)
    half_across = across_um * rng.uniform(0.85, 1.12, count)
    half_along = half_across * rng.uniform(1.5, 2.5, count)
    x_um = glands.x_um[row] + distance * np.cos(angle)
    y_um = glands.y_um[row] + distance * np.sin(angle)
    tilt = angle + rng.normal(0, 0.12, count)
    return np.stack((x_um, y_um, half_along, half_across, tilt), axis=1)
