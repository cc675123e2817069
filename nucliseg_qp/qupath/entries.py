"""The images of a project file: read with distrust, found again by their file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from nucliseg_qp.errors import QuPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MEND", "Entry", "image_uri", "local_path", "read_entry"]

MEND = "Restore it from project.qpproj.backup, or choose a new folder with --project."
"""What to do about a broken project file."""


@dataclass(frozen=True)
class Entry:
    """One image of a project.

    Parameters
    ----------
    id : int
        Its number, the name of its folder under ``data``.
    name : str
        Shown in QuPath; need not be unique.
    uri : str
        The image file, when the entry is that file as it is and not a crop or rotation of it.
    size_px : tuple of int or None
        Width and height, where the project knows them.
    """

    id: int
    name: str
    uri: str
    size_px: tuple[int, int] | None

    @property
    def path(self) -> Path | None:
        """The image file; None when the entry is only made from one."""
        return local_path(self.uri) if self.uri else None

    def shows(self, image: Path) -> bool:
        """Tell whether the entry is this very file."""
        path = self.path
        # The names are compared first: resolving touches the disk, perhaps a server far away.
        if path is None or os.path.normcase(path.name) != os.path.normcase(image.name):
            return False
        return os.path.normcase(path.resolve()) == os.path.normcase(image.resolve())


def image_uri(image: Path) -> str:
    """Give the absolute, percent-encoded URI by which QuPath finds an image file."""
    uri = image.resolve().as_uri()
    # Java writes a Windows share as file:////server/share.
    return uri if uri.startswith("file:///") else uri.replace("file://", "file:////", 1)


def local_path(uri: str) -> Path | None:
    """Give the file a URI of QuPath means, None when it is not a file on this computer."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return None
    host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
    text = url2pathname(host + parts.path)
    return None if "\0" in text else Path(text)


def read_entry(path: Path, item: object) -> Entry:
    """Read one image of the project file ``path``.

    Raises
    ------
    QuPathError
        When it is broken, not a local file, or its id is not a number.
    """
    builder = item.get("serverBuilder") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(builder, dict):
        raise QuPathError(f"{path} has an image without serverBuilder", MEND)
    for uri in _uris(builder):
        _check_local(path, uri)
    plain = builder.get("builderType") == "uri"
    return Entry(
        id=_checked_id(path, item.get("entryID")),
        name=str(item.get("imageName", "")),
        uri=str(builder.get("uri", "")) if plain else "",
        size_px=_size_px(builder.get("metadata")),
    )


def _checked_id(path: Path, number: object) -> int:
    # The id becomes the name of a folder: "../../x" must not.
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 19:
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 63:
        raise QuPathError(f"{path} has an image with the id {number!r}", MEND)
    return number


def _size_px(metadata: object) -> tuple[int, int] | None:
    if not isinstance(metadata, dict):
        return None
    width, height = metadata.get("width"), metadata.get("height")
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    return None


def _uris(builder: object) -> Iterator[object]:
    """Give every URI inside a (nested) server builder."""
    pending = [builder]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += [value for key, value in item.items() if key != "uri"]
            yield from (value for key, value in item.items() if key == "uri")
        elif isinstance(item, list):
            pending += item


def _check_local(path: Path, uri: object) -> None:
    try:
        local = isinstance(uri, str) and urlsplit(uri).scheme == "file" and local_path(uri)
    except ValueError:
        local = None
    if not local:
        raise QuPathError(
            f"{path} holds an image that is not a local file: {uri!r}",
            "Use a project whose images lie on this computer or a mounted drive.",
        )
