"""What a run notes in the project file itself: metadata, classes, pixel sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.outputs import remove_partials
from nucliseg_qp.qupath.files import merge_classes
from nucliseg_qp.qupath.project_file import ProjectFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nucliseg_qp.qupath.project_folder import ProjectFolder

__all__ = ["note_entry", "prepare", "sweep"]

_TRIES = 5


def note_entry(
    folder: ProjectFolder,
    entry_id: int,
    texts: Mapping[str, str],
    builder: Mapping[str, Any] | None = None,
) -> None:
    """Add metadata to an entry, and another description of its image where there is one.

    Raises
    ------
    QuPathError
        When somebody changes the project all the time.
    OutputError
        When it cannot be written.
    """
    for rest in reversed(range(_TRIES)):
        project = ProjectFile(folder)
        project.describe(entry_id, texts)
        if builder is not None:
            project.set_builder(entry_id, builder)
        try:
            project.save()
        except QuPathError:
            if not rest:
                raise
        else:
            return


def prepare(folder: ProjectFolder, classes: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    """Clear away what a killed run left, and add our classes to the project.

    Raises
    ------
    OutputError
        When the project is read-only.
    """
    sweep(folder)
    merge_classes(folder, classes)


def sweep(folder: ProjectFolder) -> None:
    """Remove half-written files of ours; only the one run that holds the lock may do so."""
    places = [folder.root, folder.classes.parent, *folder.root.glob("data/*")]
    ours = folder.manifest(0).parent
    places += [ours, *(one for one in ours.rglob("*") if one.is_dir())] if ours.is_dir() else []
    for place in places:
        remove_partials(place)
