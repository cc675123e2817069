"""Paint a window of a scene: stain concentrations first, then light and camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.training.looks import Look, Triple
from nucliseg_qp.training.scene import MAP_STEP_UM, Maps, Scene
from nucliseg_qp.training.stamp import Stamp, stamp
from nucliseg_qp.training.textures import textures, window

F32 = NDArray[np.float32]
_UNDERLAY = 0.3  # share of what lies below a nucleus that shines through it


@dataclass(frozen=True)
class Window:
    """A pixel rectangle of a scene."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    mpp: float


@dataclass(frozen=True)
class Painting:
    """Concentrations (h, w) float32 in OD along each unit stain vector, and labels.

    `labels` holds row + 1 of the scene's nuclei; `centres` and `dab_od` belong to `rows`.
    """

    haematoxylin: F32
    dab: F32
    labels: NDArray[np.int32]
    rows: NDArray[np.intp]
    centres: NDArray[np.float64]
    dab_od: F32


def paint(scene: Scene, view: Window) -> Painting:
    """Paint background and every nucleus that reaches into the window."""
    haematoxylin, dab = background(scene, view)
    labels = np.zeros(haematoxylin.shape, np.int32)
    rows, centres, dab_od = [], [], []
    for row in nuclei_in(scene, view):
        mark = stamp(scene, int(row), view.mpp)
        if not _press(mark, int(row) + 1, view, haematoxylin, dab, labels):
            continue
        rows.append(row)
        centres.append((mark.centre_px[0] - view.x_px, mark.centre_px[1] - view.y_px))
        dab_od.append(mark.dab_od)
    return Painting(
        haematoxylin,
        dab,
        labels,
        np.asarray(rows, np.intp),
        np.asarray(centres, np.float64).reshape(-1, 2),
        np.asarray(dab_od, np.float32),
    )


def nuclei_in(scene: Scene, view: Window) -> NDArray[np.intp]:
    """Return the rows of nuclei whose square of reach meets the window, in drawing order."""
    nuclei = scene.nuclei
    reach_um = nuclei.a_um * 1.5 + 2.0
    left, top = view.x_px * view.mpp, view.y_px * view.mpp
    right, bottom = left + view.width_px * view.mpp, top + view.height_px * view.mpp
    meets = (nuclei.x_um + reach_um > left) & (nuclei.x_um - reach_um < right)
    meets &= (nuclei.y_um + reach_um > top) & (nuclei.y_um - reach_um < bottom)
    return np.flatnonzero(meets)


def _press(
    mark: Stamp, label: int, view: Window, haematoxylin: F32, dab: F32, labels: NDArray[np.int32]
) -> bool:
    """Lay one nucleus over the canvas; False when none of its pixels lies in the window."""
    left, top = mark.x_px - view.x_px, mark.y_px - view.y_px
    height, width = mark.alpha.shape
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, view.width_px), min(top + height, view.height_px)
    if x0 >= x1 or y0 >= y1:
        return False
    there = (slice(y0, y1), slice(x0, x1))
    here = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    alpha = mark.alpha[here]
    keep = 1.0 - (1.0 - _UNDERLAY) * alpha
    haematoxylin[there] = haematoxylin[there] * keep + mark.haematoxylin[here]
    dab[there] = dab[there] * keep + mark.dab[here]
    inside = mark.inside[here]
    labels[there][inside] = label
    return bool(inside.any())


def background(scene: Scene, view: Window) -> tuple[F32, F32]:
    """Return haematoxylin and DAB of stroma, cytoplasm and glass, (h, w) float32."""
    look, maps = scene.look, scene.maps
    texture = textures(view.mpp)
    x, y = view.x_px + scene.offset_px[0], view.y_px + scene.offset_px[1]
    size = (view.width_px, view.height_px)
    fibre = _fibres(texture.fibres, enlarge(maps.direction, maps, view), x, y, size)
    grain = window(texture.grain, x, y, *size)
    cloud = window(texture.cloud, x, y, *size)
    relief = np.maximum(1.0 + look.texture * (0.45 * fibre + 0.2 * grain + 0.25 * cloud), 0.05)
    tissue = np.clip(0.5 - enlarge(maps.open, maps, view) * 2.0 + 0.4 * cloud, 0.0, 1.0)
    if look.web > 0:
        tissue *= 1.0 - look.web * np.clip(cloud * 1.5 - 0.2 * fibre - 0.1, 0.0, 0.95)
    plasma = _cytoplasm(scene, view)
    tone = 1.0 + 0.25 * enlarge(maps.tone, maps, view)
    haematoxylin = tissue * relief * np.maximum(look.stroma_od * tone + plasma * look.cytoplasm_od, 0)
    dab = tissue * relief * np.maximum(
        look.stroma_dab_od * tone + plasma * look.cytoplasm_dab_od, 0
    )
    _red_cells(scene, view, haematoxylin, dab)
    _debris(scene, view, haematoxylin, dab)
    return haematoxylin.astype(np.float32), dab.astype(np.float32)


def _fibres(fibres: tuple[F32, ...], direction: F32, x: int, y: int, size: tuple[int, int]) -> F32:
    """Blend four fixed fibre directions by the local direction of the tissue."""
    total = np.zeros((size[1], size[0]), np.float32)
    for k, fibre in enumerate(fibres):
        weight = np.cos(direction - np.float32(k * np.pi / 4)) ** 4
        total += weight * window(fibre, x, y, *size)
    return total


def enlarge(values: F32, maps: Maps, view: Window) -> F32:
    """Interpolate a map to the pixels of a window, (h, w) float32."""
    scale = view.mpp / MAP_STEP_UM
    shift_x = ((view.x_px + 0.5) * view.mpp + maps.margin_um) / MAP_STEP_UM
    shift_y = ((view.y_px + 0.5) * view.mpp + maps.margin_um) / MAP_STEP_UM
    matrix = np.array(((scale, 0.0, shift_x), (0.0, scale, shift_y)))
    return np.asarray(
        cv2.warpAffine(
            values,
            matrix,
            (view.width_px, view.height_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.float32,
    )


_COARSE_UM = 2.0


def _cytoplasm(scene: Scene, view: Window) -> F32:
    """Return about 1 around nuclei of cells with cytoplasm and 0 far from them."""
    margin = 12
    left = int(np.floor(view.x_px * view.mpp / _COARSE_UM)) - margin
    top = int(np.floor(view.y_px * view.mpp / _COARSE_UM)) - margin
    width = int(np.ceil(view.width_px * view.mpp / _COARSE_UM)) + 2 * margin + 1
    height = int(np.ceil(view.height_px * view.mpp / _COARSE_UM)) + 2 * margin + 1
    canvas = np.zeros((height, width), np.float32)
    nuclei = scene.nuclei
    column = np.rint(nuclei.x_um / _COARSE_UM - left).astype(np.intp)
    row = np.rint(nuclei.y_um / _COARSE_UM - top).astype(np.intp)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (nuclei.kind < 2)
    np.add.at(canvas, (row[inside], column[inside]), np.float32(1.0))
    soft = np.asarray(cv2.GaussianBlur(canvas, (23, 23), 3.0, borderType=cv2.BORDER_CONSTANT))
    scale = view.mpp / _COARSE_UM
    matrix = np.array(
        (
            (scale, 0.0, (view.x_px + 0.5) * scale - left),
            (0.0, scale, (view.y_px + 0.5) * scale - top),
        )
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    spread = cv2.warpAffine(soft, matrix, (view.width_px, view.height_px), flags=flags)
    return np.asarray(1.0 - np.exp(-60.0 * spread), dtype=np.float32)


def _red_cells(scene: Scene, view: Window, haematoxylin: F32, dab: F32) -> None:
    """Pale refractile discs: a thin grey rim, hardly any colour inside."""
    for x_um, y_um, radius_um, strength in _near(scene.red_cells, view):
        centre = (x_um / view.mpp - view.x_px, y_um / view.mpp - view.y_px)
        ring, fill = _disc(haematoxylin.shape, centre, radius_um / view.mpp)
        if ring is None or fill is None:
            continue
        amount = np.float32(0.06 + 0.1 * strength)
        haematoxylin[ring[0]] += ring[1] * amount * 0.8
        dab[ring[0]] += ring[1] * amount * 0.7 + fill * amount * 0.25


def _debris(scene: Scene, view: Window, haematoxylin: F32, dab: F32) -> None:
    for x_um, y_um, radius_um, strength in _near(scene.debris, view):
        centre = (x_um / view.mpp - view.x_px, y_um / view.mpp - view.y_px)
        ring, fill = _disc(haematoxylin.shape, centre, radius_um / view.mpp)
        if ring is None or fill is None:
            continue
        haematoxylin[ring[0]] += fill * np.float32(0.5 * strength)
        dab[ring[0]] += fill * np.float32(0.25 + 0.7 * (1 - strength))


def _near(things: F32, view: Window) -> NDArray[np.float32]:
    x_px, y_px = things[:, 0] / view.mpp - view.x_px, things[:, 1] / view.mpp - view.y_px
    slack = 6.0 / view.mpp
    near = (x_px > -slack) & (x_px < view.width_px + slack)
    return things[near & (y_px > -slack) & (y_px < view.height_px + slack)]


def _disc(
    shape: tuple[int, ...], centre: tuple[float, float], radius_px: float
) -> tuple[tuple[tuple[slice, slice], F32] | None, F32 | None]:
    """Return (where, rim) and the filled disc of one round thing, clipped to the canvas."""
    reach = int(np.ceil(radius_px)) + 2
    column, row = int(np.floor(centre[0])), int(np.floor(centre[1]))
    x0, x1 = max(column - reach, 0), min(column + reach + 1, shape[1])
    y0, y1 = max(row - reach, 0), min(row + reach + 1, shape[0])
    if x0 >= x1 or y0 >= y1:
        return None, None
    dx = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - centre[0])
    dy = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - centre[1])
    distance = np.sqrt(dx[None, :] ** 2 + dy[:, None] ** 2)
    rim = np.exp(-(((distance - radius_px) / max(0.14 * radius_px, 0.7)) ** 2))
    fill = np.clip(radius_px - distance + 0.5, 0.0, 1.0)
    return ((slice(y0, y1), slice(x0, x1)), rim.astype(np.float32)), fill.astype(np.float32)


def expose(haematoxylin: F32, dab: F32, look: Look) -> F32:
    """Beer-Lambert: concentrations to light, (h, w, 3) float32 in 0..255 before the camera."""
    light = np.empty((*haematoxylin.shape, 3), np.float32)
    vectors = zip(_unit(look.haematoxylin), _unit(look.dab), look.white, strict=True)
    for channel, (h, d, white) in enumerate(vectors):
        through = np.exp((haematoxylin * np.float32(h) + dab * np.float32(d)) * np.float32(-2.302585))
        light[..., channel] = (through * np.float32(1 - look.flare) + np.float32(look.flare)) * np.float32(white)
    return light


def photograph(light: F32, look: Look, mpp: float, x_px: int, y_px: int) -> NDArray[np.uint8]:
    """Blur, sharpen and add noise, all tied to the absolute position of the pixels."""
    sigma = look.blur_um / mpp
    if sigma > 0.15:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), dtype=np.float32)
    if look.sharpen > 0:
        soft = cv2.GaussianBlur(light, (0, 0), max(1.0, 0.6 / mpp))
        light = light + np.float32(look.sharpen) * (light - soft)
    if look.noise > 0:
        grain = textures(mpp).white
        rows = np.arange(y_px, y_px + light.shape[0]) % grain.shape[0]
        columns = np.arange(x_px, x_px + light.shape[1]) % grain.shape[1]
        light = light + np.float32(look.noise) * grain[rows[:, None], columns[None, :]]
    return np.rint(np.clip(light, 0.0, 255.0)).astype(np.uint8)


def _unit(vector: Triple) -> NDArray[np.float64]:
    values = np.asarray(vector, dtype=np.float64)
    return np.asarray(values / np.linalg.norm(values))
