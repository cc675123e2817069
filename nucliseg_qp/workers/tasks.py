"""The functions that are handed to another process, and what it keeps between them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from nucliseg_qp.config import Settings
from nucliseg_qp.engine import Engine
from nucliseg_qp.work import find_in_windows, outline_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nucliseg_qp.errors import InputError
    from nucliseg_qp.geometry import Tile
    from nucliseg_qp.images.slide import Opener, Slide
    from nucliseg_qp.keypoints.search import Keypoints
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.work import TilePlan

__all__ = ["keypoints_task", "nuclei_task"]


def keypoints_task(
    settings_json: str, opener: Opener, windows: Sequence[Tile], downsample: float
) -> Keypoints:
    """Run the network on some windows, in whatever process this is."""
    return find_in_windows(_slide(opener), _engine(settings_json), windows, downsample)


def nuclei_task(
    settings_json: str, opener: Opener, tiles: Sequence[Tile], plan: TilePlan
) -> list[tuple[Tile, Nuclei | InputError]]:
    """Outline the nuclei of some tiles, in whatever process this is."""
    return list(outline_tiles(_slide(opener), _engine(settings_json), tiles, plan))


@lru_cache(maxsize=2)
def _engine(settings_json: str) -> Engine:
    import cv2
    import torch

    # One process per core: more threads would only get into each other's way.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Engine.start(Settings.model_validate_json(settings_json))


@lru_cache(maxsize=4)
def _slide(opener: Opener) -> Slide:
    return opener()
