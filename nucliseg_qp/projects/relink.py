"""Projects move, and their images with them: the paths in a project are mended without Java."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.projects.selection import open_project
from nucliseg_qp.qupath.builders import builder_paths
from nucliseg_qp.qupath.entries import image_uri, local_path
from nucliseg_qp.qupath.lock import locked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.qupath.project_file import ProjectFile

__all__ = ["Move", "relink_project"]


@dataclass(frozen=True)
class Move:
    """Where the file of an image was and is.

    Parameters
    ----------
    entry_id, name
        Of the entry.
    old : Path
        As the project says.
    new : Path or None
        Where it is; None when it was not found.
    how : str
        How it was found, or why it was not.
    """

    entry_id: int
    name: str
    old: Path
    new: Path | None
    how: str


def relink_project(root: Path, search: Sequence[Path] = (), *, dry_run: bool = False) -> list[Move]:
    """Find the images of a project that are not where it says, and mend its paths.

    An image is looked for where it lay relative to the project, then by its name in the folders
    given.  What is found must be the only one and have the size the project knows.

    Parameters
    ----------
    root : Path
        Folder of the project.
    search : sequence of Path
        Folders to look through, with all below them.
    dry_run : bool
        Whether nothing is written.

    Returns
    -------
    list of Move
        Of the images that were not where the project says.

    Raises
    ------
    InputError
        When a folder to look through does not exist.
    QuPathError, OutputError
        When the project cannot be used or written.
    """
    for place in search:
        if not place.is_dir():
            raise InputError(f"{place} is no folder", "Check --search.")
    project = open_project(root)
    moves = [
        _found(project, entry, path, search)
        for entry in project.entries
        for path in builder_paths(project.builder(entry.id))
        if not path.is_file()
    ]
    found = [one for one in moves if one.new is not None]
    if not dry_run and (found or _moved(project)):
        with locked(project.folder.run_lock):
            for one in found:
                project.set_builder(one.entry_id, _relinked(project.builder(one.entry_id), one))
            project.set_uri(project.folder.project.resolve().as_uri())
            project.save()
    return moves


def _moved(project: ProjectFile) -> bool:
    return project.uri != project.folder.project.resolve().as_uri()


def _found(project: ProjectFile, entry: Entry, old: Path, search: Sequence[Path]) -> Move:
    beside = _relative(project, old)
    if beside is not None and beside.is_file():
        problem = _mismatch(project, entry, beside)
        return Move(
            entry.id, entry.name, old, None if problem else beside, problem or "relative path"
        )
    named = sorted({one.resolve() for place in search for one in _named(place, old.name)})
    fitting = [one for one in named if not _mismatch(project, entry, one)]
    if len(fitting) == 1:
        return Move(entry.id, entry.name, old, fitting[0], "name and size")
    if fitting:
        return Move(entry.id, entry.name, old, None, f"{len(fitting)} files of that name and size")
    return Move(
        entry.id,
        entry.name,
        old,
        None,
        _mismatch(project, entry, named[0]) if named else "not found",
    )


def _named(place: Path, name: str) -> list[Path]:
    # Not a pattern: names hold brackets.
    return [Path(folder) / name for folder, _, names in os.walk(place) if name in names]


def _relative(project: ProjectFile, old: Path) -> Path | None:
    """Give the place that lies to the project now as the old one did."""
    before = local_path(project.uri) if project.uri else None
    if before is None:
        return None
    try:
        step = os.path.relpath(old, before.parent)
    except ValueError:
        # Another drive of Windows.
        return None
    return Path(os.path.normpath(project.folder.root.resolve() / step))


def _mismatch(project: ProjectFile, entry: Entry, path: Path) -> str:
    """Tell why a file is not the image, empty when it may be."""
    builder = project.builder(entry.id)
    size = _file_size(builder)
    if size is None:
        return ""
    try:
        with open_slide(path, require_mpp=False, crop_to_bounds=not _keeps_glass(builder)) as slide:
            seen = slide.dimensions
    except InputError as error:
        return str(error)
    if seen == size:
        return ""
    return f"{path} has {seen[0]} x {seen[1]} px, the project {size[0]} x {size[1]}"


def _file_size(builder: dict[str, Any]) -> tuple[int, int] | None:
    inner = builder.get("builder")
    if isinstance(inner, dict):
        return _file_size(inner)
    known = builder.get("metadata") or {}
    if isinstance(known.get("width"), int) and isinstance(known.get("height"), int):
        return known["width"], known["height"]
    return None


def _keeps_glass(builder: dict[str, Any]) -> bool:
    inner = builder.get("builder")
    if isinstance(inner, dict):
        return _keeps_glass(inner)
    return "--no-crop" in (builder.get("args") or [])


def _relinked(builder: dict[str, Any], move: Move) -> dict[str, Any]:
    inner = builder.get("builder")
    if isinstance(inner, dict):
        return {**builder, "builder": _relinked(inner, move)}
    if move.new is None or local_path(str(builder.get("uri", ""))) != move.old:
        return builder
    return {**builder, "uri": image_uri(move.new)}
