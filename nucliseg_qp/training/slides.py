"""Synthetic whole slides: pyramidal OME-TIFF with known truth, written block by block."""

from __future__ import annotations

import os
import tempfile
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import OutputError, UsageError
from nucliseg_qp.training.looks import Look, plain_look
from nucliseg_qp.training.pyramid import Level, build_levels, write_pyramid
from nucliseg_qp.training.tissue.background import Window
from nucliseg_qp.training.tissue.paint import (
    Painting,
    camera_halo_px,
    expose,
    paint,
    paint_labels,
    photograph,
)
from nucliseg_qp.training.tissue.scene import Scene, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["SlideTruth", "write_slide"]

TILE_PX = 512
# Density is given per 1024 x 1024 px at 0.25 um/px.
_REFERENCE_TILE_MM2 = 0.256**2
_ROOMY_PER_TILE = 420.0


@dataclass(frozen=True)
class SlideTruth:
    """What lies in a synthetic slide.

    Parameters
    ----------
    points
        (n, 2) float64 x, y in px of the full resolution, centroid of each
        nucleus's full shape; a nucleus that the slide's border cuts may have
        its point outside.
    classes
        (n,) int8: 0 Negative, 1, 2, 3 for 1+, 2+, 3+.
    dab_od
        (n,) float32, mean DAB optical density in the nucleus.
    width_px, height_px, mpp
        Size and pixel size (um) of the slide.
    scene
        The layout, from which labels are painted again.
    numbers
        (rows of the scene + 1,) int32, label of each row of the scene's nuclei + 1.
    """

    points: NDArray[np.float64]
    classes: NDArray[np.int8]
    dab_od: NDArray[np.float32]
    width_px: int
    height_px: int
    mpp: float
    scene: Scene
    numbers: NDArray[np.int32]

    def labels(self, x_px: int, y_px: int, width_px: int, height_px: int) -> NDArray[np.int32]:
        """Paint the labels of any region, (height, width) int32; i + 1 is row i of `points`."""
        view = Window(x_px, y_px, width_px, height_px, self.mpp)
        return self.numbers[paint_labels(self.scene, view)]

    def save(self, path: Path) -> None:
        """Write points, classes, DAB and pixel size as .npz; labels need the object itself."""
        np.savez_compressed(
            path,
            points=self.points,
            classes=self.classes,
            dab_od=self.dab_od,
            mpp=np.float64(self.mpp),
        )


@dataclass
class _Seen:
    """Centroid and visible area of the scene's nuclei, gathered while blocks are painted."""

    centres: NDArray[np.float64]
    visible_px: NDArray[np.int64]

    def add(self, painting: Painting, core: tuple[slice, slice]) -> None:
        self.centres[painting.rows] = painting.centres
        labels = painting.labels[core]
        # Only the rows of this block, which may be far apart: count them by position.
        position = np.searchsorted(painting.rows + 1, labels[labels > 0])
        self.visible_px[painting.rows] += np.bincount(position, minlength=len(painting.rows))


def write_slide(
    path: Path | str,
    width_px: int,
    height_px: int,
    mpp: float,
    seed: int,
    nuclei_per_tile: float,
    look: Look | None = None,
    glass_fraction: float = 0.0,
    *,
    block_px: int = 1024,
    jpeg_quality: int = 90,
) -> SlideTruth:
    """Write a synthetic H-DAB slide as a tiled, pyramidal OME-TIFF.

    No more than one row of blocks is held in memory; the levels of the pyramid
    wait in temporary files beside the output. The pixels do not depend on
    `block_px`.

    Parameters
    ----------
    path
        Ends in .ome.tif or .ome.tiff; an existing file is replaced when all is written.
    width_px, height_px, mpp
        Size in px and pixel size in um.
    seed
        Equal arguments give equal slides.
    nuclei_per_tile
        Nuclei per (256 um)^2 of tissue, that is per 1024 x 1024 px at 0.25 um/px. Above
        420 they are drawn smaller, as in lymphoid tissue, so that they find room.
    look
        `plain_look()` when None; its density is replaced.
    glass_fraction
        Share of the slide around one rounded piece of tissue that is empty glass.
    block_px
        Side of the blocks painted at once, a multiple of 512.
    jpeg_quality
        1 to 100, or 0 for lossless deflate.

    Raises
    ------
    UsageError
        When a size, the name or a share makes no sense.
    OutputError
        When the file cannot be written.
    """
    path = Path(path)
    _check(path, width_px, height_px, mpp, nuclei_per_tile, glass_fraction, block_px)
    look = _filled(look or plain_look(), nuclei_per_tile)
    size_um = (width_px * mpp, height_px * mpp)
    scene = plan(np.random.default_rng(seed), *size_um, look, glass_fraction)
    count = len(scene.nuclei)
    seen = _Seen(np.zeros((count, 2)), np.zeros(count, np.int64))
    strips = _strips(scene, (width_px, height_px), mpp, block_px, seen)
    settings = (seed, width_px, height_px, mpp, glass_fraction, asdict(look))
    _write(path, (width_px, height_px), strips, mpp, jpeg_quality, str(settings))
    return _truth(scene, seen, (width_px, height_px), mpp)


def _write(
    path: Path,
    size_px: tuple[int, int],
    strips: Iterator[NDArray[np.uint8]],
    mpp: float,
    jpeg_quality: int,
    settings: str,
) -> None:
    """Write beside the output first, so that a failure leaves nothing under its name."""
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, settings))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".slide-") as folder:
            levels = build_levels(Level(Path(folder) / "0.rgb", *size_px), strips)
            draft = Path(folder) / "draft.ome.tif"
            write_pyramid(draft, levels, mpp, TILE_PX, jpeg_quality, name)
            os.replace(draft, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}", "Name a folder with room") from error


def _filled(look: Look, nuclei_per_tile: float) -> Look:
    """Return the look at a density; nuclei shrink where they would no longer fit."""
    shrink = min(1.0, (_ROOMY_PER_TILE / max(nuclei_per_tile, 1.0)) ** 0.5)
    return replace(
        look,
        density_per_mm2=nuclei_per_tile / _REFERENCE_TILE_MM2,
        size_factor=look.size_factor * shrink,
    )


def _check(
    path: Path,
    width_px: int,
    height_px: int,
    mpp: float,
    nuclei_per_tile: float,
    glass_fraction: float,
    block_px: int,
) -> None:
    if not path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        raise UsageError(f"{path.name} is no name for an OME-TIFF", "End it in .ome.tif")
    if width_px < 1 or height_px < 1 or not 0.05 <= mpp <= 4.0:
        seen = f"a slide of {width_px} x {height_px} px at {mpp} um/px"
        raise UsageError(f"{seen} cannot be drawn", "Take at least 1 px and 0.05 to 4 um/px")
    if nuclei_per_tile < 0 or not 0 <= glass_fraction < 1:
        seen = f"{nuclei_per_tile} nuclei per tile and {glass_fraction} glass"
        raise UsageError(f"{seen} make no slide", "Take 0 or more nuclei and 0 to below 1 glass")
    if block_px < TILE_PX or block_px % TILE_PX:
        raise UsageError(f"blocks of {block_px} px", f"Take a multiple of {TILE_PX}")


def _strips(
    scene: Scene, size_px: tuple[int, int], mpp: float, block_px: int, seen: _Seen
) -> Iterator[NDArray[np.uint8]]:
    """Yield the slide as strips of full width from top to bottom, (rows, width, 3) uint8."""
    width_px, height_px = size_px
    for y in range(0, height_px, block_px):
        rows = min(block_px, height_px - y)
        strip = np.empty((rows, width_px, 3), np.uint8)
        for x in range(0, width_px, block_px):
            columns = min(block_px, width_px - x)
            strip[:, x : x + columns] = _block(scene, Window(x, y, columns, rows, mpp), seen)
        yield strip


def _block(scene: Scene, core: Window, seen: _Seen) -> NDArray[np.uint8]:
    """Paint one block with the halo its optics need, and cut the halo off."""
    halo = camera_halo_px(scene.look, core.mpp)
    view = Window(
        core.x_px - halo,
        core.y_px - halo,
        core.width_px + 2 * halo,
        core.height_px + 2 * halo,
        core.mpp,
    )
    painting = paint(scene, view)
    inner = (slice(halo, halo + core.height_px), slice(halo, halo + core.width_px))
    seen.add(painting, inner)
    light = expose(painting.haematoxylin, painting.dab, scene.look)
    return photograph(light, scene.look, core.mpp, view.x_px, view.y_px)[inner]


def _truth(scene: Scene, seen: _Seen, size_px: tuple[int, int], mpp: float) -> SlideTruth:
    rows = np.flatnonzero(seen.visible_px > 0)
    numbers = np.zeros(len(scene.nuclei) + 1, np.int32)
    numbers[rows + 1] = np.arange(1, len(rows) + 1, dtype=np.int32)
    return SlideTruth(
        points=seen.centres[rows],
        classes=scene.nuclei.grade[rows],
        dab_od=scene.nuclei.dab_od[rows].astype(np.float32),
        width_px=size_px[0],
        height_px=size_px[1],
        mpp=mpp,
        scene=scene,
        numbers=numbers,
    )
