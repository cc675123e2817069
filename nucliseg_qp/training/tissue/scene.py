"""Where things lie in a synthetic tissue: zones, holes, nuclei, red cells."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.training.looks import Look
from nucliseg_qp.training.tissue.glands import (
    WALL_UM,
    Glands,
    draw_glands,
    palisade,
    wall_distance_um,
)
from nucliseg_qp.training.tissue.thinning import apart

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MAP_STEP_UM = 8.0
_OUTSIDE_UM = 20.0  # nuclei are also laid out this far beyond the scene, so that borders cut some
EPITHELIAL, TUMOUR, LYMPHOID, SPINDLE = range(4)
# Range of the mean diameter in um and of the long to short axis ratio, per kind.
_DIAMETER_UM = np.array(((7.0, 11.5), (11.0, 16.5), (5.0, 7.0), (5.5, 8.0)))
_ELONGATION = np.array(((1.05, 1.6), (1.0, 1.45), (1.0, 1.2), (2.6, 4.6)))


@dataclass(frozen=True)
class Nuclei:
    """One row per nucleus, in drawing order (later ones lie above earlier ones).

    Positions are um from the scene's origin; `a_um` and `b_um` are half axes.
    """

    x_um: F64
    y_um: F64
    a_um: F64
    b_um: F64
    angle: F64
    bend: F64
    kind: NDArray[np.int8]
    grade: NDArray[np.int8]
    haematoxylin_od: F64
    dab_od: F64
    vesicular: F64
    nucleoli: NDArray[np.int8]
    edge_um: F64
    phase: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x_um)


@dataclass(frozen=True)
class Maps:
    """Slow variation over the scene, float32 (rows, columns), one value per `MAP_STEP_UM`.

    `open` is above 0 where there is glass and below 0 in tissue.
    """

    margin_um: float
    nest: F32
    direction: F32
    tone: F32
    fold: F32
    open: F32


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


@dataclass(frozen=True)
class _Bodies:
    """Candidates for nuclei before staining; `column` marks those of a gland's palisade."""

    x_um: F64
    y_um: F64
    a_um: F64
    b_um: F64
    angle: F64
    kind: NDArray[np.int8]


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
    maps = _maps(rng, width_um, height_um, look, glass_fraction)
    glands = draw_glands(rng, width_um, height_um, look)
    return Scene(
        look=look,
        width_um=width_um,
        height_um=height_um,
        maps=maps,
        glands=glands,
        nuclei=_stained(rng, _bodies(rng, maps, glands, width_um, height_um, look), look),
        red_cells=_red_cells(rng, maps, width_um, height_um, look),
        debris=_scatter(rng, look.debris_per_mm2, width_um, height_um, (0.5, 1.8)),
        offset_px=(int(rng.integers(0, 4096)), int(rng.integers(0, 4096))),
    )


def sample(values: F32, maps: Maps, x_um: F64, y_um: F64) -> F32:
    """Read a map at positions (nearest map point)."""
    column = np.rint((x_um + maps.margin_um) / MAP_STEP_UM).astype(np.intp)
    row = np.rint((y_um + maps.margin_um) / MAP_STEP_UM).astype(np.intp)
    return values[row.clip(0, values.shape[0] - 1), column.clip(0, values.shape[1] - 1)]


def _maps(
    rng: np.random.Generator, width_um: float, height_um: float, look: Look, glass_fraction: float
) -> Maps:
    margin_um = 64.0
    shape = (
        int(np.ceil((height_um + 2 * margin_um) / MAP_STEP_UM)) + 1,
        int(np.ceil((width_um + 2 * margin_um) / MAP_STEP_UM)) + 1,
    )
    opening = _smooth(rng, shape, 14.0)
    limit = np.quantile(opening, 1 - look.holes) if look.holes > 0 else np.inf
    torn = ((opening - limit) * 3.0).clip(-4, 4)
    return Maps(
        margin_um=margin_um,
        nest=_smooth(rng, shape, 45.0),
        direction=_smooth(rng, shape, 60.0) * np.float32(1.2) + np.float32(rng.uniform(0, np.pi)),
        tone=_smooth(rng, shape, 80.0),
        fold=_smooth(rng, shape, 160.0) + np.float32(rng.uniform(-0.5, 0.5)),
        open=np.maximum(torn, _around(rng, shape, margin_um, glass_fraction)).astype(np.float32),
    )


def _smooth(rng: np.random.Generator, shape: tuple[int, int], length_um: float) -> F32:
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = length_um / MAP_STEP_UM
    field = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
    # The standard deviation of blurred white noise, so that small scenes vary as large ones do.
    return np.asarray(field * (2 * np.sqrt(np.pi) * sigma), dtype=np.float32)


def _around(
    rng: np.random.Generator, shape: tuple[int, int], margin_um: float, glass_fraction: float
) -> F32:
    """Return the map of openness around one rounded piece of tissue."""
    if glass_fraction <= 0:
        return np.full(shape, -4.0, np.float32)
    border = margin_um / MAP_STEP_UM
    half_y, half_x = (max((n - 1) / 2 - border, 1.0) for n in shape)
    y = (np.arange(shape[0]) - border - half_y)[:, None] / half_y
    x = (np.arange(shape[1]) - border - half_x)[None, :] / half_x
    # Between a circle and a square, so that a margin of glass runs all around.
    reach = (np.abs(x) ** 3 + np.abs(y) ** 3) ** (1 / 3)
    ripple_um = 0.12 * min(half_x, half_y) * MAP_STEP_UM
    reach = reach + 0.03 * _smooth(rng, shape, max(ripple_um, MAP_STEP_UM))
    limit = np.quantile(reach[(np.abs(y) <= 1) & (np.abs(x) <= 1)], 1 - glass_fraction)
    return np.asarray(((reach - limit) * min(half_x, half_y)).clip(-4, 4), np.float32)


def _bodies(
    rng: np.random.Generator,
    maps: Maps,
    glands: Glands,
    width_um: float,
    height_um: float,
    look: Look,
) -> _Bodies:
    """Scatter many candidates, the wanted ones first, and keep those with room."""
    area_mm2 = (width_um + 2 * _OUTSIDE_UM) * (height_um + 2 * _OUTSIDE_UM) * 1e-6
    tissue = float((maps.open < 0).mean())
    count = int(rng.poisson(look.density_per_mm2 * area_mm2 * tissue))
    low, high = (-_OUTSIDE_UM, -_OUTSIDE_UM), (width_um + _OUTSIDE_UM, height_um + _OUTSIDE_UM)
    x_um, y_um = rng.uniform(low, high, (int(count * 3 / max(tissue, 0.05)), 2)).T
    inside = sample(maps.open, maps, x_um, y_um) < -0.4
    inside &= wall_distance_um(glands, x_um, y_um) > WALL_UM
    x_um, y_um = x_um[inside], y_um[inside]
    nest = sample(maps.nest, maps, x_um, y_um)
    rank = rng.exponential(1.0, len(x_um)) * np.exp(-1.3 * look.clustering * nest)
    order = np.argsort(rank)
    bodies = _scattered(rng, maps, x_um[order], y_um[order], nest[order], look)
    bodies = _joined(_columns(rng, glands, maps, look), bodies)
    reach_um = np.sqrt(bodies.a_um * bodies.b_um) * (1.0 - look.overlap) + 0.25
    # A palisade stands closer than discs allow; only its short axis needs room.
    reach_um = np.where(bodies.a_um > 1.45 * bodies.b_um, reach_um * 0.86, reach_um)
    return _picked(bodies, apart(bodies.x_um, bodies.y_um, reach_um, count))


def _scattered(
    rng: np.random.Generator, maps: Maps, x_um: F64, y_um: F64, nest: F32, look: Look
) -> _Bodies:
    kind = _kinds(rng, nest, look)
    low, high = _DIAMETER_UM[kind].T
    diameter_um = (low + (high - low) * rng.beta(2, 2, len(kind))) * look.size_factor
    low, high = _ELONGATION[kind].T
    ratio = low + (high - low) * rng.beta(1.3, 2, len(kind))
    along = sample(maps.direction, maps, x_um, y_um) + rng.normal(0, 0.25, len(kind))
    angle = np.where(kind == SPINDLE, along, rng.uniform(0, np.pi, len(kind)))
    half_a, half_b = diameter_um * np.sqrt(ratio) / 2, diameter_um / np.sqrt(ratio) / 2
    return _Bodies(x_um, y_um, half_a, half_b, angle, kind)


def _kinds(rng: np.random.Generator, nest: F32, look: Look) -> NDArray[np.int8]:
    """Draw kinds; spindle nuclei keep to the stroma between nests."""
    tilt = np.exp(np.outer(nest, (0.7, 0.7, 0.0, -0.9)) * look.clustering)
    cumulated = np.cumsum(np.asarray(look.shape_mix) * tilt, axis=1)
    draw = rng.random(len(nest)) * cumulated[:, -1]
    return np.minimum((draw[:, None] > cumulated).sum(axis=1), 3).astype(np.int8)


def _columns(rng: np.random.Generator, glands: Glands, maps: Maps, look: Look) -> _Bodies:
    x_um, y_um, a_um, b_um, angle = palisade(rng, glands, look).T
    inside = sample(maps.open, maps, x_um, y_um) < -0.4
    kind = np.full(len(x_um), EPITHELIAL, np.int8)
    return _picked(_Bodies(x_um, y_um, a_um, b_um, angle, kind), np.flatnonzero(inside))


def _picked(bodies: _Bodies, rows: NDArray[np.intp]) -> _Bodies:
    return _Bodies(*(getattr(bodies, field.name)[rows] for field in fields(bodies)))


def _joined(first: _Bodies, second: _Bodies) -> _Bodies:
    names = [field.name for field in fields(first)]
    return _Bodies(*(np.concatenate((getattr(first, n), getattr(second, n))) for n in names))


def _stained(rng: np.random.Generator, bodies: _Bodies, look: Look) -> Nuclei:
    n = len(bodies.kind)
    bodies = _picked(bodies, rng.permutation(n))
    kind = bodies.kind
    grade, dab_od = draw_grades(rng, n, look)
    low, high = look.haematoxylin_od
    compact = np.where(kind == LYMPHOID, 1.2, np.where(kind == TUMOUR, 0.85, 1.0))
    compact = compact * np.where(grade > 0, look.haematoxylin_under_dab, 1.0)
    pale = (rng.random(n) < look.vesicular) & (kind != LYMPHOID)
    return Nuclei(
        x_um=bodies.x_um,
        y_um=bodies.y_um,
        a_um=bodies.a_um,
        b_um=bodies.b_um,
        angle=bodies.angle,
        bend=np.where(kind == SPINDLE, rng.normal(0, 0.22, n), rng.normal(0, 0.1, n)),
        kind=kind,
        grade=grade,
        haematoxylin_od=(low + (high - low) * rng.beta(1.6, 2, n)) * compact,
        dab_od=dab_od,
        vesicular=np.where(pale, rng.uniform(0.3, 0.75, n), rng.uniform(0, 0.15, n)),
        nucleoli=((rng.random(n) < look.nucleoli) * rng.integers(1, 4, n)).astype(np.int8),
        edge_um=np.where(rng.random(n) < look.out_of_focus, rng.uniform(1, 2.2, n), 0.45),
        phase=rng.integers(0, 1 << 30, n),
    )


def draw_grades(rng: np.random.Generator, n: int, look: Look) -> tuple[NDArray[np.int8], F64]:
    """Draw class (0 to 3) and mean DAB density of n nuclei."""
    mix = np.asarray(look.grade_mix) / np.sum(look.grade_mix)
    positive = rng.random(n) < look.positive_fraction
    grade = np.where(positive, rng.choice(3, n, p=mix) + 1, 0).astype(np.int8)
    low, high = np.asarray((look.negative_dab_od, *look.dab_od))[grade].T
    return grade, low + (high - low) * rng.beta(1.2, 1.5, n)


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
    return cells[sample(maps.tone, maps, x_um, y_um) > 0.67]
