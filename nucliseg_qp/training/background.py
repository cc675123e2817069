"""Everything between the nuclei: stroma, cytoplasm, lumina, red cells, specks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.training.glands import WALL_UM, wall_distance_um
from nucliseg_qp.training.scene import MAP_STEP_UM, SPINDLE, Maps, Scene
from nucliseg_qp.training.textures import F32, textures, window

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
    fibre = _fibres(bank.fibres, enlarge(maps.direction, maps, view), x, y, view)
    relief = 0.42 * fibre + 0.2 * window(bank.grain, x, y, *view.size_px) + 0.2 * cloud
    relief = np.maximum(1.0 + np.float32(look.texture) * relief, 0.05)
    plasma, lumen = _cells(scene, view)
    tissue = _tissue(scene, view, cloud, walls, plasma) * np.clip(1.0 - lumen, 0.06, 1.0)
    plasma *= 1.0 + np.float32(look.borders) * walls
    tone = 1.0 + 0.25 * enlarge(maps.tone, maps, view)
    layers = [
        tissue * np.maximum(tone * relief * np.float32(stroma) + plasma * np.float32(cell), 0.0)
        for stroma, cell in (
            (look.stroma_od, look.cytoplasm_od),
            (look.stroma_dab_od, look.cytoplasm_dab_od),
        )
    ]
    _red_cells(scene, view, layers[0], layers[1])
    _specks(scene, view, layers[0], layers[1])
    return layers[0], layers[1]


def fold(scene: Scene, view: Window) -> F32:
    """Return the factor by which a fold thickens the tissue, (h, w) float32, 1 elsewhere."""
    height = enlarge(scene.maps.fold, scene.maps, view)
    return 1.0 + np.float32(scene.look.folds) * np.exp(-((height * np.float32(12.0)) ** 2))


def enlarge(values: F32, maps: Maps, view: Window) -> F32:
    """Interpolate a map to the pixels of a window, (h, w) float32."""
    return _warp(values, view, MAP_STEP_UM, (-maps.margin_um, -maps.margin_um))


def _warp(values: F32, view: Window, step_um: float, origin_um: tuple[float, float]) -> F32:
    """Read a grid whose first value lies at `origin_um` at every pixel centre."""
    scale = view.mpp / step_um
    shift_x = ((view.x_px + 0.5) * view.mpp - origin_um[0]) / step_um
    shift_y = ((view.y_px + 0.5) * view.mpp - origin_um[1]) / step_um
    matrix = np.array(((scale, 0.0, shift_x), (0.0, scale, shift_y)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(values, matrix, view.size_px, flags=flags, borderMode=border)
    return np.asarray(warped, np.float32)


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
    tissue = np.clip(0.5 - enlarge(maps.open, maps, view) * 2.0 + 0.4 * cloud, 0.0, 1.0)
    if look.web > 0:
        spread = np.clip(
            enlarge(maps.tone, maps, view) + 4.0 * np.float32(look.web) - 2.0, 0.0, 1.0
        )
        hollow = spread * (1.0 - plasma) * np.clip(1.0 - 1.6 * walls, 0.0, 0.95)
        tissue *= 1.0 - hollow
    return tissue


def _cells(scene: Scene, view: Window) -> tuple[F32, F32]:
    """Return cytoplasm (0 to about 1) and lumen (0 to 1), each (h, w) float32."""
    margin = 13
    left = int(np.floor(view.x_px * view.mpp / _COARSE_UM)) - margin
    top = int(np.floor(view.y_px * view.mpp / _COARSE_UM)) - margin
    columns = int(np.ceil(view.width_px * view.mpp / _COARSE_UM)) + 2 * margin + 1
    rows = int(np.ceil(view.height_px * view.mpp / _COARSE_UM)) + 2 * margin + 1
    plasma = _around_nuclei(scene, left, top, (rows, columns))
    lumen = np.zeros_like(plasma)
    if len(scene.glands):
        y_um, x_um = np.mgrid[top : top + rows, left : left + columns] * _COARSE_UM
        distance = wall_distance_um(scene.glands, x_um, y_um)
        wall = np.clip((WALL_UM - distance) * 0.4, 0.0, 1.0)
        plasma = np.maximum(plasma, wall).astype(np.float32)
        lumen = np.clip(0.5 - distance * 0.4, 0.0, 1.0).astype(np.float32)
    origin = (left * _COARSE_UM, top * _COARSE_UM)
    return _warp(plasma, view, _COARSE_UM, origin), _warp(lumen, view, _COARSE_UM, origin)


def _around_nuclei(scene: Scene, left: int, top: int, shape: tuple[int, int]) -> F32:
    """Return about 1 near nuclei of cells that have cytoplasm, on the coarse grid."""
    nuclei = scene.nuclei
    column = np.rint(nuclei.x_um / _COARSE_UM).astype(np.intp) - left
    row = np.rint(nuclei.y_um / _COARSE_UM).astype(np.intp) - top
    near = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
    near &= nuclei.kind != SPINDLE
    canvas = np.zeros(shape, np.float32)
    np.add.at(canvas, (row[near], column[near]), np.float32(1.0))
    soft = cv2.GaussianBlur(canvas, (23, 23), 3.0, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(1.0 - np.exp(-60.0 * np.asarray(soft)), np.float32)


def _red_cells(scene: Scene, view: Window, haematoxylin: F32, dab: F32) -> None:
    """Draw pale refractile discs: a thin grey rim, hardly any colour inside."""
    for x_px, y_px, radius_px, strength in _near(scene.red_cells, view):
        there, distance = _disc(haematoxylin.shape, x_px, y_px, radius_px)
        width_px = max(0.2 * radius_px, 0.8)
        rim = np.exp(-(((distance - np.float32(0.85 * radius_px)) / np.float32(width_px)) ** 2))
        fill = np.clip(np.float32(radius_px + 0.5) - distance, 0.0, 1.0)
        amount = np.float32(0.04 + 0.09 * strength)
        haematoxylin[there] += rim * amount
        dab[there] += (rim * np.float32(0.6) + fill * np.float32(0.25)) * amount


def _specks(scene: Scene, view: Window, haematoxylin: F32, dab: F32) -> None:
    for x_px, y_px, radius_px, strength in _near(scene.debris, view):
        there, distance = _disc(haematoxylin.shape, x_px, y_px, radius_px)
        fill = np.clip(np.float32(radius_px + 0.5) - distance, 0.0, 1.0)
        haematoxylin[there] += fill * np.float32(0.4 * strength)
        dab[there] += fill * np.float32(0.2 + 0.6 * (1 - strength))


def _near(things: F32, view: Window) -> list[list[float]]:
    """Return x, y, radius in px of the window, and strength, of what may show in it."""
    x_px = things[:, 0].astype(np.float64) / view.mpp - view.x_px
    y_px = things[:, 1].astype(np.float64) / view.mpp - view.y_px
    slack = 6.0 / view.mpp + 3
    near = (x_px > -slack) & (x_px < view.width_px + slack)
    near &= (y_px > -slack) & (y_px < view.height_px + slack)
    columns = (x_px, y_px, things[:, 2] / view.mpp, things[:, 3])
    rows: list[list[float]] = np.stack(columns, axis=1)[near].tolist()
    return rows


def _disc(
    shape: tuple[int, ...], x_px: float, y_px: float, radius_px: float
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Return the part of the canvas near a centre and each pixel's distance from it."""
    reach = int(np.ceil(1.6 * radius_px)) + 2
    column, row = int(np.floor(x_px)), int(np.floor(y_px))
    x0, x1 = max(column - reach, 0), min(max(column + reach + 1, 0), shape[1])
    y0, y1 = max(row - reach, 0), min(max(row + reach + 1, 0), shape[0])
    dx = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - x_px)
    dy = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - y_px)
    distance = np.sqrt(dx[None, :] ** 2 + dy[:, None] ** 2)
    return (slice(y0, max(y1, y0)), slice(x0, max(x1, x0))), distance
