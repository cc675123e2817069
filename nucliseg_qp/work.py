"""The two pieces of work that can be done anywhere: windows to keypoints, tiles to nuclei.

Whoever does them, in this process, in others or on other machines, gives the same results bit for
bit: a window or a tile is computed from its own pixels and never from what came before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.ahead import read_ahead
from nucliseg_qp.keypoints.search import find_keypoints
from nucliseg_qp.masks.tile import outline_tile, read_crop
from nucliseg_qp.quantify.measure import measure_nuclei

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.geometry import Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.keypoints.search import Keypoints
    from nucliseg_qp.masks.statistics import SlideStatistics
    from nucliseg_qp.masks.tile import MaskGrid, TileMasks
    from nucliseg_qp.nuclei import Nuclei

__all__ = ["Inline", "TilePlan", "Workers", "find_in_windows", "outline_tiles", "tile_nuclei"]


@dataclass(frozen=True)
class TilePlan:
    """What tiles of one slide have in common.

    Parameters
    ----------
    keypoints : Keypoints
        Those of the tiles and of their halos, at least.
    statistics : SlideStatistics
        Of the whole slide.
    grid : MaskGrid
        Resolution of the outlines.
    slide_mpp : float
        Pixel size of the full-resolution image in um.
    """

    keypoints: Keypoints
    statistics: SlideStatistics
    grid: MaskGrid
    slide_mpp: float

    def near(self, tiles: Sequence[Tile]) -> TilePlan:
        """Give the plan with the keypoints that some tiles need and no others."""
        needed = np.zeros(len(self.keypoints), bool)
        for tile in tiles:
            needed |= tile.crop.contains(self.keypoints.x, self.keypoints.y)
        return replace(self, keypoints=self.keypoints.take(needed))


class Workers(Protocol):
    """Who does the work on one machine or many."""

    def keypoints(
        self, slide: Slide, windows: Sequence[Tile], downsample: float
    ) -> Iterator[tuple[int, Keypoints]]:
        """Give the keypoints of windows piece by piece, with the number of windows done."""
        ...

    def nuclei(
        self, slide: Slide, tiles: Sequence[Tile], plan: TilePlan
    ) -> Iterator[tuple[Tile, Nuclei | InputError]]:
        """Give the nuclei of each tile in order, or why it could not be read."""
        ...


@dataclass(frozen=True)
class Inline:
    """Does everything in this process.

    Parameters
    ----------
    engine : Engine
        Model, palette and settings.
    """

    engine: Engine

    def keypoints(
        self, slide: Slide, windows: Sequence[Tile], downsample: float
    ) -> Iterator[tuple[int, Keypoints]]:
        """See `Workers`."""
        batch = self.engine.settings.keypoints.batch_size
        for start in range(0, len(windows), 4 * batch):
            some = windows[start : start + 4 * batch]
            yield len(some), find_in_windows(slide, self.engine, some, downsample)

    def nuclei(
        self, slide: Slide, tiles: Sequence[Tile], plan: TilePlan
    ) -> Iterator[tuple[Tile, Nuclei | InputError]]:
        """See `Workers`."""
        return outline_tiles(slide, self.engine, tiles, plan)


def find_in_windows(
    slide: Slide, engine: Engine, windows: Sequence[Tile], downsample: float
) -> Keypoints:
    """Run the network on windows given in its own pixels."""
    batch = engine.settings.keypoints.batch_size
    return find_keypoints(slide, windows, downsample, engine.runner, batch)


def outline_tiles(
    slide: Slide, engine: Engine, tiles: Sequence[Tile], plan: TilePlan
) -> Iterator[tuple[Tile, Nuclei | InputError]]:
    """Outline, measure and classify the nuclei of tiles while the next ones are read."""

    def read(tile: Tile) -> NDArray[np.uint8]:
        return read_crop(slide, tile, plan.grid)

    for tile, image in read_ahead(read, tiles):
        if isinstance(image, InputError):
            yield tile, image
        else:
            yield tile, tile_nuclei(image, tile, engine, plan)[1]


def tile_nuclei(
    image: NDArray[np.uint8], tile: Tile, engine: Engine, plan: TilePlan
) -> tuple[TileMasks, Nuclei]:
    """Give masks, and nuclei with measurements and classes, of one tile's crop (h, w, 3)."""
    settings, mpp = engine.settings.masks, plan.slide_mpp
    masks = outline_tile(image, tile, plan.keypoints, plan.statistics, settings, plan.grid)
    measured = measure_nuclei(masks.image, masks.labels, masks.nuclei, engine.stains, mpp, mpp)
    return masks, engine.palette.classify(measured)
