"""Things that are no nuclei, drawn over real images so that the network learns to pass by.

Red cells in IHC are grey rings of nearly a nucleus's size; smudges are the small or very pale
traces of stain that fibres, granules and nuclei out of focus leave. A handful of annotated tiles
holds too few looks of either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nucliseg_qp.training.looks import QUPATH_DAB, QUPATH_HAEMATOXYLIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.canvases import Canvas

__all__ = ["with_red_cells", "with_smudges"]

_RADIUS_UM = (1.6, 4.2)
_CLEARANCE_UM = 5.0
_PER_MM2 = (300.0, 15000.0)
_DARKNESS = (0.08, 0.9)
_GREY, _BROWN = np.array([1.0, 0.95, 1.0]), np.array([0.5, 0.8, 1.0])
_SMUDGE_CLEARANCE_UM = 3.5
_SMUDGE_PER_MM2 = 2500.0


class _Smudge(NamedTuple):
    """Radii in um, darkest optical density, and the share that is drawn out to fibres."""

    smallest_um: float
    largest_um: float
    darkest: float
    fibres: float


# A trace as large as a nucleus must be far paler than any that is annotated.
_SPECK, _BLUR = _Smudge(0.6, 1.7, 0.3, 0.33), _Smudge(1.7, 4.0, 0.06, 0.0)


def with_red_cells(canvas: Canvas, rng: np.random.Generator, mpp: float) -> Canvas:
    """Add red cells to a canvas, singly or crowded, clear of its nuclei.

    Parameters
    ----------
    canvas
        Stays as it is; a changed copy is returned.
    rng
        Of number, places and looks.
    mpp
        um per pixel of the canvas.
    """
    side, area_mm2 = _extent(canvas, mpp)
    count = int(_log_uniform(rng, *_PER_MM2) * area_mm2)
    centres = _clear_of(canvas.points, rng.uniform(0, side, (count, 2)), _CLEARANCE_UM / mpp)
    density = np.zeros((side, side), np.float32)
    typical_um = float(rng.uniform(*_RADIUS_UM))
    darkness = _log_uniform(rng, *_DARKNESS)
    for centre in _thinned(centres, 1.6 * typical_um / mpp):
        radius_px = typical_um * float(rng.uniform(0.85, 1.15)) / mpp
        _draw_cell(density, centre, radius_px, darkness * float(rng.uniform(0.5, 1.2)), rng)
    colour = _GREY + float(rng.random()) * (_BROWN - _GREY) + rng.normal(0.0, 0.1, 3)
    return _darkened(canvas, density, colour)


def with_smudges(canvas: Canvas, rng: np.random.Generator, mpp: float) -> Canvas:
    """Add small specks, short fibres and pale blurs in the colour of either stain.

    Parameters
    ----------
    canvas
        Stays as it is; a changed copy is returned.
    rng
        Of number, places and looks.
    mpp
        um per pixel of the canvas.
    """
    side, area_mm2 = _extent(canvas, mpp)
    for stain, most in ((QUPATH_HAEMATOXYLIN, _SMUDGE_PER_MM2), (QUPATH_DAB, _SMUDGE_PER_MM2 / 4)):
        count = int(rng.uniform(0, most) * area_mm2)
        centres = rng.uniform(0, side, (count, 2))
        density = np.zeros((side, side), np.float32)
        for centre in _clear_of(canvas.points, centres, _SMUDGE_CLEARANCE_UM / mpp):
            _draw_smudge(density, centre, mpp, rng)
        colour = np.array(stain) / max(stain) + rng.normal(0.0, 0.08, 3)
        canvas = _darkened(canvas, density, colour)
    return canvas


def _extent(canvas: Canvas, mpp: float) -> tuple[int, float]:
    """Give the side in pixels and the area in mm2."""
    side = canvas.rgbw.shape[0]
    return side, (side * mpp / 1000.0) ** 2


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _darkened(canvas: Canvas, density: NDArray[np.float32], colour: NDArray[np.float64]) -> Canvas:
    """Lay an absorbing layer of this natural optical density and colour over a canvas."""
    light = np.exp(-density[:, :, None] * colour.astype(np.float32))
    rgbw = canvas.rgbw.copy()
    rgbw[..., :3] = np.round(rgbw[..., :3] * light).clip(0, 255)
    return replace(canvas, rgbw=rgbw)


def _clear_of(
    points: NDArray[np.float32], centres: NDArray[np.float64], distance_px: float
) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    if not len(points) or not len(centres):
        return centres
    gap, _ = cKDTree(points).query(centres)
    return np.asarray(centres[gap > distance_px], np.float64)


def _thinned(centres: NDArray[np.float64], distance_px: float) -> NDArray[np.float64]:
    """Keep the first of any two that are too near."""
    from scipy.spatial import cKDTree

    keep = np.ones(len(centres), bool)
    for first, second in sorted(cKDTree(centres).query_pairs(distance_px)) if len(centres) else ():
        if keep[first]:
            keep[second] = False
    return centres[keep]


def _draw_cell(
    density: NDArray[np.float32],
    centre: NDArray[np.float64],
    radius_px: float,
    darkness: float,
    rng: np.random.Generator,
) -> None:
    """Add a slightly oval disc with a darker rim and, at times, a dark or bright middle."""
    window, distance = _oval_distance(
        density.shape[0], centre, radius_px, float(rng.uniform(0.75, 1.0)), rng
    )
    rim = np.exp(-(((distance - 0.85) / rng.uniform(0.15, 0.35)) ** 2))
    fill = 1.0 / (1.0 + np.exp((distance - 1.0) * 12.0))
    middle = np.exp(-((distance / 0.4) ** 2)) * rng.uniform(-0.3, 0.4)
    amount = darkness * (rim + fill * rng.uniform(0.0, 0.7) + middle)
    density[window] += np.maximum(amount, 0.0).astype(np.float32)


def _draw_smudge(
    density: NDArray[np.float32], centre: NDArray[np.float64], mpp: float, rng: np.random.Generator
) -> None:
    """Add one soft oval, small or pale, or a fibre."""
    kind = _BLUR if rng.random() < 0.35 else _SPECK
    radius_px = float(rng.uniform(kind.smallest_um, kind.largest_um)) / mpp
    oval = float(rng.uniform(0.5, 1.0))
    if rng.random() < kind.fibres:
        radius_px, oval = radius_px * 2.5, oval * 0.3
    window, distance = _oval_distance(density.shape[0], centre, radius_px, oval, rng)
    darkness = kind.darkest * float(np.exp(-rng.uniform(0.0, 1.8)))
    edge = float(rng.uniform(1.5, 3.0))
    density[window] += (darkness * np.exp(-(distance**edge))).astype(np.float32)


def _oval_distance(
    side: int, centre: NDArray[np.float64], radius_px: float, oval: float, rng: np.random.Generator
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Give a window around an oval at a random angle, and each pixel's distance in long radii."""
    reach = int(radius_px * 1.8) + 2
    left, top = (max(0, int(value) - reach) for value in centre)
    right, bottom = (min(side, int(value) + reach + 1) for value in centre)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    dx, dy = x + 0.5 - centre[0], y + 0.5 - centre[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    distance = np.sqrt(along**2 + (across / oval) ** 2) / radius_px
    return (slice(top, bottom), slice(left, right)), distance.astype(np.float32)
