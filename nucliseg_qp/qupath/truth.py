"""What people annotated in QuPath, as nuclei with the areas in which they are complete.

Nuclei are detections, cells, points (of the points tool) and outlines of a class that nuclei have;
areas are the other outlines (see `truth_features`). QuPath's own data files need Java, so a project
is read through GeoJSON that the script ``export_annotated`` writes, inside QuPath or by a QuPath
started here.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError, QuPathError
from nucliseg_qp.outputs import make_folder
from nucliseg_qp.qupath.install import find_qupath
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.reading import read_geojson
from nucliseg_qp.qupath.scripts import groovy_source
from nucliseg_qp.qupath.truth_features import is_ignored, sort_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.qupath.entries import Entry
    from nucliseg_qp.qupath.install import QuPathInstall

    Polygon = tuple[NDArray[np.float64], ...]

__all__ = ["EXPORT_ANNOTATED", "QuPathTruth", "export_with_qupath", "read_project", "read_truth"]

EXPORT_ANNOTATED = "export_annotated.groovy"

_EXPORT_SECONDS = 3600
_HOW = (
    "In QuPath run the script that `nucliseg-qp data script` prints with 'Run for project', "
    "or install QuPath here"
)


@dataclass(frozen=True)
class QuPathTruth:
    """Nuclei of one image.

    Attributes
    ----------
    image : Path or None
        The image file, where the project knows it.
    file : Path
        The GeoJSON.
    points : NDArray[np.float64]
        (k, 2) in pixels of the full-resolution image.
    classes : tuple of str or None
        Name of the class of each nucleus.
    areas : tuple of Polygon or None
        Each as its outer ring and its holes, (m, 2); None when there is no annotation, and so
        the whole image counts.
    size_px : tuple of int or None
        Of the image, where the project knows it.
    notes : tuple of str
        What a person should know about the image.
    left_out : mapping of str to int
        Reason to number of the annotations that are neither nuclei nor areas.
    remarks : tuple of str
        What a person should know about the project; only the first image has it.
    """

    image: Path | None
    file: Path
    points: NDArray[np.float64]
    classes: tuple[str | None, ...]
    areas: tuple[Polygon, ...] | None
    size_px: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_truth(file: Path, area: str | None = None) -> QuPathTruth:
    """Read nuclei and areas of one image from GeoJSON.

    Parameters
    ----------
    file : Path
        As QuPath or this program writes it, gzipped or not.
    area : str, optional
        Only annotations with this name or class are areas in which all nuclei are annotated.

    Raises
    ------
    InputError
        When the file is broken, or has no such annotation.
    """
    read = read_geojson(file)
    nuclei = read.nuclei
    names = [nuclei.class_names[i] if i >= 0 else None for i in nuclei.class_index.tolist()]
    places = zip(nuclei.x.tolist(), nuclei.y.tolist(), strict=True)
    found = sort_features(file, read.annotations, list(zip(places, names, strict=True)), area)
    if area is not None and not found.areas:
        raise InputError(f"{file} has no annotation named or classed '{area}'", "Check --areas")
    kept = [(xy, name) for xy, name in found.marks if not is_ignored(name)]
    ignored = len(found.marks) - len(kept)
    return QuPathTruth(
        None,
        file,
        np.array([xy for xy, _ in kept], np.float64).reshape(-1, 2),
        tuple(name for _, name in kept),
        tuple(found.areas) if found.areas else None,
        notes=(f"{ignored} nuclei of a class that ends in * left out",) if ignored else (),
        left_out=found.left_out,
    )


def read_project(root: Path, area: str | None = None) -> Iterator[QuPathTruth]:
    """Read the nuclei of every image of a project for which there is an export.

    The export lies in ``nucliseg/annotated/<entry id>.geojson`` in the project's folder. When
    none is there and QuPath is installed, QuPath makes it.

    Raises
    ------
    QuPathError
        When the project is broken, or nothing was exported and there is no QuPath to do it.
    InputError
        When an export is broken or its image missing.
    """
    folder = ProjectFolder(root)
    project = ProjectFile(folder)
    if project.is_new:
        raise QuPathError(f"there is no project {folder.project}", "Check the path")
    exports = root / "nucliseg" / "annotated"
    if not any(exports.glob("*.geojson")):
        export_with_qupath(root, exports)
    yield from _of_entries(folder, project.entries, exports, area)


def _of_entries(
    folder: ProjectFolder, entries: Sequence[Entry], exports: Path, area: str | None
) -> Iterator[QuPathTruth]:
    files = {entry.id: exports / f"{entry.id}.geojson" for entry in entries}
    there = [entry for entry in entries if files[entry.id].is_file()]
    if not there:
        raise QuPathError(f"{exports} has no export of an image of the project", _HOW)
    remarks = tuple(f"{entry.name} has no export" for entry in entries if entry not in there)
    for entry in there:
        yield replace(_of_entry(folder, entry, files[entry.id], area), remarks=remarks)
        remarks = ()


def _of_entry(folder: ProjectFolder, entry: Entry, file: Path, area: str | None) -> QuPathTruth:
    truth = read_truth(file, area)
    image = entry.path
    if image is None:
        raise QuPathError(
            f"{entry.name} is not an image file as it is, but a crop or rotation of one",
            "Remove its export, or add the file itself to the project",
        )
    notes = truth.notes
    data = folder.data(entry.id) / "data.qpdata"
    if data.is_file() and data.stat().st_mtime > file.stat().st_mtime + 1:
        notes = (*notes, "the image was saved in QuPath after it was exported: export it again")
    return replace(truth, image=image, size_px=entry.size_px, notes=notes)


def export_with_qupath(root: Path, exports: Path) -> None:
    """Let QuPath write the export of every image of a project; nothing in the project is saved.

    Raises
    ------
    QuPathError
        When there is no QuPath, or it did not write anything.
    """
    install = find_qupath()
    program = None if install is None else _program(install)
    if program is None:
        raise QuPathError(f"{root} has no exported nuclei, and there is no QuPath here", _HOW)
    script = make_folder(exports) / EXPORT_ANNOTATED
    script.write_text(groovy_source(EXPORT_ANNOTATED), encoding="utf-8")
    command = [str(program), "script", "-p", str(root / "project.qpproj"), str(script)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_EXPORT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QuPathError(f"QuPath could not export {root} ({error})", _HOW) from None
    finally:
        script.unlink(missing_ok=True)
    # QuPath exits with 0 whatever happens in a script, so what counts is what it wrote.
    if not any(exports.glob("*.geojson")):
        log = done.stdout.decode(errors="replace")[-300:]
        raise QuPathError(f"QuPath exported nothing from {root} ({log})", _HOW)


def _program(install: QuPathInstall) -> Path | None:
    folder = install.folder
    places: Sequence[Path] = (
        folder / "bin" / "QuPath",
        folder / "Contents" / "MacOS" / "QuPath",
        *sorted(folder.glob("*(console).exe")),
    )
    return next((path for path in places if path.is_file()), None)
