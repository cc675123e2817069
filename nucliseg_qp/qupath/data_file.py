"""Whether QuPath can read what it stored about an image, and whether that is still the same.

QuPath takes an unreadable file for an empty image without a word, and one way of reading a
truncated file never returns; saving after that destroys what somebody drew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DataState", "data_problem", "data_since", "data_state", "file_problem", "noted_state"]

_JAVA = b"\xac\xed\x00\x05"
_TITLE = b"Data file version"
_END = b"t\x00\x03EOF"


@dataclass(frozen=True)
class DataState:
    """By what it is noticed that somebody saved an image.

    Parameters
    ----------
    size_bytes, mtime_ns : int
        Of ``data.qpdata``; -1 when there is none.
    sha256 : str
        Of its content; empty when there is none, and where it was not noted.
    """

    size_bytes: int = -1
    mtime_ns: int = -1
    sha256: str = ""


def data_state(entry_folder: Path) -> DataState:
    """Give the state of ``data/<id>/data.qpdata`` now.

    Raises
    ------
    OSError
        When it is there and cannot be read.
    """
    path = entry_folder / "data.qpdata"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = path.stat()
    except FileNotFoundError:
        return DataState()
    return DataState(found.st_size, found.st_mtime_ns, digest)


def noted_state(item: dict[str, Any] | list[int]) -> DataState:
    """Read a state from JSON; also the list of size and time that the first records hold.

    Raises
    ------
    TypeError
        When it is neither.
    """
    if isinstance(item, list):
        item = dict(zip(("size_bytes", "mtime_ns"), item, strict=False))
    return DataState(**item)


def data_since(noted: DataState, entry_folder: Path) -> Literal["same", "changed", "unknown"]:
    """Tell whether data.qpdata holds what it held when its state was noted.

    A file that was only copied or unpacked is the same: with another time the content decides.
    Where it was not noted or cannot be read, it may be either.  A file of the same size and time
    is not read: what is done in a large project on a slow disk is passed by at once.
    """
    try:
        found = (entry_folder / "data.qpdata").stat()
        if found.st_size != noted.size_bytes:
            return "changed"
        if found.st_mtime_ns == noted.mtime_ns:
            return "same"
        if not noted.sha256:
            return "unknown"
        return "same" if data_state(entry_folder).sha256 == noted.sha256 else "changed"
    except FileNotFoundError:
        return "same" if noted == DataState() else "changed"
    except OSError:
        return "unknown"


def data_problem(entry_folder: Path) -> str:
    """Tell why the image's data must not be touched; empty when all is well.

    Parameters
    ----------
    entry_folder : Path
        ``data/<id>`` of the project.
    """
    path, backup = entry_folder / "data.qpdata", entry_folder / "data.qpdata.bkp"
    if backup.exists():
        return (
            f"{backup} was left by an interrupted save. Look which of the two files is whole, "
            "remove the other and run again."
        )
    return file_problem(path)


def file_problem(path: Path) -> str:
    """Tell what is wrong with a data file; empty when all is well or there is none."""
    try:
        with path.open("rb") as file:
            start = file.read(40)
            file.seek(-min(len(_END), path.stat().st_size), 2)
            end = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}). Free it and run again."
    if start.startswith(_JAVA) and _TITLE in start and end == _END:
        return ""
    return f"{path} is damaged. Restore it from a backup and run again."
