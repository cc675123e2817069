"""A QuPath project as the files it is made of, read with distrust and written without Java.

The format is that of QuPath 0.5.1 to 0.7.0.  Whatever is in a project and not understood here is
kept as it is.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.qupath.entries import MEND, Entry, image_uri, read_entry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["ProjectFile"]

QUPATH_VERSION = "0.6.0"
"""Version written into new projects; 0.5.1 and 0.7.0 open them as well."""

TESTED_VERSIONS = ("0.5", "0.6", "0.7")
"""QuPath's, whose projects were read and written for a test."""

_LARGEST_BYTES = 256 << 20


class ProjectFile:
    """``project.qpproj`` of an old or new project.

    Parameters
    ----------
    folder : ProjectFolder
        The project; it is checked when it exists.

    Raises
    ------
    QuPathError
        When the file is broken, is no project, holds images that are not local files, or leads out
        of its folder.
    """

    def __init__(self, folder: ProjectFolder) -> None:
        self.folder = folder
        folder.check_inside()
        self._before = _read(folder.project)
        self.is_new = self._before is None
        self._content = (
            _new(folder.project) if self._before is None else _parse(folder, self._before)
        )
        self.entries = [read_entry(folder.project, item) for item in self._content["images"]]
        _check_ids(folder.project, self.entries)

    def find(self, image: Path, size_px: tuple[int, int]) -> Entry | None:
        """Give the entry that shows an image, by its file and, where known, its size.

        Raises
        ------
        QuPathError
            When the project has the file with other sizes only.
        """
        same = [entry for entry in self.entries if entry.shows(image)]
        fitting = [entry for entry in same if entry.size_px in (None, size_px)]
        if same and not fitting:
            sizes = " and ".join("{} x {} px".format(*entry.size_px or ()) for entry in same)
            raise QuPathError(
                f"{image} has {size_px[0]} x {size_px[1]} px, but {sizes} in {self.folder.project}",
                "Remove the image from the project in QuPath, or choose a new folder.",
            )
        return fitting[0] if fitting else None

    @property
    def next_id(self) -> int:
        """The number of the image that is added next."""
        last: int = self._content.get("lastID", 0)
        return 1 + max([last, *(entry.id for entry in self.entries)])

    def add(self, image: Path) -> None:
        """Add an image under ``next_id``."""
        item = {
            "serverBuilder": {"builderType": "uri", "uri": image_uri(image), "args": []},
            "entryID": self.next_id,
            "imageName": image.name,
            "metadata": {},
        }
        self._content["lastID"] = self.next_id
        self._content["images"].append(item)
        self.entries.append(read_entry(self.folder.project, item))

    def describe(self, entry_id: int, texts: Mapping[str, str]) -> None:
        """Add metadata to an image, shown in QuPath's project tab."""
        item = self._item(entry_id)
        item["metadata"] = {**(item.get("metadata") or {}), **texts}

    def builder(self, entry_id: int) -> dict[str, Any]:
        """Give QuPath's description of the image of an entry."""
        found: dict[str, Any] = self._item(entry_id)["serverBuilder"]
        return found

    def metadata(self, entry_id: int) -> dict[str, str]:
        """Give the metadata of an entry, as shown in QuPath's project tab."""
        return {str(k): str(v) for k, v in (self._item(entry_id).get("metadata") or {}).items()}

    def set_builder(self, entry_id: int, builder: Mapping[str, Any]) -> None:
        """Give an entry another description of its image."""
        self._item(entry_id)["serverBuilder"] = dict(builder)

    @property
    def doubt(self) -> str:
        """Why a person should look twice: a version of QuPath nobody tested; empty when known."""
        said = str(self._content.get("version") or "")
        found = re.match(r"v?(\d+\.\d+)", said)
        if not said or (found and found[1] in TESTED_VERSIONS):
            return ""
        return (
            f"{self.folder.project} says it is of QuPath {said[:40]!r}; tested are "
            f"{', '.join(TESTED_VERSIONS)}. It is used all the same: keep a copy of it"
        )

    @property
    def uri(self) -> str:
        """Where the project was when it was saved; empty when it does not say."""
        return str(self._content.get("uri") or "")

    def set_uri(self, uri: str) -> None:
        """Tell where the project is."""
        self._content["uri"] = uri

    def _item(self, entry_id: int) -> dict[str, Any]:
        for item in self._content["images"]:
            if int(item["entryID"]) == entry_id:
                found: dict[str, Any] = item
                return found
        raise QuPathError(f"image {entry_id} left {self.folder.project}", "Run again.")

    def save(self) -> None:
        """Write the file; the one before stays as ``project.qpproj.backup``, as QuPath does it.

        Raises
        ------
        QuPathError
            When somebody else, such as an open QuPath, changed the project meanwhile.
        OutputError
            When it cannot be written.
        """
        path = self.folder.project
        if _read(path) != self._before:
            raise QuPathError(f"{path} was changed meanwhile", "Close QuPath and run again.")
        self._content["modifyTimestamp"] = _now_ms()
        if self._before is not None:
            with whole_file(path.with_name(path.name + ".backup")) as partial:
                partial.write_bytes(self._before)
        text = orjson.dumps(self._content, option=orjson.OPT_INDENT_2)
        with whole_file(path) as partial:
            partial.write_bytes(text)
        self._before, self.is_new = text, False


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QuPathError(
            f"{path} cannot be read ({error.strerror})", "Check the folder."
        ) from None
    if len(content) > _LARGEST_BYTES:
        raise QuPathError(f"{path} is larger than any project", MEND)
    return content


def _new(path: Path) -> dict[str, Any]:
    if path.parent.exists() and not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder", "Choose another one with --project.")
    now = _now_ms()
    return {
        "version": QUPATH_VERSION,
        "createTimestamp": now,
        "modifyTimestamp": now,
        "uri": path.resolve().as_uri(),
        "lastID": 0,
        "images": [],
    }


def _parse(folder: ProjectFolder, text: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise QuPathError(f"{folder.project} is not JSON ({error})", MEND) from None
    if not isinstance(content, dict) or not isinstance(content.setdefault("images", []), list):
        raise QuPathError(f"{folder.project} is not a QuPath project", MEND)
    if not isinstance(content.get("lastID", 0), int):
        raise QuPathError(f"{folder.project} has the last id {content['lastID']!r}", MEND)
    return content


def _check_ids(path: Path, entries: list[Entry]) -> None:
    if len({entry.id for entry in entries}) < len(entries):
        raise QuPathError(f"{path} gives two images the same id", MEND)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
