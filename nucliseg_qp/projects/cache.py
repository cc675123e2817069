"""Pieces of an image that are done, kept on disk until the whole image is.

A run that was cut off, or that could not read a tile, goes on where it was.  A file that was
damaged meanwhile counts as missing.
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import Region, Tile
from nucliseg_qp.keypoints.search import Keypoints
from nucliseg_qp.masks.statistics import SlideStatistics
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.qupath.results import load_part, save_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.work import TilePlan, Workers

__all__ = ["CachedWorkers", "TileCache"]

_COLUMNS = ("x", "y", "score", "radii", "wanted")


class TileCache:
    """A folder with what is done of one image.

    Parameters
    ----------
    folder : Path
        Its content is removed when it belongs to another analysis.
    fingerprint : str
        Of everything the result depends on.

    Raises
    ------
    OutputError
        When it cannot be written.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        mark = folder / "analysis.json"
        wanted = orjson.dumps({"fingerprint": fingerprint})
        if not mark.is_file() or mark.read_bytes() != wanted:
            self.clear(folder)
            make_folder(folder)
            with whole_file(mark) as partial:
                partial.write_bytes(wanted)

    def tile(self, tile: Tile) -> Path:
        """Name the file of a tile's nuclei."""
        return self._folder / f"tile.{tile.core.x_px}.{tile.core.y_px}.npz"

    def keypoints(self) -> Keypoints | None:
        """Give the keypoints that were found, None when nobody looked yet."""
        path = self._folder / "keypoints.npz"
        if not _is_whole(path):
            return None
        with np.load(path, allow_pickle=False) as file:
            failed = tuple(_tile(row) for row in file["failed"].tolist())
            columns = {name: file[name] for name in _COLUMNS}
            return Keypoints(**columns, failed=failed)

    def keep_keypoints(self, found: Keypoints) -> None:
        """Keep keypoints and which windows could not be read."""
        failed = np.array([_row(one) for one in found.failed], np.int64).reshape(-1, 8)
        path = self._folder / "keypoints.npz"
        with whole_file(path, lasting=False) as partial, partial.open("wb") as file:
            columns = {name: getattr(found, name) for name in _COLUMNS}
            np.savez(file, **columns, failed=failed)

    def statistics(self, found: SlideStatistics) -> SlideStatistics:
        """Give the statistics the first run had: those of a damaged image may change later."""
        path = self._folder / "statistics.json"
        with suppress(OSError, orjson.JSONDecodeError):
            known: dict[str, Any] = orjson.loads(path.read_bytes())
            white = tuple(known["white"])
            return SlideStatistics(white, known["threshold"], known["background"])
        with whole_file(path, lasting=False) as partial:
            partial.write_bytes(orjson.dumps(found))
        return found

    @staticmethod
    def clear(folder: Path) -> None:
        """Remove such a folder."""
        shutil.rmtree(folder, ignore_errors=True)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


@dataclass
class CachedWorkers:
    """Workers that do only what is not done.

    Parameters
    ----------
    inner : Workers
        Who does the rest.
    cache : TileCache
        What is done.
    image_name : str
        For the ids of the nuclei.
    reused : int
        Tiles that were done already.
    parts : list of Path
        Files of the tiles, in order, once `nuclei` was consumed.
    """

    inner: Workers
    cache: TileCache
    image_name: str
    reused: int = 0
    parts: list[Path] = field(default_factory=list)
    _fresh: Keypoints | None = None

    def keypoints(
        self, slide: Slide, windows: Sequence[Tile], downsample: float
    ) -> Iterator[tuple[int, Keypoints]]:
        """See `nucliseg_qp.work.Workers`."""
        known = self.cache.keypoints()
        rest = windows if known is None else known.failed
        pieces: list[Keypoints] = []
        for count, piece in self.inner.keypoints(slide, rest, downsample):
            pieces.append(piece)
            yield (count if known is None else 0), piece
        fresh = Keypoints.concatenate(pieces)
        if known is None:
            self.cache.keep_keypoints(fresh)
            return
        old = replace(known, failed=())
        self._fresh = fresh
        if rest:
            self.cache.keep_keypoints(Keypoints.concatenate([old, fresh]))
        yield len(windows), old

    def nuclei(
        self, slide: Slide, tiles: Sequence[Tile], plan: TilePlan
    ) -> Iterator[tuple[Tile, Nuclei | InputError]]:
        """See `nucliseg_qp.work.Workers`."""
        plan = replace(plan, statistics=self.cache.statistics(plan.statistics))
        missing = [tile for tile in tiles if not self._is_done(tile)]
        computed = self.inner.nuclei(slide, missing, plan)
        waiting = set(missing)
        for tile in tiles:
            if tile in waiting:
                done, nuclei = next(computed)
                yield done, self._kept(done, nuclei)
            else:
                self.reused += 1
                self.parts.append(self.cache.tile(tile))
                yield tile, load_part(self.cache.tile(tile))[0]

    def _is_done(self, tile: Tile) -> bool:
        # A keypoint that an earlier run could not see changes the nuclei around it.
        if self._fresh is not None and len(self._fresh.inside(tile.crop)):
            return False
        return _is_whole(self.cache.tile(tile))

    def _kept(self, tile: Tile, nuclei: Nuclei | InputError) -> Nuclei | InputError:
        if not isinstance(nuclei, InputError):
            path = self.cache.tile(tile)
            save_part(path, nuclei, nucleus_ids(self.image_name, nuclei))
            self.parts.append(path)
        return nuclei


def _is_whole(path: Path) -> bool:
    """Tell whether an archive is there as it was written: a power cut may leave a part of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def _row(tile: Tile) -> list[int]:
    return [
        value
        for region in (tile.core, tile.crop)
        for value in (region.x_px, region.y_px, region.width_px, region.height_px)
    ]


def _tile(row: list[int]) -> Tile:
    return Tile(Region(*row[:4]), Region(*row[4:]))
