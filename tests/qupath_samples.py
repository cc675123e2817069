"""Images and nuclei for the tests of what goes into QuPath."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nucliseg_qp.nuclei import Nuclei, nucleus_ids
from nucliseg_qp.qupath.results import ImageResult, save_parts

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = [("Negative", (112, 112, 225)), ("Positive", (250, 62, 62)), ("Odd one", (1, 2, 3))]
WIDTH_PX, HEIGHT_PX = 320, 240


def image_file(folder: Path, name: str = "a.png") -> Path:
    """Write a small picture without a pixel size."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(150, 255, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def some_nuclei(count: int = 60, shift_px: float = 0.0) -> Nuclei:
    """Make round nuclei on a grid with all classes and some missing measurements."""
    place = np.arange(count)
    x, y = 15.0 + shift_px + 20 * (place % 15), 15.0 + 20 * (place // 15)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 6 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    values = np.random.default_rng(1).uniform(0, 100, (2, count)).astype(np.float32)
    values[1, ::3] = np.nan
    return Nuclei(
        x=x,
        y=y,
        score=np.full(count, 0.5, np.float32),
        ring_xy=(np.stack([x, y], axis=1)[:, None] + circle).reshape(-1, 2),
        ring_start=np.arange(count + 1) * 24,
        class_names=tuple(name for name, _ in CLASSES),
        class_index=(place % 4 - 1).astype(np.int16),
        measurements={"Nucleus: Area": values[0], "Nucleus: DAB OD mean": values[1]},
    )


def result(image: Path, folder: Path, nuclei: Nuclei | None = None, **changes) -> ImageResult:
    """Give what the pipeline gives for one image, in two parts."""
    nuclei = some_nuclei() if nuclei is None else nuclei
    half = len(nuclei) // 2
    pieces = [nuclei.take(np.arange(half)), nuclei.take(np.arange(half, len(nuclei)))]
    saved = save_parts(
        folder, image.stem, ((piece, nucleus_ids(image.name, piece)) for piece in pieces)
    )
    made = ImageResult(
        image_path=image,
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        mpp=0.25,
        mpp_source="--slide-mpp",
        parts=saved,
        provenance={"NucliSeg status": "done", "NucliSeg model": "test"},
    )
    return replace(made, **changes)


def counts(objects: list[dict]) -> dict[str | None, int]:
    """Count QuPath's objects by class."""
    found: dict[str | None, int] = {}
    for item in objects:
        found[item["class"]] = found.get(item["class"], 0) + 1
    return found
