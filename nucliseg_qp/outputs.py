"""The only place that names a file this package writes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nucliseg_qp.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "OutputFolder",
    "image_stem",
    "make_folder",
    "move_file",
    "remove_partials",
    "result_manifest",
    "whole_file",
    "work_folder",
]

_SUFFIXES = (".ome.tiff", ".ome.tif", ".geojson.gz", ".tar.gz")
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.\d+\.part")


def image_stem(path: Path | str) -> str:
    """Give the name of an image without its (double) suffix: ``a.ome.tif`` becomes ``a``."""
    name = Path(path).name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


@dataclass(frozen=True)
class OutputFolder:
    """Where ``detect`` puts its files.

    Parameters
    ----------
    root : Path
        The folder given with ``-o``.
    """

    root: Path

    def nuclei(self, stem: str) -> Path:
        """Name the detections of one image, gzipped GeoJSON."""
        return self.root / "nuclei" / f"{stem}.geojson.gz"

    def shard(self, stem: str, number: int) -> Path:
        """Name one of several parts of a large image's detections, counted from 1."""
        return self.root / "nuclei" / f"{stem}.{number:03d}.geojson.gz"

    def table(self, stem: str) -> Path:
        """Name the measurements of one image, a row a nucleus."""
        return self.root / "tables" / f"{stem}.parquet"

    def preview(self, stem: str) -> Path:
        """Name the picture of one image with the outlines in class colours."""
        return self.root / "previews" / f"{stem}.jpg"

    @property
    def summary(self) -> Path:
        """A row an image: counts and scores."""
        return self.root / "summary.csv"

    @property
    def run(self) -> Path:
        """Everything needed to repeat the run."""
        return self.root / "run.json"

    @property
    def earlier(self) -> OutputFolder:
        """Results of an earlier run whose image failed since, under the same names."""
        return OutputFolder(self.root / "earlier")

    @property
    def folders(self) -> list[Path]:
        """The folder itself and those in it that files go to."""
        return [self.root, *(self.root / name for name in ("nuclei", "tables", "previews"))]

    @property
    def lock(self) -> Path:
        """Locked by the one run that writes here; gone when it ends."""
        return self.root / ".run.lock"


def result_manifest(folder: Path) -> Path:
    """Name the file that tells a script inside QuPath what the other files of a result hold."""
    return folder / "result.json"


def make_folder(path: Path) -> Path:
    """Create a folder that can be written to.

    Raises
    ------
    OutputError
        When it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


@contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Write a file that appears under its name only when it is complete.

    The block writes to the path it is given, a temporary neighbour; on success that one takes the
    final name in one step, on any error it is removed and what stood there before stays.

    Parameters
    ----------
    path : Path
        The final name.
    lasting : bool
        Whether the name waits until the content is on the disk, so that a power cut leaves the
        old file or the new one.  What can be made again need not wait.

    Raises
    ------
    OutputError
        When the folder is read-only, the disk is full or the like.
    """
    make_folder(path.parent)
    partial = _partial(path)
    try:
        yield partial
        if lasting:
            _sync(partial)
        partial.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside ``path``, on the same disk, that is gone after the block.

    Raises
    ------
    OutputError
        When it cannot be made.
    """
    partial = _partial(path)
    try:
        yield make_folder(partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def move_file(path: Path, target: Path) -> None:
    """Move a file to another name on the same disk, in place of what stands there.

    Raises
    ------
    OutputError
        When the place is read-only or the like.
    """
    make_folder(target.parent)
    try:
        path.replace(target)
    except OSError as error:
        raise _cannot_write(target, error) from error


def remove_partials(folder: Path) -> None:
    """Remove what runs that were killed left half-written; no run may be writing there."""
    for path in folder.glob(".*.part"):
        if not _PARTIAL.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            # Some network file systems know no such thing; a full disk may show only here.
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
                raise


def _partial(path: Path) -> Path:
    # Short, so that a name that is just not too long stays so.
    short = zlib.crc32(os.fsencode(path.name))
    return path.with_name(f".{short:08x}.{os.getpid()}.part")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError):
        reason = "it is a file, not a folder"
    return OutputError(
        f"{path} cannot be written ({reason})", "Choose another place, or free the disk."
    )
