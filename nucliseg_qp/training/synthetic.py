"""Synthetic H-DAB fields with known truth.

Nuclei and tissue are painted as stain concentrations and turned into light by
the Beer-Lambert law with unit stain vectors (Ruifrok and Johnston, 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from nucliseg_qp.training.looks import Look, plain_look, random_look
from nucliseg_qp.training.tissue.background import Window
from nucliseg_qp.training.tissue.paint import Painting, expose, paint, photograph
from nucliseg_qp.training.tissue.scene import Scene, plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.tissue.textures import F32

__all__ = ["Field", "Look", "draw_field", "plain_look", "random_look"]


@dataclass(frozen=True)
class Field:
    """An image and what is in it.

    Parameters
    ----------
    image
        (h, w, 3) uint8 RGB.
    labels
        (h, w) int32, 0 background, i + 1 for nucleus i; the upper nucleus wins.
    points
        (n, 2) float64 x, y in px, centroid of each nucleus's full shape; the
        centre of the first pixel is (0.5, 0.5). A nucleus that the border cuts
        may have its point outside the image.
    classes
        (n,) int8: 0 Negative, 1, 2, 3 for 1+, 2+, 3+.
    dab_od
        (n,) float32, mean DAB optical density in the nucleus.
    mpp
        Pixel size in um.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    points: NDArray[np.float64]
    classes: NDArray[np.int8]
    dab_od: NDArray[np.float32]
    mpp: float


def draw_field(
    seed: int | np.random.Generator, size_px: tuple[int, int], mpp: float, look: Look
) -> Field:
    """Draw a field of synthetic H-DAB tissue.

    Parameters
    ----------
    seed
        A number or a generator; equal ones give equal fields.
    size_px
        Width and height of the image.
    mpp
        Pixel size in um.
    look
        Staining, tissue and camera.
    """
    rng = np.random.default_rng(seed)
    scene = plan(rng, size_px[0] * mpp, size_px[1] * mpp, look)
    view = Window(0, 0, size_px[0], size_px[1], mpp)
    painting = paint(scene, view)
    light = expose(painting.haematoxylin, painting.dab, look)
    light *= uneven(rng, size_px, look.uneven_light)
    at = (int(rng.integers(0, 4096)), int(rng.integers(0, 4096)))
    image = compressed(photograph(light, look, mpp, *at), look.jpeg_quality)
    return _field(image, painting, scene, mpp)


def uneven(rng: np.random.Generator, size_px: tuple[int, int], amount: float) -> F32:
    """Return a (h, w, 1) factor near 1 that falls slowly across the image."""
    slope_x, slope_y = rng.uniform(-1, 1, 2) * amount
    x = np.linspace(-0.5, 0.5, size_px[0], dtype=np.float32) * np.float32(slope_x)
    y = np.linspace(-0.5, 0.5, size_px[1], dtype=np.float32) * np.float32(slope_y)
    return np.asarray(1.0 + y[:, None, None] + x[None, :, None], np.float32)


def compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return the image as JPEG leaves it; quality 0 leaves it as it is."""
    if quality <= 0:
        return image
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def _field(image: NDArray[np.uint8], painting: Painting, scene: Scene, mpp: float) -> Field:
    """Give numbers from 1 on to the nuclei that remain visible."""
    seen = np.bincount(painting.labels.ravel(), minlength=len(scene.nuclei) + 1)[1:] > 0
    keep = seen[painting.rows]
    rows = painting.rows[keep]
    number = np.zeros(len(scene.nuclei) + 1, np.int32)
    number[rows + 1] = np.arange(1, len(rows) + 1, dtype=np.int32)
    return Field(
        image=image,
        labels=number[painting.labels],
        points=painting.centres[keep],
        classes=scene.nuclei.grade[rows],
        dab_od=scene.nuclei.dab_od[rows].astype(np.float32),
        mpp=mpp,
    )
