"""Everything between the nuclei: stroma, cytoplasm, lumina, red cells, specks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from nucliseg_qp.training.tissue.glands import WALL_UM, wall_distance_um
from nucliseg_qp.training.tissue.layout import SPINDLE
from nucliseg_qp.training.tissue.maps import MAP_STEP_UM, MARGIN_UM
from nucliseg_qp.training.tissue.textures import F32, textures, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.tissue.scene import Scene

# Slow things are computed on a grid this coarse, anchored at the scene's origin.
_COARSE_UM = 2.0


@dataclass(frozen=True)
class Window:
    """A pixel rectangle of a scene."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    mpp: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.width_px, self.height_px


def background(scene: Scene, view: Window) -> tuple[F32, F32]:
    """Return haematoxylin and DAB of all that is no nucleus, two (h, w) float32."""
    look, maps = scene.look, scene.maps
    bank = textures(view.mpp)
    x, y = view.x_px + scene.offset_px[0], view.y_px + scene.offset_px[1]
    cloud = window(bank.cloud, x, y, *view.size_px)
    walls = window(bank.walls, x, y, *view.size_px)
    fibre = _fibres(bank.fibres, enlarge(maps.direction, view), x, y, view)
    relief = 0.42 * fibre + 0.2 * window(bank.grain, x, y, *view.size_px) + 0.2 * cloud
    relief = np.maximum(1.0 + np.float32(look.texture) * relief, 0.05)
    plasma, lumen, haze = _cells(scene, view)
    tissue = _tissue(scene, view, cloud, walls, plasma) * np.clip(1.0 - lumen, 0.06, 1.0)
    plasma *= 1.0 + np.float32(look.borders) * walls
    tone = 1.0 + 0.25 * enlarge(maps.tone, view)
    layers = [
        tissue * np.maximum(tone * relief * np.float32(stroma) + plasma * np.float32(cell), 0.0)
        for stroma, cell in (
            (look.stroma_od, look.cytoplasm_od),
            (look.stroma_dab_od, look.cytoplasm_dab_od),
        )
    ]
    if look.dab_haze > 0:
        layers[1] += tissue * relief * haze * np.float32(look.dab_haze)
    _red_cells(scene, view, layers[0], layers[1])
    _specks(scene, view, layers[0], layers[1])
    return layers[0], layers[1]


def fold(scene: Scene, view: Window) -> F32:
    """Return the factor by which a fold thickens the tissue, (h, w) float32, 1 elsewhere."""
    height = enlarge(scene.maps.fold, view)
    ridge = np.exp(-((height * np.float32(12.0)) ** 2))
    return np.asarray(1.0 + np.float32(scene.look.folds) * ridge, np.float32)


def enlarge(values: F32, view: Window) -> F32:
    """Interpolate a map to the pixels of a window, (h, w) float32."""
    first = -round(MARGIN_UM / MAP_STEP_UM)
    return _stretch(values, view, MAP_STEP_UM, first, first)


def _stretch(values: F32, view: Window, step_um: float, left: int, top: int) -> F32:
    """Interpolate linearly a grid whose first value is number (left, top) from the origin.

    Weights come from absolute positions and each product is rounded once, so that every
    window gets bit for bit the same values; cv2's warps do not promise that.
    """
    low, weight = _between(view.y_px, view.height_px, view.mpp / step_um, top, values.shape[0])
    rows = values[low] + weight[:, None] * (values[low + 1] - values[low])
    low, weight = _between(view.x_px, view.width_px, view.mpp / step_um, left, values.shape[1])
    steps = np.diff(rows, axis=1)
    return np.asarray(np.take(rows, low, axis=1) + weight * np.take(steps, low, axis=1), np.float32)


def _between(
    start_px: int, count_px: int, scale: float, first: int, size: int
) -> tuple[NDArray[np.intp], F32]:
    """Return the grid index below each pixel centre and the weight of the next one."""
    place = (np.arange(start_px, start_px + count_px) + 0.5) * scale
    low = np.floor(place)
    index = np.clip(low.astype(np.intp) - first, 0, size - 2)
    return index, (place - low).astype(np.float32)


def _fibres(fibres: tuple[F32, ...], direction: F32, x: int, y: int, view: Window) -> F32:
    """Blend four fixed fibre directions by the local direction of the tissue."""
    total = np.zeros(direction.shape, np.float32)
    for k, fibre in enumerate(fibres):
        cosine = np.cos(direction - np.float32(k * np.pi / 4))
        cosine *= cosine
        total += cosine * cosine * window(fibre, x, y, *view.size_px)
    return total


def _tissue(scene: Scene, view: Window, cloud: F32, walls: F32, plasma: F32) -> F32:
    """Return 1 in tissue, 0 on glass, and threads between vacuoles in a web."""
    look, maps = scene.look, scene.maps
    tissue = np.clip(0.5 - enlarge(maps.open, view) * 2.0 + 0.4 * cloud, 0.0, 1.0)
    if look.web > 0:
        spread = np.clip(enlarge(maps.tone, view) + 4.0 * np.float32(look.web) - 2.0, 0.0, 1.0)
        filled = np.float32(1.0 - 0.75 * look.web)
        hollow = spread * (1.0 - filled * plasma) * np.clip(1.0 - 1.6 * walls, 0.0, 0.95)
        tissue *= 1.0 - hollow
    return tissue


def _cells(scene: Scene, view: Window) -> tuple[F32, F32, F32]:
    """Return cytoplasm and lumen (0 to 1) and DAB around positive nuclei, (h, w) float32."""
    margin = 13
    left = int(np.floor(view.x_px * view.mpp / _COARSE_UM)) - margin
    top = int(np.floor(view.y_px * view.mpp / _COARSE_UM)) - margin
    columns = int(np.ceil(view.width_px * view.mpp / _COARSE_UM)) + 2 * margin + 1
    rows = int(np.ceil(view.height_px * view.mpp / _COARSE_UM)) + 2 * margin + 1
    plasma, haze = _around_nuclei(scene, left, top, (rows, columns))
    lumen = np.zeros_like(plasma)
    if len(scene.glands):
        y_um, x_um = np.mgrid[top : top + rows, left : left + columns] * _COARSE_UM
        distance = wall_distance_um(scene.glands, x_um, y_um)
        wall = np.clip((WALL_UM - distance) * 0.4, 0.0, 1.0)
        plasma = np.maximum(plasma, wall).astype(np.float32)
        lumen = np.clip(0.5 - distance * 0.4, 0.0, 1.0).astype(np.float32)
    plasma, lumen, haze = (
        _stretch(values, view, _COARSE_UM, left, top) for values in (plasma, lumen, haze)
    )
    return plasma, lumen, haze


def _around_nuclei(scene: Scene, left: int, top: int, shape: tuple[int, int]) -> tuple[F32, F32]:
    """Return cytoplasm (0 to 1) and haze of DAB (OD) near nuclei, on the coarse grid."""
    nuclei = scene.nuclei
    column = np.rint(nuclei.x_um / _COARSE_UM).astype(np.intp) - left
    row = np.rint(nuclei.y_um / _COARSE_UM).astype(np.intp) - top
    near = np.flatnonzero((column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0]))
    place = (row[near], column[near])
    cells, brown = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    np.add.at(cells, place, (nuclei.kind[near] != SPINDLE).astype(np.float32))
    np.add.at(brown, place, (nuclei.dab_od[near] * (nuclei.grade[near] > 0)).astype(np.float32))
    soft = cv2.GaussianBlur(cells, (23, 23), 3.0, borderType=cv2.BORDER_CONSTANT)
    plasma = 1.0 - np.exp(np.float32(-60.0) * np.asarray(soft, np.float32))
    haze = cv2.GaussianBlur(brown, (17, 17), 2.2, borderType=cv2.BORDER_CONSTANT)
    return plasma, np.asarray(haze, np.float32) * np.float32(30.0)


def _red_cells(scene: Scene, view: Window, haematoxylin: F32, dab: F32) -> None:
    """Draw pale refractile discs: a thin grey rim, hardly any colour inside."""
    for x_px, y_px, radius_px, strength in _near(scene.red_cells, view):
        there, distance = _disc(view, x_px, y_px, radius_px)
        width_px = max(0.2 * radius_px, 0.8)
        rim = np.exp(-(((distance - np.float32(0.85 * radius_px)) / np.float32(width_px)) ** 2))
        fill = np.clip(np.float32(radius_px + 0.5) - distance, 0.0, 1.0)
        amount = np.float32(0.04 + 0.09 * strength)
        haematoxylin[there] += rim * amount
        dab[there] += (rim * np.float32(0.6) + fill * np.float32(0.25)) * amount


def _specks(scene: Scene, view: Window, haematoxylin: F32, dab: F32) -> None:
    for x_px, y_px, radius_px, strength in _near(scene.debris, view):
        there, distance = _disc(view, x_px, y_px, radius_px)
        fill = np.clip(np.float32(radius_px + 0.5) - distance, 0.0, 1.0)
        haematoxylin[there] += fill * np.float32(0.4 * strength)
        dab[there] += fill * np.float32(0.2 + 0.6 * (1 - strength))


def _near(things: F32, view: Window) -> list[list[float]]:
    """Return x, y, radius in px of the scene, and strength, of what may show in a window."""
    x_px, y_px, radius_px = (things[:, :3].astype(np.float64) / view.mpp).T
    slack = 6.0 / view.mpp + 3
    near = (x_px > view.x_px - slack) & (x_px < view.x_px + view.width_px + slack)
    near &= (y_px > view.y_px - slack) & (y_px < view.y_px + view.height_px + slack)
    columns = (x_px, y_px, radius_px, things[:, 3])
    rows: list[list[float]] = np.stack(columns, axis=1)[near].tolist()
    return rows


def _disc(
    view: Window, x_px: float, y_px: float, radius_px: float
) -> tuple[tuple[slice, slice], F32]:
    """Return the part of the window near a place of the scene, and each pixel's distance."""
    reach = int(np.ceil(1.6 * radius_px)) + 2
    column, row = int(np.floor(x_px)), int(np.floor(y_px))
    x0, x1 = max(column - reach, view.x_px), min(column + reach + 1, view.x_px + view.width_px)
    y0, y1 = max(row - reach, view.y_px), min(row + reach + 1, view.y_px + view.height_px)
    x1, y1 = max(x1, x0), max(y1, y0)
    dx = (np.arange(x0, x1) + 0.5 - x_px).astype(np.float32)
    dy = (np.arange(y0, y1) + 0.5 - y_px).astype(np.float32)
    there = (slice(y0 - view.y_px, y1 - view.y_px), slice(x0 - view.x_px, x1 - view.x_px))
    return there, np.sqrt(dx[None, :] ** 2 + dy[:, None] ** 2)
