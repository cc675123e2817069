"""Other classes for a whole project from stored measurements: no detection, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from nucliseg_qp.errors import NucliSegError, UsageError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.palette.exchange import palette_json
from nucliseg_qp.projects.notes import note_entry, prepare
from nucliseg_qp.projects.selection import Selection, choose_entries, open_project
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.worker import QuPathWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nucliseg_qp.palette.classes import Palette

__all__ = ["Applied", "apply_palette"]


@dataclass(frozen=True)
class Applied:
    """What became of one image.

    Parameters
    ----------
    image : str
        Its name.
    given, changed, kept : int
        Nuclei that got a class, those of them that have another one now, and those that stayed
        because a person decided about them or because they have no measurements.
    problem : str
        Why the image was left as it was; empty when all is well.
    exit_code : int
        That belongs to the problem.
    """

    image: str
    given: int = 0
    changed: int = 0
    kept: int = 0
    problem: str = ""
    exit_code: int = 0


def apply_palette(
    root: Path,
    palette: Palette,
    images: Sequence[str] = (),
    advance: Callable[[str, int], None] | None = None,
) -> list[Applied]:
    """Give the nuclei of a project the classes of a palette; what people decided stays.

    Parameters
    ----------
    root : Path
        Folder of the project.
    palette : Palette
        From `load_palette`.
    images : sequence of str
        Only these; see `Selection`.
    advance : callable, optional
        Told each image and the number of its nuclei.

    Raises
    ------
    QuPathError
        When the project cannot be read, another run works on it, or there is no QuPath.
    OutputError
        When it cannot be written to.
    UsageError
        When the palette's name cannot be that of a file.
    """
    folder = ProjectFolder(root)
    entries = choose_entries(open_project(root), Selection(tuple(images)))
    if any(mark in palette.name for mark in "/\\:") or palette.name.startswith("."):
        raise UsageError(f"{palette.name!r} is no name for a palette", "Rename its file.")
    with locked(folder.run_lock):
        prepare(folder, [(one.name, one.color_rgb) for one in palette.classes])
        with whole_file(folder.palette(palette.name)) as partial:
            partial.write_bytes(orjson.dumps(palette_json(palette)))
        done = []
        with QuPathWorker(root) as worker:
            for entry in entries:
                done.append(_one(worker, folder, entry.id, entry.name, palette.name))
                if advance is not None:
                    advance(entry.name, done[-1].given + done[-1].kept)
    return done


def _one(
    worker: QuPathWorker, folder: ProjectFolder, entry_id: int, name: str, palette: str
) -> Applied:
    try:
        counts = worker.reclassify(entry_id, palette)
        if counts["given"]:
            note_entry(folder, entry_id, {"NucliSeg palette": palette})
    except NucliSegError as error:
        return Applied(name, problem=str(error), exit_code=error.exit_code)
    return Applied(name, counts["given"], counts["changed"], counts["kept"])
