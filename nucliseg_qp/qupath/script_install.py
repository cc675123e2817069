"""Our scripts into a project, with what they must know: the engine's place and the palettes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.palette.classes import available_palettes, load_palette
from nucliseg_qp.palette.exchange import palette_json
from nucliseg_qp.qupath.engine_place import write_engine
from nucliseg_qp.qupath.files import write_script
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.scripts import SCRIPT_NAMES, groovy_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.qupath.engine_place import System

__all__ = ["install_scripts"]


def install_scripts(
    project: Path,
    system: System,
    engine: dict[str, Any],
    palettes: Sequence[str] = (),
) -> list[Path]:
    """Put all scripts into a QuPath project, or renew them.

    A script that somebody changed is kept beside the new one as ``.backup``.

    Parameters
    ----------
    project : Path
        ``project.qpproj`` or its folder.
    system, engine
        From `local_engine` or `remote_engine`.
    palettes : sequence of str
        Files with palettes of one's own, besides those that ship.

    Returns
    -------
    list of Path
        The scripts.

    Raises
    ------
    QuPathError
        When there is no project, or it is broken.
    OutputError
        When it cannot be written to.
    UsageError
        When a palette is broken.
    """
    folder = ProjectFolder(project.parent if project.suffix == ".qpproj" else project)
    if ProjectFile(folder).is_new:
        raise QuPathError(
            f"{folder.root} holds no project.qpproj",
            "Make the project in QuPath first (File > Project > Create project).",
        )
    loaded = [load_palette(name) for name in (*available_palettes(), *palettes)]
    written = []
    for name in SCRIPT_NAMES:
        written.append(folder.script(name))
        write_script(written[-1], groovy_source(name))
    for palette in loaded:
        with whole_file(folder.palette(palette.name)) as partial:
            partial.write_bytes(orjson.dumps(palette_json(palette)))
    write_engine(folder.engine, system, engine)
    return written
