"""Where the nuclei of a synthetic tissue lie, how large they are and how they stain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.training.tissue.glands import WALL_UM, Glands, palisade, wall_distance_um
from nucliseg_qp.training.tissue.maps import MAP_STEP_UM, MARGIN_UM, Maps, sample
from nucliseg_qp.training.tissue.thinning import apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.looks import Look
    from nucliseg_qp.training.tissue.glands import F64
    from nucliseg_qp.training.tissue.textures import F32

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
class _Bodies:
    """Candidates for nuclei before staining."""

    x_um: F64
    y_um: F64
    a_um: F64
    b_um: F64
    angle: F64
    kind: NDArray[np.int8]


def draw_nuclei(
    rng: np.random.Generator,
    maps: Maps,
    glands: Glands,
    size_um: tuple[float, float],
    look: Look,
) -> Nuclei:
    """Lay out all nuclei of a scene of the given width and height."""
    return _stained(rng, _bodies(rng, maps, glands, size_um, look), look)


def _bodies(
    rng: np.random.Generator,
    maps: Maps,
    glands: Glands,
    size_um: tuple[float, float],
    look: Look,
) -> _Bodies:
    """Scatter many candidates, the wanted ones first, and keep those with room."""
    low = np.full(2, -_OUTSIDE_UM)
    high = np.asarray(size_um) + _OUTSIDE_UM
    area_mm2 = float(np.prod(high - low)) * 1e-6
    border = round((MARGIN_UM - _OUTSIDE_UM) / MAP_STEP_UM)
    tissue = float((maps.open[border:-border, border:-border] < 0).mean())
    count = int(rng.poisson(look.density_per_mm2 * area_mm2 * tissue))
    x_um, y_um = rng.uniform(low, high, (int(count * 3 / max(tissue, 0.05)), 2)).T
    inside = sample(maps.open, x_um, y_um) < -0.4
    inside &= wall_distance_um(glands, x_um, y_um) > WALL_UM
    x_um, y_um = x_um[inside], y_um[inside]
    nest = sample(maps.nest, x_um, y_um)
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
    along = sample(maps.direction, x_um, y_um) + rng.normal(0, 0.25, len(kind))
    angle = np.where(kind == SPINDLE, along, rng.uniform(0, np.pi, len(kind)))
    half_a, half_b = diameter_um * np.sqrt(ratio) / 2, diameter_um / np.sqrt(ratio) / 2
    return _Bodies(x_um, y_um, half_a, half_b, angle, kind)


def _kinds(rng: np.random.Generator, nest: F32, look: Look) -> NDArray[np.int8]:
    """Draw kinds; spindle nuclei keep to the stroma between nests."""
    tilt = np.exp(np.outer(nest, (0.7, 0.7, 0.0, -0.9)) * look.clustering)
    cumulated = np.cumsum(np.asarray(look.shape_mix) * tilt, axis=1)
    draw = rng.random(len(nest)) * cumulated[:, -1]
    place = (draw[:, None] > cumulated).sum(axis=1)
    return np.asarray(np.minimum(place, 3), np.int8)


def _columns(rng: np.random.Generator, glands: Glands, maps: Maps, look: Look) -> _Bodies:
    x_um, y_um, a_um, b_um, angle = palisade(rng, glands, look).T
    inside = sample(maps.open, x_um, y_um) < -0.4
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
