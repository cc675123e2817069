"""Where things lie in a synthetic tissue: zones, holes, nuclei, red cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.training.tissue.glands import Glands, draw_glands
from nucliseg_qp.training.tissue.layout import Nuclei, draw_nuclei
from nucliseg_qp.training.tissue.maps import Maps, draw_maps, sample

if TYPE_CHECKING:
    from nucliseg_qp.training.looks import Look
    from nucliseg_qp.training.tissue.textures import F32


@dataclass(frozen=True)
class Scene:
    """A tissue of `width_um` x `height_um`, ready to be painted in any window."""

    look: Look
    width_um: float
    height_um: float
    maps: Maps
    glands: Glands
    nuclei: Nuclei
    red_cells: F32
    debris: F32
    offset_px: tuple[int, int]


def plan(
    rng: np.random.Generator,
    width_um: float,
    height_um: float,
    look: Look,
    glass_fraction: float = 0.0,
) -> Scene:
    """Lay out a scene; nothing is painted yet.

    Parameters
    ----------
    rng
        Source of all randomness.
    width_um, height_um
        Size of the scene.
    look
        Staining and tissue.
    glass_fraction
        Share of the scene around one rounded piece of tissue that is empty glass.
    """
    maps = draw_maps(rng, width_um, height_um, look, glass_fraction)
    glands = draw_glands(rng, width_um, height_um, look)
    return Scene(
        look=look,
        width_um=width_um,
        height_um=height_um,
        maps=maps,
        glands=glands,
        nuclei=draw_nuclei(rng, maps, glands, (width_um, height_um), look),
        red_cells=_red_cells(rng, maps, width_um, height_um, look),
        debris=_scatter(rng, look.debris_per_mm2, width_um, height_um, (0.5, 1.8)),
        offset_px=(int(rng.integers(0, 4096)), int(rng.integers(0, 4096))),
    )


def _scatter(
    rng: np.random.Generator,
    per_mm2: float,
    width_um: float,
    height_um: float,
    radius_um: tuple[float, float],
) -> F32:
    """Return rows of x, y, radius in um and a strength from 0 to 1."""
    count = int(rng.poisson(per_mm2 * width_um * height_um * 1e-6))
    low = (0.0, 0.0, radius_um[0], 0.0)
    high = (width_um, height_um, radius_um[1], 1.0)
    return rng.uniform(low, high, (count, 4)).astype(np.float32)


def _red_cells(
    rng: np.random.Generator, maps: Maps, width_um: float, height_um: float, look: Look
) -> F32:
    """Scatter red cells in pools, about a quarter of the area."""
    cells = _scatter(rng, look.red_cells_per_mm2 * 4, width_um, height_um, (2.4, 3.4))
    x_um, y_um = cells[:, 0].astype(np.float64), cells[:, 1].astype(np.float64)
    return cells[sample(maps.tone, x_um, y_um) > 0.67]
