"""A lock on a file that the system takes away from a process that died."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.outputs import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["claimed", "locked"]

_EVERY_SECONDS = 0.1
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What the system says when another process holds a lock; anything else: it knows no locks."""


@contextmanager
def locked(path: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a file's lock while the block runs.

    The file stays, empty; what counts is the lock, which ends with the process that holds it,
    however that ends.

    Parameters
    ----------
    path : Path
        The file; made where there is none.
    wait_seconds : float
        How long to wait for another process.

    Raises
    ------
    QuPathError
        When another process holds it.
    OutputError
        When the file cannot be made.
    """
    with _opened(path) as file:
        _wait(file, path, time.monotonic() + wait_seconds)
        try:
            yield
        finally:
            _release(file)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Keep other runs out of a file's folder while the block runs, and remove the file then.

    Gives False where the file system knows no locks, as on some clusters: then nobody is kept out.

    Raises
    ------
    OutputError
        When another process holds it, or the file cannot be made.
    """
    with _opened(path) as file:
        try:
            ours, known = _take(file), True
        except OSError:
            ours = known = False
        if known and not ours:
            raise OutputError(
                f"another nucliseg-qp writes into {path.parent}",
                "Wait for it to end, or choose another folder.",
            )
        try:
            yield ours
        finally:
            with suppress(OSError):
                path.unlink()
            if ours:
                _release(file)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    make_folder(path.parent)
    try:
        file = path.open("ab")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})", "Free it.") from None
    with file:
        yield file


def _wait(file: BinaryIO, path: Path, until: float) -> None:
    while not _is_taken(file, path):
        if time.monotonic() > until:
            raise QuPathError(
                f"another nucliseg-qp works on this project ({path} is locked)",
                "Wait for it to end, or end it.",
            )
        time.sleep(_EVERY_SECONDS)


def _is_taken(file: BinaryIO, path: Path) -> bool:
    try:
        return _take(file)
    except OSError as error:
        raise QuPathError(
            f"{path} cannot be locked ({error.strerror})",
            "Work on a copy of the project on a local disk.",
        ) from None


if sys.platform == "win32":
    import msvcrt

    def _take(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise
        return True

    def _release(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _take(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise
        # A file that was removed meanwhile locks nobody out.
        return os.fstat(file.fileno()).st_nlink > 0

    def _release(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
