"""Paint a window of a scene: stain concentrations first, then light and camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from nucliseg_qp.training.tissue.background import Window, background, fold
from nucliseg_qp.training.tissue.stamp import Outline, outline, stamp
from nucliseg_qp.training.tissue.textures import F32, white_noise, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.looks import Look, Triple
    from nucliseg_qp.training.tissue.scene import Scene

_UNDERLAY = 0.3  # share of what lies below a nucleus that shines through it
_LEAST_BLUR_PX = 0.15
# Dense DAB scatters and blocks red too, until brown is black.
_BLACKENING = (1.0, 0.4, 0.0)


@dataclass(frozen=True)
class Painting:
    """Concentrations (h, w) float32 in OD along each unit stain vector, and labels.

    `labels` holds row + 1 of the scene's nuclei. `rows` are the nuclei painted and
    `centres` their centroids (x, y) in px of the scene.
    """

    haematoxylin: F32
    dab: F32
    labels: NDArray[np.int32]
    rows: NDArray[np.intp]
    centres: NDArray[np.float64]


def paint(scene: Scene, view: Window) -> Painting:
    """Paint background and every nucleus that reaches into the window."""
    haematoxylin, dab = background(scene, view)
    labels = np.zeros(haematoxylin.shape, np.int32)
    rows = nuclei_in(scene, view)
    centres = np.zeros((len(rows), 2))
    for i, row in enumerate(rows.tolist()):
        mark = stamp(scene, row, view.mpp)
        centres[i] = mark.outline.centre_px()
        there, here = _meeting(mark.outline, view)
        keep = 1.0 - np.float32(1.0 - _UNDERLAY) * mark.alpha[here]
        haematoxylin[there] = haematoxylin[there] * keep + mark.haematoxylin[here]
        dab[there] = dab[there] * keep + mark.dab[here]
        labels[there][mark.outline.inside[here]] = row + 1
    if scene.look.folds > 0:
        thicker = fold(scene, view)
        haematoxylin *= thicker
        dab *= thicker
    return Painting(haematoxylin, dab, labels, rows, centres)


def paint_labels(scene: Scene, view: Window) -> NDArray[np.int32]:
    """Return only the labels that `paint` would give, (h, w) int32."""
    labels = np.zeros((view.height_px, view.width_px), np.int32)
    for row in nuclei_in(scene, view).tolist():
        shape = outline(scene, row, view.mpp)
        there, here = _meeting(shape, view)
        labels[there][shape.inside[here]] = row + 1
    return labels


def nuclei_in(scene: Scene, view: Window) -> NDArray[np.intp]:
    """Return the rows of nuclei whose square of reach meets the window, in drawing order."""
    nuclei = scene.nuclei
    reach_um = nuclei.a_um * 1.5 + 2.0
    left, top = view.x_px * view.mpp, view.y_px * view.mpp
    right, bottom = left + view.width_px * view.mpp, top + view.height_px * view.mpp
    meets = (nuclei.x_um + reach_um > left) & (nuclei.x_um - reach_um < right)
    meets &= (nuclei.y_um + reach_um > top) & (nuclei.y_um - reach_um < bottom)
    return np.flatnonzero(meets)


def _meeting(shape: Outline, view: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where patch and window overlap, in the window and in the patch; may be empty."""
    left, top = shape.x_px - view.x_px, shape.y_px - view.y_px
    height, width = shape.rho.shape
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = max(min(left + width, view.width_px), x0), max(min(top + height, view.height_px), y0)
    there = (slice(y0, y1), slice(x0, x1))
    return there, (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def expose(haematoxylin: F32, dab: F32, look: Look) -> F32:
    """Beer-Lambert: concentrations to light, (h, w, 3) float32 in 0..255 before the camera."""
    light = np.empty((*haematoxylin.shape, 3), np.float32)
    minus_log10 = np.float32(-np.log(10.0))
    vectors = zip(_unit(look.haematoxylin), _unit(look.dab), look.white, _BLACKENING, strict=True)
    for channel, (h, d, white, black) in enumerate(vectors):
        bend = np.float32(look.dab_darkening * black)
        density = haematoxylin * np.float32(h) + dab * (np.float32(d) + bend * dab)
        through = np.exp(density * minus_log10)
        through *= np.float32((1 - look.flare) * white)
        through += np.float32(look.flare * white)
        light[..., channel] = through
    return light


def photograph(light: F32, look: Look, mpp: float, x_px: int, y_px: int) -> NDArray[np.uint8]:
    """Blur, sharpen and add noise, all tied to the absolute position of the pixels."""
    sigma = look.blur_um / mpp
    if sigma > _LEAST_BLUR_PX:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), np.float32)
    if look.sharpen > 0:
        soft = np.asarray(cv2.GaussianBlur(light, (0, 0), _sharpening_px(mpp)), np.float32)
        light = light + np.float32(look.sharpen) * (light - soft)
    if look.noise > 0:
        grain = window(white_noise(), x_px, y_px, light.shape[1], light.shape[0])
        light = light + np.float32(look.noise) * grain
    return np.asarray(cv2.convertScaleAbs(np.maximum(light, 0.0)), np.uint8)


def camera_halo_px(look: Look, mpp: float) -> int:
    """Return how far `photograph` looks beyond a pixel."""
    blur_px = look.blur_um / mpp if look.blur_um / mpp > _LEAST_BLUR_PX else 0.0
    reach = 4 * blur_px + (4 * _sharpening_px(mpp) if look.sharpen > 0 else 0.0)
    return int(np.ceil(reach)) + 2


def _sharpening_px(mpp: float) -> float:
    return max(1.0, 0.6 / mpp)


def _unit(vector: Triple) -> NDArray[np.float64]:
    values = np.asarray(vector, dtype=np.float64)
    return np.asarray(values / np.linalg.norm(values))
