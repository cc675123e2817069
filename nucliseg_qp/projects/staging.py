"""Results that wait beside a project because somebody saved the image meanwhile."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.qupath.held import EntryResult
from nucliseg_qp.qupath.reading import read_geojson
from nucliseg_qp.qupath.results import Area, load_part, save_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.qupath.reading import Detections

__all__ = ["is_staged", "stage", "staged_result", "unstage"]

_NOTE = """\
Somebody saved this image in QuPath while nucliseg-qp analysed it, so its nuclei were not written:
their work is untouched.  To put the nuclei in beside it:

    nucliseg-qp annotate PROJECT.qpproj --apply-staged

Or drag nuclei.geojson.gz onto the image in QuPath.
"""


def stage(folder: Path, result: EntryResult) -> None:
    """Write a result as GeoJSON with a note.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    make_folder(folder)

    def parts() -> Iterator[tuple[Nuclei, list[str]]]:
        for path in result.parts:
            yield load_part(path)

    areas = [Area(one.id, one.name, one.geometry) for one in result.parents]
    write_geojson(folder / "nuclei.geojson.gz", parts(), result.classes, areas=areas)
    with whole_file(folder / "NOTE.txt") as partial:
        partial.write_text(_NOTE, encoding="utf-8")
    # Last: a folder with it is whole.
    with whole_file(folder / "result.json") as partial:
        partial.write_bytes(orjson.dumps(replace(result, parts=(), state=None).to_json()))


def staged_result(folder: Path, work: Path) -> EntryResult | None:
    """Give a staged result with its nuclei in ``work``; None when there is none.

    Raises
    ------
    InputError
        When it is damaged.
    OutputError
        When ``work`` cannot be written to.
    """
    if not (folder / "result.json").is_file():
        return None
    result, found = _read(folder)
    part = work / "staged.npz"
    save_part(part, found.nuclei, found.ids)
    return replace(result, parts=(part,))


def is_staged(folder: Path) -> bool:
    """Tell whether a staged result is there and can be read."""
    try:
        _read(folder)
    except InputError:
        return False
    return True


def _read(folder: Path) -> tuple[EntryResult, Detections]:
    about = folder / "result.json"
    try:
        result = EntryResult.from_json(orjson.loads(about.read_bytes()))
        return result, read_geojson(folder / "nuclei.geojson.gz")
    except InputError as error:
        seen = error.message
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        seen = f"{about} is damaged ({error})"
    raise InputError(seen, "Run annotate without --apply-staged: it analyses the image again.")


def unstage(folder: Path) -> None:
    """Remove a staged result."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
