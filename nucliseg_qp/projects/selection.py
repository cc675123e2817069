"""Which images of a project."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from nucliseg_qp.errors import QuPathError, UsageError
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.qupath.entries import Entry

__all__ = ["Selection", "choose_entries", "open_project", "project_root"]


@dataclass(frozen=True)
class Selection:
    """Images by name, pattern, number or metadata; all when nothing is said.

    Parameters
    ----------
    images : tuple of str
        Each the name of an image, a pattern with ``*`` or ``?``, or ``#`` and its number.
    metadata : tuple of str
        ``KEY=VALUE``, the value perhaps a pattern; all must fit.
    """

    images: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()


def project_root(path: Path) -> Path | None:
    """Give the folder of the project that ``path`` is, or None when it is none.

    Raises
    ------
    QuPathError
        When ``path`` is called as a project file is, and is none of QuPath's.
    """
    if path.name.endswith(".qpproj"):
        return _folder_of(path)
    return path if ProjectFolder(path).project.is_file() else None


def _folder_of(file: Path) -> Path:
    if not file.is_file():
        raise QuPathError(f"project {file} does not exist", "Check the path.")
    if file != ProjectFolder(file.parent).project:
        raise QuPathError(f"{file} is not called project.qpproj", "QuPath calls every project so.")
    return file.parent


def open_project(root: Path) -> ProjectFile:
    """Read a project that must exist.

    Raises
    ------
    QuPathError
        When there is none, or it is broken.
    """
    project = ProjectFile(ProjectFolder(root))
    if project.is_new:
        raise QuPathError(f"{project.folder.project} does not exist", "Check the path.")
    return project


def choose_entries(project: ProjectFile, selection: Selection) -> list[Entry]:
    """Give the chosen entries in the order of the project.

    Raises
    ------
    UsageError
        When a choice fits no image.
    """
    chosen = project.entries
    if selection.images:
        wanted: set[int] = set()
        for text in selection.images:
            wanted |= _fitting(project, text)
        chosen = [entry for entry in chosen if entry.id in wanted]
    for text in selection.metadata:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--metadata {text!r} has no '='", "Write KEY=VALUE.")
        chosen = [one for one in chosen if _has(project.metadata(one.id), key, value)]
    if not chosen:
        raise UsageError(
            f"no image of {project.folder.project} is chosen",
            "Check --image and --metadata; --dry-run lists what there is.",
        )
    return chosen


def _fitting(project: ProjectFile, text: str) -> set[int]:
    found = {one.id for one in project.entries if one.name == text or f"#{one.id}" == text}
    # A name may hold brackets, which a pattern would take for its own.
    found = found or {one.id for one in project.entries if fnmatchcase(one.name, text)}
    if not found:
        raise UsageError(
            f"--image {text!r} fits no image of {project.folder.project}",
            "Give a name, a pattern with * or ?, or # and the number of its folder under data.",
        )
    return found


def _has(metadata: dict[str, str], key: str, value: str) -> bool:
    return key in metadata and fnmatchcase(metadata[key], value)
