"""Tiles that are in several folders, and data sets of one name."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nucliseg_qp.training.coco import CocoTile

__all__ = ["check_once", "named_apart"]


def check_once(read: Mapping[Path, Sequence[CocoTile]]) -> None:
    """Stop at a tile that is in the data twice: it would count twice.

    Raises
    ------
    InputError
        With both files.
    """
    seen: dict[tuple[str, str], str] = {}
    for folder, tiles in read.items():
        # Tiles without nuclei may be equal by right: the black around a scan is.
        for tile in (tile for tile in tiles if len(tile.item.points)):
            content = hashlib.sha256(tile.item.image.tobytes()).hexdigest()
            key, place = (tile.source, content), f"{folder}/images/{tile.item.name}"
            if key in seen:
                raise InputError(
                    f"{seen[key]} and {place} are the same tile of {tile.source}",
                    "Name every image in one folder only",
                )
            seen[key] = place


def named_apart(read: Mapping[Path, Sequence[CocoTile]], reserved: str) -> list[CocoTile]:
    """Give the tiles; data sets of one name that lie in several folders are named by these.

    So is a data set with the `reserved` name, which stands for all of them.
    """
    places = Counter(name for tiles in read.values() for name in {tile.dataset for tile in tiles})
    return [
        replace(tile, dataset=str(folder))
        if places[tile.dataset] > 1 or tile.dataset == reserved
        else tile
        for folder, tiles in read.items()
        for tile in tiles
    ]
