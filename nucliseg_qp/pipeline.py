"""One image through the six steps: tiles, keypoints, masks, measurements, classes, table.

`Analysis.nuclei` is the place to start reading.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from nucliseg_qp.engine import Engine
from nucliseg_qp.errors import InputError
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.tiles import clip_window, plan_tiles, plan_windows, shrink_window
from nucliseg_qp.images.tissue import find_tissue
from nucliseg_qp.keypoints.search import Keypoints
from nucliseg_qp.masks.statistics import SAMPLE_PX, SlideStatistics, sample_statistics
from nucliseg_qp.masks.tile import MaskGrid, read_crop
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.pictures.stages import stage_pictures
from nucliseg_qp.work import Inline, TilePlan, Workers, tile_nuclei

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.images.tissue import TissueMask

__all__ = ["Analysis", "Engine", "Progress", "Silent", "find_nuclei"]

COARSE_MPP = 0.6
"""Coarser images than this are enlarged for the network, which sees no more in them for that."""


class Progress(Protocol):
    """Who wants to know how far an image is."""

    def stage(self, name: str, total: int) -> None:
        """Begin a step of ``total`` pieces."""

    def advance(self, pieces: int = 1, nuclei: int = 0) -> None:
        """Tell that pieces are done and how many nuclei they gave."""


class Silent:
    """Nobody wants to know."""

    def stage(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, pieces: int = 1, nuclei: int = 0) -> None:
        """Do nothing."""


class Analysis:
    """One image on its way through the engine.

    Parameters
    ----------
    slide : Slide
        The image, with a pixel size.
    engine : Engine
        Model, palette and settings.
    scope : Scope, optional
        Part of the image to analyse; all of it when left out.  The nuclei of a part are the same
        as in an analysis of the whole.
    progress : Progress, optional
        Told how far it is.
    workers : Workers, optional
        Who does the work; this process when left out.
    """

    def __init__(
        self,
        slide: Slide,
        engine: Engine,
        scope: Scope | None = None,
        progress: Progress | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.slide = slide
        self.engine = engine
        self.scope = scope or Scope()
        self.progress: Progress = progress or Silent()
        self.workers: Workers = workers or Inline(engine)
        self.bounds = self.scope.bounds(slide.bounds)
        self.failed_tiles: list[Tile] = []
        self.done_tiles = 0
        self.overview_failed = False

    def nuclei(self) -> Iterator[Nuclei]:
        """Give the nuclei tile by tile; memory does not grow with the slide."""
        self.progress.stage("outlines", len(self.tiles))
        for tile, nuclei in self.workers.nuclei(self.slide, self.tiles, self.plan):
            if isinstance(nuclei, InputError):
                self.failed_tiles.append(tile)
                self.progress.advance()
            else:
                self.done_tiles += 1
                self.progress.advance(1, len(nuclei))
                yield nuclei

    @cached_property
    def tissue(self) -> TissueMask | None:
        """Where there is tissue, or None when every pixel is looked at."""
        settings = self.engine.settings.tissue
        if not settings.find:
            return None
        try:
            return find_tissue(self.slide, settings)
        except InputError:
            # A damaged overview must not cost what the other levels hold.
            self.overview_failed = True
            return None

    @cached_property
    def statistics(self) -> SlideStatistics:
        """Colours of the whole slide, also when only a part of it is analysed."""
        # Windows of their own, at the resolution at which the colours are used: they must not
        # depend on how the network is fed.
        downsample = self.grid.downsample
        windows = plan_windows(self.slide.bounds, downsample, SAMPLE_PX, 0, self.tissue)
        return sample_statistics(self.slide, windows, downsample, self.tissue)

    @cached_property
    def keypoints(self) -> Keypoints:
        """Keypoints of the scope and of the rim that its outlines can touch."""
        windows = self._plan_windows(self.scope.grown(self._halo_px))
        self.progress.stage("keypoints", len(windows))
        parts = []
        for count, part in self.workers.keypoints(self.slide, windows, self._downsample):
            parts.append(part)
            self.progress.advance(count)
        found = Keypoints.concatenate(parts)
        found = found.inside(self.slide.bounds)
        if self.tissue is not None:
            found = found.take(self.tissue.contains(found.x, found.y))
        return found.with_wanted(self.scope.contains(found.x, found.y))

    @cached_property
    def tiles(self) -> list[Tile]:
        """Tiles with at least one keypoint in their core."""
        shape, downsample = self.engine.settings.tiles, self.grid.downsample
        tiles = plan_tiles(self.bounds, shape, downsample, self._halo_px)
        keypoints = self.keypoints
        return [tile for tile in tiles if keypoints.inside(tile.core).wanted.any()]

    @property
    def plan(self) -> TilePlan:
        """What the tiles have in common."""
        return TilePlan(self.keypoints, self.statistics, self.grid, self._slide_mpp)

    @cached_property
    def grid(self) -> MaskGrid:
        """Resolution of the outlines."""
        return MaskGrid.of(self._slide_mpp, self.slide.bounds, self.engine.settings.masks)

    @cached_property
    def tissue_mm2(self) -> float:
        """Area of the tissue in the scope."""
        return self.scope.area_mm2(self.slide.bounds, self.tissue, self._slide_mpp)

    def facts(self) -> dict[str, Any]:
        """Give what a run's record says about this image, ready for JSON."""
        return {
            **self._image_facts(),
            "reader": self.slide.reader,
            "tiles_done": self.done_tiles,
            "tiles_failed": len(self.failed_tiles),
            "windows_failed": len(self.keypoints.failed),
            "overview_failed": self.overview_failed,
        }

    @property
    def damage(self) -> str:
        """What could not be read, as text; empty when all could."""
        pieces = len(self.failed_tiles) + len(self.keypoints.failed)
        seen = [f"{pieces} tile{'s' if pieces > 1 else ''}"] if pieces else []
        return " and ".join([*seen, *(["the overview"] if self.overview_failed else [])])

    @property
    def note(self) -> str:
        """What the user should keep in mind about this image; empty when nothing."""
        if self._slide_mpp <= COARSE_MPP:
            return ""
        return (
            f"pixels of {self._slide_mpp:.2g} um are coarse for nuclei: expect more to be missed "
            "or joined than at 0.5 um or finer"
        )

    def plan_facts(self) -> dict[str, Any]:
        """Give what is known before the network runs, for a plan."""
        windows = len(self._plan_windows(self.scope.grown(self._halo_px)))
        return {**self._image_facts(), "windows": windows}

    def _image_facts(self) -> dict[str, Any]:
        return {
            "width_px": self.slide.dimensions[0],
            "height_px": self.slide.dimensions[1],
            "mpp": self._slide_mpp,
            "mpp_source": self.slide.mpp.source if self.slide.mpp else "",
            "tissue_mm2": self.tissue_mm2,
        }

    def stages(self) -> dict[str, NDArray[np.uint8]]:
        """Give the picture of each step for the tile with most nuclei; none without nuclei."""
        if not self.tiles:
            return {}
        tile = max(self.tiles, key=lambda tile: len(self.keypoints.inside(tile.core)))
        image = read_crop(self.slide, tile, self.grid)
        masks, nuclei = tile_nuclei(image, tile, self.engine, self.plan)
        corner = (masks.view.x_px, masks.view.y_px)
        classes = self.engine.palette.classes
        return stage_pictures(masks, nuclei, classes, corner, self.grid.downsample)

    def _plan_windows(self, scope: Scope) -> list[Tile]:
        halo_px = self.engine.runner.info.halo_px
        core_px = self.engine.settings.keypoints.window_px - 2 * halo_px
        bounds = scope.bounds(self.slide.bounds)
        windows = plan_windows(
            bounds, self._downsample, core_px, halo_px, self.tissue, scope.within
        )
        if self.tissue is not None and self.engine.runner.device.is_cpu:
            # A GPU wants windows of one size, many at once.
            windows = [shrink_window(one, self.tissue, self._downsample) for one in windows]
        width, height = (math.ceil(side / self._downsample) for side in self.slide.dimensions)
        return [clip_window(window, width + halo_px, height + halo_px) for window in windows]

    @property
    def _slide_mpp(self) -> float:
        if self.slide.mpp is None:
            raise InputError(f"{self.slide.path} has no pixel size", "Give --slide-mpp.")
        return self.slide.mpp.mpp

    @property
    def _downsample(self) -> float:
        return self.engine.mpp / self._slide_mpp

    @property
    def _halo_px(self) -> int:
        return self.grid.halo_px(self.engine.settings.masks)


def find_nuclei(slide: Slide, engine: Engine, scope: Scope | None = None) -> Nuclei:
    """Find, outline, measure and classify the nuclei of an image, as one table in memory.

    `detect_images` does it for whole slides, tile by tile, and tells what could not be read.

    Parameters
    ----------
    slide : Slide
        From `open_slide`.
    engine : Engine
        Model, palette and settings.
    scope : Scope, optional
        Part of the image; all of it when left out.

    Raises
    ------
    InputError
        When a part of the image cannot be read.

    Examples
    --------
    >>> from nucliseg_qp import Engine, find_nuclei, load_settings, open_slide
    >>> engine = Engine.start(load_settings())
    >>> with open_slide("ki67_synthetic/images/low.ome.tif") as slide:
    ...     nuclei = find_nuclei(slide, engine)
    >>> 90 < len(nuclei) < 120
    True
    >>> list(nuclei.counts())
    ['Negative', 'Positive']
    """
    analysis = Analysis(slide, engine, scope)
    parts = list(analysis.nuclei())
    if analysis.damage:
        raise InputError(f"{slide.path}: {analysis.damage} could not be read", "Export it again.")
    return Nuclei.concatenate(parts) if parts else Nuclei.empty(engine.palette.names)
