"""Make every picture of README and documentation from images that `nucliseg-qp demo` draws.

    python docs/make_pictures.py

Run it after a change of the model or of the outlines, and look at what comes out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from notebook_page import save_figure

from nucliseg_qp.config import Settings
from nucliseg_qp.demo import run_demo
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.resample import read_grid
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.keypoints.unet import GRID_PX
from nucliseg_qp.pictures.preview import Preview, save_picture
from nucliseg_qp.pipeline import Analysis, Engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURES = Path(__file__).parent / "pictures"
MARGIN_PX = 100
"""Nuclei across the border of a picture are outlined too."""
GAP_PX = 8
PEAK = (255, 120, 120)
"""Red, green and blue of the ring around a peak."""


def before_and_after(path: Path, region: Region, engine: Engine) -> NDArray[np.uint8]:
    """Give a part of an image at twice its size, and beside it the same with outlines."""
    longest = 2 * max(region.width_px, region.height_px)
    with open_slide(path) as slide:
        plain, outlined = (
            Preview(slide, region, engine.palette.classes, longest) for _ in range(2)
        )
        for nuclei in Analysis(slide, engine, Scope(region.expanded(MARGIN_PX))).nuclei():
            outlined.add(nuclei)
    return beside(plain.picture(), outlined.picture())


def steps(path: Path, region: Region, engine: Engine, size_px: int) -> NDArray[np.uint8]:
    """Give the pictures of `--stages` in two rows of three, each enlarged to ``size_px``."""
    with open_slide(path) as slide:
        pictures = list(Analysis(slide, engine, Scope(region)).stages().values())
    # The pictures show a tile with the rim around it; the middle is the region itself.
    squares = [enlarged(middle(picture, 0.5), size_px) for picture in pictures]
    rows = [beside(*squares[:3]), beside(*squares[3:])]
    return beside(*(row.swapaxes(0, 1) for row in rows)).swapaxes(0, 1)


def heatmap(path: Path, region: Region, engine: Engine, scale: int) -> NDArray[np.uint8]:
    """Give a part of an image as the network sees it, and beside it what the network answers."""
    with open_slide(path) as slide:
        downsample = engine.mpp / slide.mpp.mpp
        side_px = GRID_PX * round(region.width_px / downsample / GRID_PX)
        left, top = round(region.x_px / downsample), round(region.y_px / downsample)
        seen = read_grid(slide, downsample, left, top, side_px, side_px)
    logits = engine.runner.logits(seen[None])[0, 0].cpu().numpy()
    grey = np.round(255 / (1 + np.exp(-logits))).astype(np.uint8)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    answer = np.ascontiguousarray(enlarged(rgb, scale * side_px))
    for x, y, _ in engine.runner.detect(seen[None])[0]:
        cv2.circle(answer, (round(scale * x), round(scale * y)), 4 * scale, PEAK, 1, cv2.LINE_AA)
    return beside(enlarged(seen, scale * side_px), answer)


def middle(picture: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Cut a picture down to the given share of each side."""
    height, width = picture.shape[:2]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return picture[top : height - top, left : width - left]


def enlarged(picture: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Scale a square picture without smoothing, so that steps of one pixel show."""
    rows = np.arange(size_px) * picture.shape[0] // size_px
    columns = np.arange(size_px) * picture.shape[1] // size_px
    return picture[rows][:, columns]


def beside(*pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put pictures of equal height beside each other."""
    gap = np.full((pictures[0].shape[0], GAP_PX, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)


def main() -> None:
    """Write the pictures."""
    engine = Engine.start(Settings())
    with tempfile.TemporaryDirectory() as folder:
        run_demo(Path(folder))
        drawn = Path(folder) / "images" / "synthetic_ki67.ome.tif"
        real = Path(folder) / "images" / "ihc_colon.ome.tif"
        overview = before_and_after(drawn, Region(330, 280, 300, 230), engine)
        save_picture(PICTURES / "overview.jpg", overview)
        spots = heatmap(drawn, Region(330, 280, 360, 360), engine, 3)
        save_picture(PICTURES / "heatmap.jpg", spots)
        cytoplasm = before_and_after(real, Region(250, 150, 250, 250), engine)
        save_picture(PICTURES / "cytoplasm.jpg", cytoplasm)
        stages = steps(drawn, Region(380, 300, 160, 160), engine, 320)
        save_picture(PICTURES / "steps.jpg", stages)
    save_figure(PICTURES / "image-to-plot.png")


if __name__ == "__main__":
    main()
