"""Paint a window of a scene: stain concentrations first, then light and camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.training.background import Window, background, fold
from nucliseg_qp.training.looks import Look, Triple
from nucliseg_qp.training.scene import Scene
from nucliseg_qp.training.stamp import Stamp, stamp
from nucliseg_qp.training.textures import F32, white_noise, window

_UNDERLAY = 0.3  # share of what lies below a nucleus that shines through it


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
    if scene.look.folds > 0:
        thicker = fold(scene, view)
        haematoxylin *= thicker
        dab *= thicker
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


def expose(haematoxylin: F32, dab: F32, look: Look) -> F32:
    """Beer-Lambert: concentrations to light, (h, w, 3) float32 in 0..255 before the camera."""
    light = np.empty((*haematoxylin.shape, 3), np.float32)
    vectors = zip(_unit(look.haematoxylin), _unit(look.dab), look.white, strict=True)
    for channel, (h, d, white) in enumerate(vectors):
        through = np.exp(
            (haematoxylin * np.float32(h) + dab * np.float32(d)) * np.float32(-2.302585)
        )
        light[..., channel] = (
            through * np.float32(1 - look.flare) + np.float32(look.flare)
        ) * np.float32(white)
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
        grain = window(white_noise(), x_px, y_px, light.shape[1], light.shape[0])
        light = light + np.float32(look.noise) * grain
    return np.rint(np.clip(light, 0.0, 255.0)).astype(np.uint8)


def _unit(vector: Triple) -> NDArray[np.float64]:
    values = np.asarray(vector, dtype=np.float64)
    return np.asarray(values / np.linalg.norm(values))
