"""Pictures of each step of the engine on one tile, as an explanation and for tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.pictures.outlines import Outlines
from nucliseg_qp.pictures.preview import save_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.masks.tile import TileMasks
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.palette.classes import PathClass

__all__ = ["save_stages", "stage_pictures"]

BACKGROUND_RGB = (255, 255, 255)
UNKNOWN_RGB = (255, 200, 0)
SEED_RGB = (0, 90, 255)
LABEL_RGB = (20, 20, 20)
LINE_PX = 2


def stage_pictures(
    masks: TileMasks,
    nuclei: Nuclei,
    classes: Sequence[PathClass],
    corner_px: tuple[int, int],
    downsample: int,
) -> dict[str, NDArray[np.uint8]]:
    """Give the picture of each step, name to RGB image of shape (h, w, 3).

    Parameters
    ----------
    masks : TileMasks
        From the mask step.
    nuclei : Nuclei
        The same nuclei with classes.
    classes : sequence of PathClass
        In the order of ``Nuclei.class_index``.
    corner_px : (int, int)
        Full-resolution position of the crop's corner, x before y.
    downsample : int
        Full-resolution pixels per mask pixel.
    """
    seeds, unknown = masks.steps.zones.seeds > 0, masks.steps.zones.unknown
    colours = [one.color_rgb for one in classes]
    outlines = Outlines(masks.image, colours, corner_px, 1 / downsample)
    outlines.add(nuclei)
    return {
        "1-image": masks.image,
        "2-adjusted": masks.steps.adjusted,
        "3-background": _blend(masks.image, ~unknown & ~seeds, BACKGROUND_RGB, 0.75),
        "4-seeds": _blend(_blend(masks.image, unknown, UNKNOWN_RGB, 0.35), seeds, SEED_RGB, 0.8),
        "5-labels": _coloured(masks.labels),
        "6-classes": outlines.picture(LINE_PX),
    }


def save_stages(folder: Path, pictures: dict[str, NDArray[np.uint8]]) -> list[Path]:
    """Write each picture as PNG into ``folder`` and give the paths.

    Raises
    ------
    OutputError
        When one cannot be written.
    """
    paths = [folder / f"{name}.png" for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        save_picture(path, picture)
    return paths


def _blend(
    image: NDArray[np.uint8], where: NDArray[np.bool_], colour: tuple[int, int, int], share: float
) -> NDArray[np.uint8]:
    blended = image.copy()
    blended[where] = (1 - share) * image[where] + share * np.asarray(colour)
    return blended


def _coloured(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    # Neighbours in the order of labels get hues a golden angle apart.
    import cv2

    count = int(labels.max()) + 1
    hsv = np.full((1, count, 3), 230, np.uint8)
    hsv[0, :, 0] = (np.arange(count) * 111) % 180
    table = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    table[0] = LABEL_RGB
    return np.asarray(table[labels], dtype=np.uint8)
