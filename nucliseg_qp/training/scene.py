"""Where things lie in a synthetic tissue: nuclei, zones, holes, red cells."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.training.looks import Look

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MAP_STEP_UM = 8.0
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

    def take(self, rows: NDArray[np.intp]) -> Nuclei:
        """Return the given rows, in that order."""
        return Nuclei(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Maps:
    """Slow variation over the scene, one value per `MAP_STEP_UM`, float32 (rows, columns)."""

    margin_um: float
    nest: F32
    direction: F32
    tone: F32
    open: F32


@dataclass(frozen=True)
class Scene:
    """A tissue of `width_um` x `height_um`, ready to be painted in any window."""

    look: Look
    width_um: float
    height_um: float
    maps: Maps
    nuclei: Nuclei
    red_cells: F32
    debris: F32
    offset_px: tuple[int, int]


def plan(rng: np.random.Generator, width_um: float, height_um: float, look: Look) -> Scene:
    """Lay out a scene; nothing is painted yet.

    Parameters
    ----------
    rng
        Source of all randomness.
    width_um, height_um
        Size of the scene. Nuclei lie up to 20 um outside it, so that borders are cut naturally.
    look
        Staining and tissue.
    """
    maps = _maps(rng, width_um, height_um, look)
    nuclei = _nuclei(rng, maps, width_um, height_um, look)
    return Scene(
        look=look,
        width_um=width_um,
        height_um=height_um,
        maps=maps,
        nuclei=nuclei,
        red_cells=_red_cells(rng, maps, width_um, height_um, look),
        debris=_scatter(rng, look.debris_per_mm2, width_um, height_um, (0.6, 2.2)),
        offset_px=(int(rng.integers(0, 4096)), int(rng.integers(0, 4096))),
    )


def sample(values: F32, maps: Maps, x_um: F64, y_um: F64) -> F32:
    """Read a map at positions (nearest map point)."""
    column = ((x_um + maps.margin_um) / MAP_STEP_UM).astype(np.intp)
    row = ((y_um + maps.margin_um) / MAP_STEP_UM).astype(np.intp)
    return values[row.clip(0, values.shape[0] - 1), column.clip(0, values.shape[1] - 1)]


def _maps(rng: np.random.Generator, width_um: float, height_um: float, look: Look) -> Maps:
    margin_um = 64.0
    shape = (
        int(np.ceil((height_um + 2 * margin_um) / MAP_STEP_UM)) + 1,
        int(np.ceil((width_um + 2 * margin_um) / MAP_STEP_UM)) + 1,
    )
    opening = _smooth(rng, shape, 14.0)
    limit = np.quantile(opening, 1 - look.holes) if look.holes > 0 else np.inf
    return Maps(
        margin_um=margin_um,
        nest=_smooth(rng, shape, 45.0),
        direction=_smooth(rng, shape, 60.0) * np.float32(1.2) + np.float32(rng.uniform(0, np.pi)),
        tone=_smooth(rng, shape, 80.0),
        open=((opening - limit) * 3.0).clip(-4, 4).astype(np.float32),
    )


def _smooth(rng: np.random.Generator, shape: tuple[int, int], length_um: float) -> F32:
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = length_um / MAP_STEP_UM
    field = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
    # The standard deviation of blurred white noise, so that small scenes vary as large ones do.
    return np.asarray(field * (2 * np.sqrt(np.pi) * sigma), dtype=np.float32)


def _nuclei(
    rng: np.random.Generator, maps: Maps, width_um: float, height_um: float, look: Look
) -> Nuclei:
    margin_um = 20.0
    area_mm2 = (width_um + 2 * margin_um) * (height_um + 2 * margin_um) * 1e-6
    count = int(rng.poisson(look.density_per_mm2 * area_mm2))
    x_um = rng.uniform(-margin_um, width_um + margin_um, count * 3)
    y_um = rng.uniform(-margin_um, height_um + margin_um, count * 3)
    wanted = np.exp(look.clustering * 1.3 * sample(maps.nest, maps, x_um, y_um))
    wanted = wanted * (sample(maps.open, maps, x_um, y_um) < -0.5)
    kind, a_um, b_um = _shapes(rng, sample(maps.nest, maps, x_um, y_um), look)
    order = np.argsort(rng.exponential(1.0, count * 3) / np.maximum(wanted, 1e-9))
    order = order[: int((wanted > 0).sum())]
    reach_um = np.sqrt(a_um * b_um) * (1.0 - look.overlap) + 0.25
    kept = order[_apart(x_um[order], y_um[order], reach_um[order], count)]
    return _dressed(rng, maps, look, kind[kept], x_um[kept], y_um[kept], a_um[kept], b_um[kept])


def _shapes(
    rng: np.random.Generator, nest: F32, look: Look
) -> tuple[NDArray[np.int8], F64, F64]:
    """Draw kind and half axes; spindle nuclei keep to the stroma between nests."""
    mix = np.asarray(look.shape_mix, dtype=np.float64)
    tilt = np.exp(np.outer(nest, (0.7, 0.7, 0.0, -0.9)) * look.clustering)
    cumulated = np.cumsum(mix * tilt, axis=1)
    draw = rng.random(len(nest)) * cumulated[:, -1]
    kind = np.minimum((draw[:, None] > cumulated).sum(axis=1), 3).astype(np.int8)
    low, high = _DIAMETER_UM[kind].T
    diameter_um = (low + (high - low) * rng.beta(2, 2, len(nest))) * look.size_factor
    low, high = _ELONGATION[kind].T
    ratio = low + (high - low) * rng.beta(1.3, 2, len(nest))
    return kind, diameter_um * np.sqrt(ratio) / 2, diameter_um / np.sqrt(ratio) / 2


def _apart(x_um: F64, y_um: F64, reach_um: F64, wanted: int) -> NDArray[np.intp]:
    """Greedy thinning in the given order: no two discs of `reach_um` intersect."""
    cell_um = 2 * float(reach_um.max(initial=1.0))
    cells: dict[tuple[int, int], list[int]] = {}
    xs, ys, reaches = x_um.tolist(), y_um.tolist(), reach_um.tolist()
    kept: list[int] = []
    for i, (x, y, reach) in enumerate(zip(xs, ys, reaches, strict=True)):
        column, row = int(x // cell_um), int(y // cell_um)
        if not _is_free(cells, column, row, x, y, reach, xs, ys, reaches):
            continue
        cells.setdefault((column, row), []).append(i)
        kept.append(i)
        if len(kept) == wanted:
            break
    return np.asarray(kept, dtype=np.intp)


def _is_free(
    cells: dict[tuple[int, int], list[int]], column: int, row: int, x: float, y: float,
    reach: float, xs: list[float], ys: list[float], reaches: list[float],
) -> bool:  # fmt: skip
    for c in (column, column - 1, column + 1):
        for r in (row, row - 1, row + 1):
            for j in cells.get((c, r), ()):
                near = reach + reaches[j]
                if (xs[j] - x) ** 2 + (ys[j] - y) ** 2 < near * near:
                    return False
    return True


def _dressed(
    rng: np.random.Generator, maps: Maps, look: Look, kind: NDArray[np.int8],
    x_um: F64, y_um: F64, a_um: F64, b_um: F64,
) -> Nuclei:  # fmt: skip
    n = len(kind)
    shuffled = rng.permutation(n)
    kind, x_um, y_um, a_um, b_um = (v[shuffled] for v in (kind, x_um, y_um, a_um, b_um))
    free = np.where(kind == SPINDLE, rng.normal(0, 0.25, n), rng.uniform(0, np.pi, n))
    grade, dab_od = draw_grades(rng, n, look)
    low, high = look.haematoxylin_od
    compact = np.where(kind == LYMPHOID, 1.2, np.where(kind == TUMOUR, 0.85, 1.0))
    compact = compact * np.where(grade > 0, look.haematoxylin_under_dab, 1.0)
    pale = (rng.random(n) < look.vesicular) & (kind != LYMPHOID)
    return Nuclei(
        x_um=x_um,
        y_um=y_um,
        a_um=a_um,
        b_um=b_um,
        angle=sample(maps.direction, maps, x_um, y_um) * (kind == SPINDLE) + free,
        bend=np.where(kind == SPINDLE, rng.normal(0, 0.35, n), rng.normal(0, 0.12, n)),
        kind=kind,
        grade=grade,
        haematoxylin_od=(low + (high - low) * rng.beta(1.6, 2, n)) * compact,
        dab_od=dab_od,
        vesicular=np.where(pale, rng.uniform(0.3, 0.75, n), rng.uniform(0, 0.15, n)),
        nucleoli=((rng.random(n) < look.nucleoli) * rng.integers(1, 4, n)).astype(np.int8),
        edge_um=np.where(rng.random(n) < look.out_of_focus, rng.uniform(1, 2.2, n), 0.45),
        phase=rng.integers(0, 1 << 30, n),
    )


def draw_grades(
    rng: np.random.Generator, n: int, look: Look
) -> tuple[NDArray[np.int8], F64]:
    """Draw class (0 to 3) and mean DAB density of n nuclei."""
    mix = np.asarray(look.grade_mix) / np.sum(look.grade_mix)
    positive = rng.random(n) < look.positive_fraction
    grade = np.where(positive, rng.choice(3, n, p=mix) + 1, 0).astype(np.int8)
    low, high = np.asarray((look.negative_dab_od, *look.dab_od))[grade].T
    return grade, low + (high - low) * rng.beta(1.2, 1.5, n)


def _scatter(
    rng: np.random.Generator, per_mm2: float, width_um: float, height_um: float, radius_um: tuple[float, float]
) -> F32:  # fmt: skip
    """Return rows of x, y, radius in um and a strength from 0 to 1."""
    count = int(rng.poisson(per_mm2 * width_um * height_um * 1e-6))
    low = (0.0, 0.0, radius_um[0], 0.0)
    high = (width_um, height_um, radius_um[1], 1.0)
    return rng.uniform(low, high, (count, 4)).astype(np.float32)


def _red_cells(
    rng: np.random.Generator, maps: Maps, width_um: float, height_um: float, look: Look
) -> F32:
    cells = _scatter(rng, look.red_cells_per_mm2 * 3, width_um, height_um, (2.6, 3.6))
    pooled = sample(maps.tone, maps, cells[:, 0].astype(float), cells[:, 1].astype(float)) > 0.6
    return cells[pooled]
