"""A project folder that QuPath opens by itself, written without QuPath and without Java.

The nuclei lie beside the project as GeoJSON; a script in the project imports them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.errors import InputError, OutputError, QuPathError
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.results import WrittenImage, analysed_area, load_part
from nucliseg_qp.qupath.scripts import IMPORT_NUCLEI, groovy_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.qupath.geojson import RGB
    from nucliseg_qp.qupath.held import EntryResult
    from nucliseg_qp.qupath.results import ImageResult

__all__ = [
    "HOW_TO_FINISH",
    "manifest_content",
    "merge_classes",
    "write_files",
    "write_manifest",
    "write_script",
]

SHARD = 50_000
"""Nuclei in one file: QuPath holds a whole file in memory while it reads it."""

HOW_TO_FINISH = """\
How to finish in QuPath (0.5.1 to 0.7)

1. File > Project > Open project: choose project.qpproj in this folder.
2. Open an image, then Automate > Project scripts > import_nuclei, and Run > Run; OK in its dialog.
   For all images at once tick that there, or take Run > Run for project.
3. Save (Ctrl+S).  What goes into all images is saved by itself.

Without a window, with full paths:

    QuPath script --save -p .../project.qpproj .../scripts/import_nuclei.groovy

To renew the nuclei after another run of nucliseg-qp, tick "Renew" in the dialog, or add -a replace
to the command.  Nuclei that you changed are kept.
"""

_TITLE = "Nuclei found by nucliseg-qp\n\n"


def write_files(
    root: Path,
    images: Sequence[ImageResult],
    classes: Sequence[tuple[str, RGB]],
    *,
    shard: int | None = None,
) -> list[WrittenImage]:
    """Create a project folder, or add images to one that exists.

    Images, classes, scripts and unknown fields that are there stay; an image that is there already
    is not added twice.

    Parameters
    ----------
    root : Path
        Folder of the project.
    images : sequence of ImageResult
        What to put into it.
    classes : sequence of (str, (int, int, int))
        Names and colours; a class the project has keeps the colour it has there.
    shard : int, optional
        Most nuclei in one file, 50,000 unless given.

    Returns
    -------
    list of WrittenImage
        In the order of ``images``; ``problem`` says why one was left out.

    Raises
    ------
    QuPathError
        When the folder holds a project that is broken or leads out of its folder.
    OutputError
        When the folder cannot be written to.
    """
    folder = ProjectFolder(root)
    project = ProjectFile(folder)
    make_folder(root)
    written: list[WrittenImage] = []
    try:
        # What came before an error stays in the list.
        written.extend(_write_image(project, image, classes, shard or SHARD) for image in images)
    finally:
        # Also after an error: a full disk takes a line about what is there more often than not.
        _finish(project, classes)
    return written


def _finish(project: ProjectFile, classes: Sequence[tuple[str, RGB]]) -> None:
    folder = project.folder
    merge_classes(folder, classes)
    write_script(folder.script(IMPORT_NUCLEI), groovy_source(IMPORT_NUCLEI))
    _write_readme(folder.readme)
    project.save()


def write_manifest(
    folder: ProjectFolder,
    entry_id: int,
    image: ImageResult,
    classes: Sequence[tuple[str, RGB]],
    files: Sequence[Path],
    nuclei: int,
) -> None:
    """Write what the import script must know about one image.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    content = manifest_content(image, image.image_path.name, classes, files, nuclei)
    with whole_file(folder.manifest(entry_id)) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def manifest_content(
    analysed: ImageResult | EntryResult,
    image: str,
    classes: Sequence[tuple[str, RGB]],
    files: Sequence[Path],
    nuclei: int,
) -> dict[str, Any]:
    """Give what the import script must know about one image, ready for JSON."""
    return {
        "program": f"nucliseg_qp {__version__}",
        "image": image,
        "width_px": analysed.width_px,
        "height_px": analysed.height_px,
        "mpp": analysed.mpp,
        "mpp_source": analysed.mpp_source,
        "files": [path.name for path in files],
        "nuclei": nuclei,
        "classes": [{"name": name, "color": list(rgb)} for name, rgb in classes],
        "provenance": dict(analysed.provenance),
    }


def merge_classes(folder: ProjectFolder, classes: Sequence[tuple[str, RGB]]) -> None:
    """Add classes to the project's list.

    Raises
    ------
    QuPathError
        When the list that is there is broken.
    OutputError
        When it cannot be written.
    """
    content = _read_classes(folder.classes)
    known = {item.get("name") for item in content["pathClasses"]}
    missing = [{"name": name, "color": _packed(rgb)} for name, rgb in classes if name not in known]
    if missing:
        content["pathClasses"] += missing
        with whole_file(folder.classes) as partial:
            partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _write_image(
    project: ProjectFile, image: ImageResult, classes: Sequence[tuple[str, RGB]], shard: int
) -> WrittenImage:
    path, count = image.image_path, 0

    def parts() -> Iterator[tuple[Nuclei, list[str]]]:
        nonlocal count
        for part in image.parts:
            nuclei, ids = load_part(part)
            count += len(nuclei)
            yield nuclei, ids

    try:
        entry = project.find(path, (image.width_px, image.height_px))
        entry_id = entry.id if entry else project.next_id
        target, areas = project.folder.nuclei(entry_id), [analysed_area(image)]
        files = write_geojson(target, parts(), classes, areas=areas, shard=shard)
    except (InputError, QuPathError) as error:
        return WrittenImage(path, problem=str(error))
    write_manifest(project.folder, entry_id, image, classes, files, count)
    if entry is None:
        project.add(path)
    project.describe(entry_id, image.provenance)
    return WrittenImage(path, str(entry_id), added=count, nuclei=count)


def _read_classes(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {"pathClasses": []}
    except (OSError, orjson.JSONDecodeError) as error:
        raise QuPathError(f"{path} cannot be read ({error})", "Mend or remove it.") from None
    listed = content.get("pathClasses") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise QuPathError(f"{path} is not a list of classes", "Mend or remove it.")
    return dict(content)


def _packed(rgb: RGB) -> int:
    """Pack a colour as Java does: opaque ARGB in a signed 32-bit number."""
    red, green, blue = rgb
    return (red << 16 | green << 8 | blue) - (1 << 24)


def write_script(path: Path, source: str) -> None:
    """Write a script into a project; one that somebody changed stays as ``.backup``.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    try:
        before = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror})", "Free it.") from None
    wanted = source.encode()
    if before == wanted:
        return
    if before is not None:
        with whole_file(path.with_name(path.name + ".backup")) as partial:
            partial.write_bytes(before)
    with whole_file(path) as partial:
        partial.write_bytes(wanted)


def _write_readme(path: Path) -> None:
    # Somebody else's README stays.
    if not path.exists():
        with whole_file(path) as partial:
            partial.write_text(_TITLE + HOW_TO_FINISH, encoding="utf-8")
