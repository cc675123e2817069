"""The skeleton of a TIFF, walked before tifffile sees it.

tifffile follows a chain of directories that bites its own tail for ever, and loads what a
directory claims to hold.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["check_structure"]

MAX_DIRECTORIES = 4096
MAX_TAGS = 4096
MAX_SUBDIRECTORIES = 64
MAX_TAG_BYTES = 256 << 20
"""A slide of 400,000 x 400,000 px in tiles of 256 px needs 20 MB for its largest tag."""

_SUB_IFDS = 330
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_REPAIR = "The file is damaged: copy or export it again."


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How the numbers of classic TIFF or BigTIFF are packed."""

    order: str
    offset: str
    tag_count: str
    tag: str

    @classmethod
    def of(cls, start: bytes) -> _Dialect:
        order = "<" if start[:2] == b"II" else ">"
        if b"+" in start[2:4]:
            return cls(order, order + "Q", order + "Q", order + "HHQ8s")
        return cls(order, order + "I", order + "H", order + "HHI4s")

    @property
    def first_offset_at(self) -> int:
        return 8 if self.offset.endswith("Q") else 4


def check_structure(path: Path) -> None:
    """Refuse a TIFF whose directories are broken, circular or claim absurd sizes.

    Raises
    ------
    InputError
        Before anything large is allocated.
    """
    with path.open("rb") as file:
        dialect = _Dialect.of(file.read(4))
        try:
            directories = list(_chain(file, dialect))
            for tags in directories:
                _check_subdirectories(file, dialect, tags)
        except _BrokenError as problem:
            raise InputError(f"{path} is not a sound TIFF ({problem})", _REPAIR) from None


class _BrokenError(Exception):
    """What is wrong, without the file's name."""


_Tags = list[tuple[int, int, int, bytes]]


def _chain(file: BinaryIO, dialect: _Dialect) -> Iterator[_Tags]:
    """Give the tags of each directory: code, type, count and value or offset."""
    seen: set[int] = set()
    offset = _number(file, dialect.offset, dialect.first_offset_at)
    while offset:
        if offset in seen:
            raise _BrokenError("its directories run in a circle")
        if len(seen) >= MAX_DIRECTORIES:
            raise _BrokenError(f"over {MAX_DIRECTORIES} directories")
        seen.add(offset)
        tags, offset = _directory(file, dialect, offset)
        yield tags


def _directory(file: BinaryIO, dialect: _Dialect, offset: int) -> tuple[_Tags, int]:
    """Give the tags of one directory and the offset of the next."""
    count = _number(file, dialect.tag_count, offset)
    if count > MAX_TAGS:
        raise _BrokenError(f"{count} tags in one directory")
    size = count * struct.calcsize(dialect.tag)
    data = file.read(size)
    if len(data) != size:
        raise _BrokenError("it ends inside a directory")
    tags = list(struct.iter_unpack(dialect.tag, data))
    for code, kind, number, _ in tags:
        if _TYPE_BYTES.get(kind, 8) * number > MAX_TAG_BYTES:
            raise _BrokenError(f"tag {code} claims {number} values")
    # Some writers stop after the last directory without the closing zero.
    following = file.read(struct.calcsize(dialect.offset))
    complete = len(following) == struct.calcsize(dialect.offset)
    return tags, struct.unpack(dialect.offset, following)[0] if complete else 0


def _check_subdirectories(file: BinaryIO, dialect: _Dialect, tags: _Tags) -> None:
    for code, kind, count, value in tags:
        if code != _SUB_IFDS:
            continue
        if count > MAX_SUBDIRECTORIES:
            raise _BrokenError(f"{count} subdirectories")
        for offset in _values(file, dialect, kind, count, value):
            if offset:
                _directory(file, dialect, offset)


def _values(
    file: BinaryIO, dialect: _Dialect, kind: int, count: int, value: bytes
) -> tuple[int, ...]:
    """Give the offsets a tag holds, in itself or elsewhere in the file."""
    width = "Q" if kind in (16, 17, 18) else "I"
    packing = f"{dialect.order}{count}{width}"
    size = struct.calcsize(packing)
    if size > len(value):
        file.seek(struct.unpack(dialect.offset, value)[0])
        value = file.read(size)
    if len(value) < size:
        raise _BrokenError("it ends inside a directory")
    return struct.unpack(packing, value[:size])


def _number(file: BinaryIO, packing: str, offset: int) -> int:
    file.seek(offset)
    data = file.read(struct.calcsize(packing))
    if len(data) != struct.calcsize(packing):
        raise _BrokenError("it ends before a directory")
    number: int = struct.unpack(packing, data)[0]
    return number
